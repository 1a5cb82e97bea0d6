"""What the scorer works on, seen by the worker without a word between them."""

from __future__ import annotations

import errno
import gc
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.desk import NAME_BYTES_MAX, Desk, OwnDesk

NAMES = st.text("rct_0123456789/end", min_size=1, max_size=NAME_BYTES_MAX)


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_the_worker_sees_each_turn_while_it_lasts_and_that_it_is_over(names: list[str]):
    mine = OwnDesk()
    theirs = Desk(mine.path)
    assert mine.look() == (0, "")
    for turns, name in enumerate(names, start=1):
        theirs.begin(name)
        assert mine.look() == (turns, name)
        theirs.end()
        assert mine.look() == (turns, "")
    mine.close()


@given(st.text(min_size=1))
def test_a_name_longer_than_a_desk_overruns_nothing(name: str):
    mine = OwnDesk()
    theirs = Desk(mine.path)
    theirs.begin(name)
    turns, seen = mine.look()
    assert turns == 1
    assert name.encode().startswith(seen.rstrip("\ufffd").encode())
    mine.close()


def test_only_a_turn_that_was_under_way_before_and_still_is_is_stuck():
    mine = OwnDesk()
    theirs = Desk(mine.path)
    theirs.begin("rct_1")
    assert not mine.is_stuck()
    theirs.begin("rct_1")
    assert not mine.is_stuck()
    assert mine.is_stuck()
    theirs.end()
    assert not mine.is_stuck()


def test_the_suspect_of_a_scorer_that_died_is_told_once():
    mine = OwnDesk()
    Desk(mine.path).begin("rct_1")
    assert [mine.clear(), mine.clear()] == ["rct_1", ""]


def test_the_file_is_for_this_user_alone_and_goes_with_its_maker():
    mine = OwnDesk()
    assert Path(mine.path).stat().st_mode & 0o077 == 0
    mine.close()
    assert not Path(mine.path).exists()
    with pytest.raises(FileNotFoundError):
        Desk(mine.path)


def test_the_file_of_a_worker_that_never_began_goes_too():
    mine = OwnDesk()
    path = Path(mine.path)
    del mine
    gc.collect()
    assert not path.exists()


class FullDisk(io.FileIO):
    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on the device")


@pytest.mark.parametrize("room", ["no folder", "no space"])
def test_where_no_file_can_be_a_worker_serves_and_knows_of_no_turn(room: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere" if room == "no folder" else tmp_path))
    if room == "no space":
        monkeypatch.setattr("proxy.relay.desk.open", lambda made, _: FullDisk(made), raising=False)
    mine = OwnDesk()
    assert mine.path == ""
    assert (mine.look(), mine.is_stuck(), mine.clear()) == ((0, ""), False, "")
    mine.close()
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_no_desk(tmp_path: Path):
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(ValueError, match="mmap"):
        Desk(str(tmp_path / "short"))
