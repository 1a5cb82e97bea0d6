import pytest

from proxy.errors import SettingsError
from proxy.keyfile import secret_file


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "digest.key"
    secret = secret_file(path)
    assert len(secret) == 32
    assert secret_file(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_secret_is_refused_and_not_replaced(tmp_path):
    path = tmp_path / "digest.key"
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match="damaged"):
        secret_file(path)
    assert path.read_bytes() == b"short"
