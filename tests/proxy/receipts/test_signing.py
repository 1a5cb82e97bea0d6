import stat

import pytest

from proxy.errors import SettingsError
from proxy.receipts.signing import KEYS_MAX, Signer, SigningKey, open_keys, read_keys, rotate
from proxy.receipts.verify import open_jws

DAY_US = 86_400_000_000


def test_the_first_key_is_made_once_and_only_its_owner_reads_it(tmp_path):
    folder = tmp_path / "signing"
    [key] = open_keys(folder, 5)
    assert open_keys(folder, 9) == [key] == read_keys(folder)
    [path] = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_new_key_signs_at_once_and_the_old_one_ends_after_the_overlap(tmp_path):
    [old] = open_keys(tmp_path, 0)
    new = rotate(tmp_path, 10, DAY_US)
    keys = read_keys(tmp_path)
    assert [key.kid for key in keys] == [old.kid, new.kid]
    assert [key.until_us for key in keys] == [10 + DAY_US, 0]
    during, after = Signer("log", keys, 11), Signer("log", keys, 10 + DAY_US)
    assert during.kid == after.kid == new.kid
    assert len(during.verifier_keys) == 2
    assert len(after.verifier_keys) == 1
    token = Signer("log", [old], 1).jws(b"{}")
    assert open_jws(token, {key.kid: key.public for key in keys}) == b"{}"


def test_an_end_that_is_nearer_is_kept(tmp_path):
    open_keys(tmp_path, 0)
    rotate(tmp_path, 10, 100)
    rotate(tmp_path, 20, DAY_US)
    assert [key.until_us for key in read_keys(tmp_path)] == [110, 20 + DAY_US, 0]


def test_without_a_key_in_force_nothing_is_signed():
    with pytest.raises(SettingsError, match="no signing key"):
        Signer("log", [SigningKey(bytes(32), 5, 9)], 9)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"seed":"AAAA","from_us":1}', b"\xff", b'{"seed":"AAAA","from_us":1,"x":1}']
)
def test_a_damaged_key_is_named_and_nothing_is_made_in_its_place(tmp_path, content):
    [key] = open_keys(tmp_path, 0)
    path = tmp_path / f"{key.kid}.key"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="is damaged"):
        open_keys(tmp_path, 0)
    assert path.read_bytes() == content


def test_a_key_under_anothers_name_is_damaged(tmp_path):
    [key] = open_keys(tmp_path, 0)
    (tmp_path / f"{key.kid}.key").rename(tmp_path / "0000000000000000.key")
    with pytest.raises(SettingsError, match="is damaged"):
        read_keys(tmp_path)


def test_keys_do_not_pile_up_without_end(tmp_path):
    open_keys(tmp_path, 0)
    for number in range(KEYS_MAX - 1):
        rotate(tmp_path, number + 1, 1)
    with pytest.raises(SettingsError, match="signing keys"):
        rotate(tmp_path, 999, 1)


def test_a_key_is_never_printed():
    assert "seed" not in repr(SigningKey(b"s" * 32, 1))
    assert "ssss" not in repr(SigningKey(b"s" * 32, 1))
