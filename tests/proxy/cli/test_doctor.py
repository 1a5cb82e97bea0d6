from __future__ import annotations

import socket

import pytest

from tests.commands import Commands


@pytest.fixture
def ec(tmp_path):
    return Commands(tmp_path / "data")


def found(ran) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in ran.rows}


@pytest.fixture
def config(tmp_path):
    """Settings whose backend and port are on this machine; yields the file."""
    with socket.create_server(("127.0.0.1", 0)) as backend:
        path = tmp_path / "endcredits.toml"
        path.write_text(
            f'[server]\nport = 0\n[[backends]]\nname = "here"\nurl = "http://127.0.0.1:{backend.getsockname()[1]}/v1"\n'
        )
        yield path


def test_a_fresh_folder_is_fine_and_nothing_is_made_by_looking(ec, config):
    ran = ec.json("doctor", "--config", config)
    assert ran.status == 0, ran.out
    assert all(row["ok"] for row in ran.rows)
    assert not ec.data.exists()


def test_every_part_that_is_there_is_looked_at(ec, config):
    ec("creators", "add", "Ada", "--ref", "ada")
    ec("index", "build")
    rows = found(ec.json("doctor", "--config", config))
    assert "sqlite" in rows["store"]["fact"]
    assert "0 works" in rows["index"]["fact"]
    assert "endcredits/1" in rows["scorer"]["fact"]


def test_a_damaged_index_is_told_with_the_command_that_mends_it(ec, config):
    ec("index", "build")
    (folder,) = [path for path in (ec.data / "index").iterdir() if path.is_dir()]
    victim = max(
        (path for path in folder.iterdir() if path.name != "manifest.json"),
        key=lambda path: path.stat().st_size,
    )
    victim.write_bytes(victim.read_bytes()[:-1] + b"\xff")
    ran = ec.json("doctor", "--config", config)
    assert ran.status == 1
    assert found(ran)["index"]["ok"] is False
    assert "index build" in found(ran)["index"]["remedy"]


def test_shards_that_were_kept_aside_as_damaged_are_told_with_their_place(ec, config):
    for name in ("shard-00", "damaged-shard-00-1"):
        (ec.data / "journal" / name).mkdir(parents=True, mode=0o700)
    ec.data.chmod(0o700)
    fact = found(ec.json("doctor", "--config", config))["journal"]["fact"]
    assert fact == f"1 shards, 0 segments; 1 kept aside as damaged, in {ec.data / 'journal'}"


def test_a_backend_that_is_away_and_a_folder_others_can_read_are_told(ec):
    ec("keys", "list")
    ec.data.chmod(0o755)
    ran = ec.json("doctor", "--config", _away(ec.data.parent))
    rows = found(ran)
    assert ran.status == 1
    assert rows["backends"]["ok"] is False
    assert "chmod 700" in rows["data folder"]["remedy"]


def _away(folder):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    path = folder / "away.toml"
    path.write_text(f'[[backends]]\nurl = "http://127.0.0.1:{port}/v1"\n')
    return path


def test_settings_that_cannot_be_read_are_the_only_finding(ec, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[server\n")
    ran = ec("doctor", "--config", path)
    assert ran.status == 1
    assert ran.out.startswith("FAILED settings")


def test_a_wrong_store_version_is_told(ec, config):
    import sqlite3

    ec("keys", "list")
    with sqlite3.connect(ec.data / "endcredits.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001_registry'")
    connection.close()
    rows = found(ec.json("doctor", "--config", config))
    assert rows["store"]["ok"] is False
    assert "0001_registry" in rows["store"]["fact"]
