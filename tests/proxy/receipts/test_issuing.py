import errno
import os
import stat

import pytest

from proxy.clock import parse_time_us
from proxy.errors import NotFound, SettingsError
from proxy.receipts.issuing import KEYS_DIR, SECRETS_DIR, Issuer
from proxy.receipts.signing import rotate
from proxy.receipts.verify import Keys, canonical, open_jws
from tests.fakes import FrozenClock
from tests.proxy.receipts.making import ORIGIN, answer


def test_a_receipt_opens_with_the_keys_that_are_published(tmp_path):
    issuer = Issuer(tmp_path, ORIGIN, FrozenClock())
    keys = Keys.parse(canonical(issuer.about()))
    assert keys.origin == ORIGIN
    assert b'"rid":"rct_' in open_jws(issuer.receipt(answer()), keys.kids)
    assert issuer.receipt(answer()) == Issuer(tmp_path, ORIGIN, FrozenClock()).receipt(answer())


def test_a_rotation_signs_within_a_second_and_what_was_signed_stays_valid(tmp_path):
    clock = FrozenClock()
    issuer = Issuer(tmp_path, ORIGIN, clock)
    before = issuer.receipt(answer())
    clock.advance(0.5)
    new = rotate(tmp_path / KEYS_DIR, clock.now_us(), 60_000_000)
    clock.advance(1.0)
    assert issuer.signer.kid == new.kid
    kids = Keys.parse(canonical(issuer.about())).kids
    assert open_jws(before, kids) == open_jws(issuer.receipt(answer()), kids)
    assert len(issuer.signer.verifier_keys) == 2
    clock.advance(61.0)
    assert len(issuer.signer.verifier_keys) == 1
    assert len(issuer.about()["keys"]) == 2


def test_each_month_has_its_own_secret_that_only_the_owner_reads(tmp_path):
    issuer = Issuer(tmp_path, ORIGIN, FrozenClock())
    salts = {
        issuer.secrets_of(parse_time_us(when)).salt("rct_a", 0)
        for when in ("2026-11-01T00:00:00Z", "2026-11-30T23:59:59.999999Z", "2026-12-01T00:00:00Z")
    }
    assert len(salts) == 2
    files = sorted((tmp_path / SECRETS_DIR).iterdir())
    assert {"2026-11.key", "2026-12.key"} <= {path.name for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / SECRETS_DIR).stat().st_mode) == 0o700


def test_a_months_secret_is_there_before_its_first_answer(tmp_path):
    clock = FrozenClock(parse_time_us("2026-11-30T23:59:59Z"))
    issuer = Issuer(tmp_path, ORIGIN, clock)
    files = [path.name for path in sorted((tmp_path / SECRETS_DIR).iterdir())]
    assert files == ["2026-11.key", "2026-12.key"]
    clock.advance(2.0)
    assert issuer.signer.kid
    assert (tmp_path / SECRETS_DIR / "2027-01.key").exists()


def test_a_disk_without_room_for_it_stops_no_start(tmp_path, monkeypatch):
    Issuer(tmp_path, ORIGIN, FrozenClock(parse_time_us("2026-11-01T00:00:00Z")))
    clock = FrozenClock(parse_time_us("2026-12-01T00:00:00Z"))

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    issuer = Issuer(tmp_path, ORIGIN, clock)
    assert issuer.secrets_of(clock.now_us())
    with pytest.raises(OSError, match="no space"):
        issuer.secrets_of(clock.now_us() + 40 * 86_400_000_000)


def test_a_destroyed_secret_is_not_made_again_for_who_asks_what_it_showed(tmp_path):
    issuer = Issuer(tmp_path, ORIGIN, FrozenClock())
    when = answer().occurred_us
    secret = issuer.secrets_of(when)
    assert issuer.kept_secrets_of(when).nonce("rct_a") == secret.nonce("rct_a")
    for path in (tmp_path / SECRETS_DIR).iterdir():
        path.unlink()
    with pytest.raises(NotFound) as caught:
        issuer.kept_secrets_of(when)
    assert caught.value.code == "secret_destroyed"
    assert list((tmp_path / SECRETS_DIR).iterdir()) == []


def test_who_serves_goes_on_signing_when_a_key_file_is_damaged_and_who_starts_is_told(tmp_path):
    clock = FrozenClock()
    issuer = Issuer(tmp_path, ORIGIN, clock)
    kid = issuer.signer.kid
    (key,) = (tmp_path / KEYS_DIR).iterdir()
    kept = key.read_bytes()
    key.write_bytes(b"{")
    clock.advance(2.0)
    assert issuer.signer.kid == kid
    assert [one["kid"] for one in issuer.about()["keys"]] == [kid]
    with pytest.raises(SettingsError, match="damaged"):
        Issuer(tmp_path, ORIGIN, clock)
    key.write_bytes(kept)
    new = rotate(tmp_path / KEYS_DIR, clock.now_us(), 60_000_000)
    clock.advance(2.0)
    assert [one["kid"] for one in issuer.about()["keys"]] == [kid, new.kid]
