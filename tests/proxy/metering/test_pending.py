import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Unavailable
from proxy.metering.pending import PendingText, PendingTexts

TEXT = "Es war einmal ein König, der hatte eine Tochter."


@pytest.fixture
def opened(tmp_path):
    return lambda: PendingTexts(tmp_path / "pending", tmp_path / "pending-keys")


def test_a_text_outlives_the_process_and_goes_when_erased(opened, tmp_path):
    texts = opened()
    texts.put("rct_1", TEXT, "context")
    texts.put("rct_2", "")
    again = opened()
    loaded = list(again.load_all())
    since = [(tmp_path / "pending" / f"{one.id}.text").stat().st_mtime_ns // 1_000 for one in loaded]
    assert loaded == [
        PendingText("rct_1", TEXT, "context", since[0]),
        PendingText("rct_2", "", "", since[1]),
    ]
    again.erase("rct_1")
    again.erase("rct_1")
    assert [text.id for text in opened().load_all()] == ["rct_2"]


@given(st.text(alphabet=st.characters()), st.text())
def test_every_text_comes_back_as_it_was_even_with_half_a_surrogate_pair(tmp_path_factory, text, context):
    folder = tmp_path_factory.mktemp("pending")
    PendingTexts(folder / "a", folder / "b").put("rct_1", text + "\ud800", context)
    (found,) = PendingTexts(folder / "a", folder / "b").load_all()
    assert (found.text, found.context) == (text + "\ud800", context)


def test_nothing_on_disk_shows_the_text_and_both_folders_are_the_owners_alone(opened, tmp_path):
    opened().put("rct_1", TEXT)
    for path in tmp_path.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600)
        if path.is_file():
            assert b"einmal" not in path.read_bytes()


def test_each_text_has_a_key_of_its_own(opened, tmp_path):
    texts = opened()
    texts.put("rct_1", TEXT)
    texts.put("rct_2", TEXT)
    keys = {path.read_bytes() for path in (tmp_path / "pending-keys").iterdir()}
    sealed = {path.read_bytes() for path in (tmp_path / "pending").iterdir()}
    assert len(keys) == len(sealed) == 2


def test_a_text_without_its_key_is_gone_for_ever(opened, tmp_path):
    opened().put("rct_1", TEXT)
    (tmp_path / "pending-keys" / "rct_1").unlink()
    again = opened()
    assert (list(again.load_all()), again.total_bytes, len(again)) == ([], 0, 0)
    assert list((tmp_path / "pending").iterdir()) == []


def test_a_key_without_its_text_is_removed(opened, tmp_path):
    opened().put("rct_1", TEXT)
    (tmp_path / "pending" / "rct_1.text").unlink()
    opened()
    assert list((tmp_path / "pending-keys").iterdir()) == []


def test_a_damaged_or_exchanged_text_is_erased_and_the_others_are_loaded(opened, tmp_path):
    texts = opened()
    for number in range(3):
        texts.put(f"rct_{number}", f"{TEXT} {number}")
    path = tmp_path / "pending" / "rct_0.text"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    (tmp_path / "pending" / "rct_1.text").write_bytes((tmp_path / "pending" / "rct_2.text").read_bytes())
    again = opened()
    assert [text.id for text in again.load_all()] == ["rct_2"]
    assert len(again) == 1


def test_texts_put_since_opening_are_not_taken_for_a_former_process_s(opened):
    opened().put("rct_1", TEXT)
    texts = opened()
    texts.put("rct_2", TEXT)
    assert [text.id for text in texts.load_all()] == ["rct_1"]


def test_the_bytes_that_wait_are_counted(opened):
    texts = opened()
    texts.put("rct_1", "a" * 1000)
    assert 1000 < texts.total_bytes < 1100
    assert opened().total_bytes == texts.total_bytes
    texts.erase("rct_1")
    assert texts.total_bytes == 0


def test_an_id_that_would_leave_the_folder_is_refused(opened):
    for bad in ("", "../x", ".hidden", "a/b"):
        with pytest.raises(ValueError, match="id"):
            opened().put(bad, TEXT)


def test_a_disk_that_refuses_is_an_error_and_leaves_nothing_behind(opened, tmp_path):
    texts = opened()
    (tmp_path / "pending" / "rct_1.text").mkdir()  # in the way of the text, behind its key
    with pytest.raises((Unavailable, OSError)):
        texts.put("rct_1", TEXT)
    assert not (tmp_path / "pending-keys" / "rct_1").exists()
