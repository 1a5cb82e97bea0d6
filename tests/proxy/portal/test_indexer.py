"""A build for a page does what the command does, says how far it is, and what came of it."""

from __future__ import annotations

import json

import pytest

from proxy.catalogue import indexing, shelf_store
from proxy.catalogue.ownership import Held
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import NewWork
from proxy.clock import RandomIds, SystemClock
from proxy.database import open_engine
from proxy.errors import Unavailable
from proxy.portal.indexer import RESULT, Built, keep, last, run
from proxy.settings import Settings
from tests.proxy.catalogue.test_indexing import TextFileBuilder
from tests.stores import lay


@pytest.fixture
def settings(tmp_path):
    made = Settings(data_dir=tmp_path / "data")
    made.data_dir.mkdir(mode=0o700)
    lay(made.store_url)
    return made


@pytest.fixture
def engine(settings):
    made = open_engine(settings.store_url)
    yield made
    made.dispose()


def register(engine, *texts):
    catalogue = Catalogue(engine, clock=SystemClock(), ids=RandomIds())
    rows = [NewWork(f"{n}-{hash(text)}", "ada", f"Work {n}", text) for n, text in enumerate(texts)]
    return [one.work_id for one in catalogue.add_works(rows)]


def built(settings, held=(), builder=None):
    def quarantined(folder):
        return {} if indexing.current(folder) is None else {one.work_id: one for one in held}

    return run(settings, SystemClock(), builder=builder or TextFileBuilder(), quarantined=quarantined)


def test_what_is_registered_is_in_use_afterwards_and_nothing_waits(settings, engine):
    works = register(engine, "a text of hers", "another of hers")
    assert shelf_store.awaiting_index(engine, 0) == (2, False)
    made = built(settings)
    path = indexing.current(settings.index_dir)
    assert (made.index, made.problem, made.held_all) == (path.name, "", 0)
    assert made.began_us <= made.ended_us
    assert set(json.loads((path / "works.json").read_text())) == set(works)
    assert last(settings.index_dir) == made
    assert shelf_store.awaiting_index(engine, int(path.name)) == (0, False)
    register(engine, "a third of hers")
    assert shelf_store.awaiting_index(engine, int(path.name)) == (1, False)


def test_how_far_it_is_can_be_read_while_it_runs(settings, engine):
    register(engine, "a text of hers")
    seen = []

    class Telling(TextFileBuilder):
        def build(self, works, folder, previous, progress):
            progress(3, 8)
            seen.append(last(settings.index_dir))
            progress(4, 8)  # so soon after that it is not told
            seen.append(last(settings.index_dir))
            assert indexing.is_building(settings.index_dir)
            super().build(works, folder, previous, progress)

    assert not indexing.is_building(settings.index_dir)
    made = built(settings, builder=Telling())
    assert [(one.done, one.total, one.ended_us) for one in seen] == [(3, 8, 0), (3, 8, 0)]
    assert made.ended_us
    assert not indexing.is_building(settings.index_dir)


def test_what_is_newly_held_up_is_named_and_stands_in_the_review(settings, engine):
    one, two = register(engine, "a text of hers", "another of hers")
    first = Held(one, "copy", "Most of it stands in an older work.", two, 900_000)
    made = built(settings, [first])
    assert [(held.work, held.why) for held in made.held] == [(one, "Most of it stands in an older work.")]
    assert [entry.held.work_id for entry in shelf_store.waiting(engine)] == [one]
    assert built(settings, [first]).held == ()


def test_a_build_that_comes_to_nothing_says_why_and_leaves_the_old_index(settings, engine):
    register(engine, "a text of hers")
    built(settings)
    before = indexing.current(settings.index_dir)

    class Broken(TextFileBuilder):
        def build(self, works, folder, previous, progress):
            raise Unavailable("the disk is full", remedy="make room")

    made = built(settings, builder=Broken())
    assert (made.problem, made.remedy, made.index) == ("the disk is full", "make room", "")
    assert made.ended_us
    assert indexing.current(settings.index_dir) == before


def test_a_result_that_cannot_be_read_is_none(tmp_path):
    assert last(tmp_path / "nowhere") is None
    keep(tmp_path, Built(began_us=1))
    assert last(tmp_path) == Built(began_us=1)
    assert (tmp_path / RESULT).stat().st_mode & 0o077 == 0
    (tmp_path / RESULT).write_text("nothing")
    assert last(tmp_path) is None
