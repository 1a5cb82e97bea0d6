import pytest

from proxy.billing.invariants import INVARIANTS
from proxy.database import open_engine
from proxy.portal import auditor
from proxy.portal.auditor import Audited
from proxy.settings import Settings
from tests.fakes import FrozenClock
from tests.stores import lay


@pytest.fixture
def settings(tmp_path):
    made = Settings(data_dir=tmp_path)
    lay(made.store_url)
    return made


def test_what_an_audit_finds_is_kept_for_every_worker(settings):
    assert auditor.last(settings.data_dir) is None
    made = auditor.run(settings, FrozenClock(7))
    assert auditor.last(settings.data_dir) == made
    assert ([one.id for one in made.items], made.is_sound, made.ended_us) == (list(INVARIANTS), True, 7)
    assert (settings.data_dir / auditor.RESULT).stat().st_mode & 0o777 == 0o600


def test_books_that_are_broken_are_not_sound(settings):
    engine = open_engine(settings.store_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER entry_no_update")
    engine.dispose()
    assert not auditor.run(settings, FrozenClock()).is_sound


def test_a_store_that_is_away_is_what_it_found(tmp_path):
    made = auditor.run(Settings(data_dir=tmp_path), FrozenClock())  # no table is there
    assert (made.items, made.is_sound) == ((), False)
    assert "went away" in made.problem


def test_who_holds_the_lock_audits(settings):
    assert not auditor.is_running(settings.data_dir)
    with auditor._alone(settings.data_dir):
        assert auditor.is_running(settings.data_dir)
    assert not auditor.is_running(settings.data_dir)


def test_what_is_no_result_is_none(tmp_path):
    (tmp_path / auditor.RESULT).write_text("half a res")
    assert auditor.last(tmp_path) is None
    auditor.keep(tmp_path, Audited(began_us=1, ended_us=2))
    assert auditor.last(tmp_path) == Audited(began_us=1, ended_us=2)
