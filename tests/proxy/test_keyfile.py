import errno
import os
from concurrent.futures import ThreadPoolExecutor

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


def test_whoever_makes_it_at_once_is_given_the_same(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(secret_file, [tmp_path / "digest.key"] * 64))
    assert len(set(made)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["digest.key"]


def test_a_full_disk_leaves_nothing_that_would_be_taken_for_a_damaged_one(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        secret_file(tmp_path / "digest.key")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(secret_file(tmp_path / "digest.key")) == 32


def test_where_a_folder_knows_no_links_a_secret_is_made_all_the_same(tmp_path, monkeypatch):
    def no_links(_here, _there):
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", no_links)
    assert secret_file(tmp_path / "digest.key") == secret_file(tmp_path / "digest.key")
    assert [path.name for path in tmp_path.iterdir()] == ["digest.key"]
