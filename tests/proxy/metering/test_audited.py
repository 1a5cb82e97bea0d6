import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Unavailable
from proxy.metering.audited import DAY_S, FOLDER, KEYS, AuditedExchanges, Exchange, Message

NOW_S = 4_000_000_000.0  # later than any file of a test is made
SECRET = "Nobody else may read that the heron came back"


def exchange(name="rct_1", text=SECRET):
    return Exchange(name, "small-1", (Message("system", "Be brief."), Message("user", text)), text)


@pytest.fixture
def kept(tmp_path):
    return AuditedExchanges(tmp_path, exchanges_max=3, days=100_000)


def names(kept, app="app_1"):
    return [one.id for one in kept.read(app, NOW_S)]


def test_nothing_is_kept_of_an_app_that_was_not_opted_in(kept, tmp_path):
    assert not kept.put("app_1", exchange(), NOW_S)
    assert list(tmp_path.iterdir()) == []
    assert names(kept) == []


def test_an_opted_in_apps_exchange_comes_back_whole_and_lies_sealed(kept, tmp_path):
    kept.opt_in("app_1")
    assert kept.put("app_1", exchange(), NOW_S)
    assert list(kept.read("app_1", NOW_S)) == [exchange()]
    assert kept.count("app_1") == 1
    for path in tmp_path.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600)
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


@given(st.text(alphabet=st.characters()))
def test_every_text_comes_back_as_it_was_even_with_half_a_surrogate_pair(tmp_path_factory, text):
    kept = AuditedExchanges(tmp_path_factory.mktemp("audit"), exchanges_max=3, days=100_000)
    kept.opt_in("app_1")
    kept.put("app_1", exchange(text=text + "\ud800"), NOW_S)
    assert list(kept.read("app_1", NOW_S)) == [exchange(text=text + "\ud800")]


def test_opting_out_erases_the_key_and_the_texts_and_a_late_worker_keeps_nothing(kept, tmp_path):
    kept.opt_in("app_1")
    kept.put("app_1", exchange(), NOW_S)
    assert kept.opt_out("app_1") == 1
    assert list((tmp_path / KEYS).iterdir()) == list((tmp_path / FOLDER).iterdir()) == []
    assert not kept.put("app_1", exchange("rct_2"), NOW_S)
    assert kept.opt_out("app_1") == 0
    kept.opt_in("app_1")
    assert names(kept) == []


def test_opting_in_again_loses_nothing(kept):
    kept.opt_in("app_1")
    kept.put("app_1", exchange(), NOW_S)
    kept.opt_in("app_1")
    assert names(kept) == ["rct_1"]


def test_one_apps_exchanges_are_not_anothers(kept):
    kept.opt_in("app_1")
    kept.opt_in("app_2")
    kept.put("app_1", exchange(), NOW_S)
    assert names(kept, "app_2") == []


def test_beyond_the_most_the_oldest_go(kept):
    kept.opt_in("app_1")
    for number in range(5):
        assert kept.put("app_1", exchange(f"rct_{number}"), NOW_S)
    assert kept.count("app_1") == 3


def test_what_is_too_old_goes_whether_or_not_anything_comes(tmp_path):
    kept = AuditedExchanges(tmp_path, exchanges_max=3, days=2)
    kept.opt_in("app_1")
    kept.put("app_1", exchange(), 0.0)
    made_s = next((tmp_path / FOLDER / "app_1").iterdir()).stat().st_mtime
    kept.sweep(made_s + 2 * DAY_S - 1)
    assert kept.count("app_1") == 1
    kept.sweep(made_s + 2 * DAY_S + 1)
    assert kept.count("app_1") == 0


def test_texts_without_their_key_are_swept_away(kept, tmp_path):
    kept.opt_in("app_1")
    kept.put("app_1", exchange(), NOW_S)
    (tmp_path / KEYS / "app_1").unlink()
    kept.sweep(0.0)
    assert list((tmp_path / FOLDER).iterdir()) == []
    AuditedExchanges(tmp_path / "nowhere", exchanges_max=1, days=1).sweep(0.0)


def test_a_damaged_exchange_is_passed_over(kept, tmp_path):
    kept.opt_in("app_1")
    kept.put("app_1", exchange("rct_1"), NOW_S)
    kept.put("app_1", exchange("rct_2"), NOW_S)
    path = next(path for path in (tmp_path / FOLDER / "app_1").iterdir() if path.stem == "rct_1")
    path.write_bytes(path.read_bytes()[:-1])
    assert names(kept) == ["rct_2"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".", "x" * 81])
def test_a_name_leads_nowhere_else(kept, name):
    with pytest.raises(ValueError, match="not an id"):
        kept.opt_in(name)


def test_no_place_for_exchanges_is_said(tmp_path):
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(Unavailable):
        AuditedExchanges(tmp_path, exchanges_max=1, days=1).opt_in("app_1")
