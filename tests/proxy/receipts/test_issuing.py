import stat

from proxy.clock import parse_time_us
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
    assert [path.name for path in files] == ["2026-11.key", "2026-12.key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / SECRETS_DIR).stat().st_mode) == 0o700
