"""Who made what, kept where every worker reads it, and forgotten in the end."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from proxy.access.made_store import PRUNED_AT_ONCE, Made, MadeThings
from proxy.errors import Unavailable


def test_what_one_worker_notes_the_others_find(engine, second_engine):
    things = [
        Made("resp_1", "app_a", "one", 5),
        Made("resp_1", "app_b", "two", 6),
        Made("file-2", "app_a", "one", 7),
    ]
    MadeThings(engine).note(things)
    found = MadeThings(second_engine).find(["resp_1", "file-2", "file-3"])
    assert sorted(found, key=lambda made: made.until_us) == things


def test_noting_again_is_no_second_row_and_the_newer_word_holds(engine):
    made = MadeThings(engine)
    made.note([Made("resp_1", "app_a", "one", 5), Made("resp_1", "app_a", "two", 6)])
    made.note([Made("resp_1", "app_a", "three", 9)])
    made.note([])
    assert made.find(["resp_1"]) == [Made("resp_1", "app_a", "three", 9)]


def test_what_has_ended_is_forgotten_some_at_a_time(engine):
    made = MadeThings(engine)
    made.note(
        [Made(f"resp_{n}", "app_a", "one", n) for n in range(PRUNED_AT_ONCE + 5)]
        + [Made("f-1", "a", "one", 10**6)]
    )
    assert [made.prune(now_us=10**5) for _ in range(3)] == [PRUNED_AT_ONCE, 5, 0]
    assert made.find(["f-1", "resp_3"]) == [Made("f-1", "a", "one", 10**6)]


def test_a_store_that_is_away_is_said_so(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'no' / 'such'}")
    for ask in (lambda made: made.find(["a"]), lambda made: made.note([Made("a", "b", "c", 1)])):
        with pytest.raises(Unavailable):
            ask(MadeThings(engine))
    engine.dispose()


@pytest.mark.postgres
def test_postgresql_keeps_and_forgets_the_same(postgres_engine):
    made = MadeThings(postgres_engine)
    made.note([Made("resp_1", "app_a", "one", 5), Made("resp_2", "app_a", "one", 50)])
    made.note([Made("resp_1", "app_a", "two", 6)])
    assert made.find(["resp_1"]) == [Made("resp_1", "app_a", "two", 6)]
    assert made.prune(now_us=10) == 1
    assert made.find(["resp_1", "resp_2"]) == [Made("resp_2", "app_a", "one", 50)]
