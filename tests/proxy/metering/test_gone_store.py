"""An answer that has left the store is known for ever: it is not counted again, and not passed over in silence."""

import pytest
import sqlalchemy as sa

from proxy.errors import Conflict
from proxy.metering import gone_store, trim_store
from proxy.metering.log_store import events_between
from proxy.metering.store import find_event, known_ids, watermark
from proxy.metering.usage import Line
from tests.proxy.metering.test_trim_store import NOVEMBER, marked

FIRST, LAST = f"rct_{1:026d}", f"rct_{9:026d}"


@pytest.fixture
def left(books):
    """The books, the answers of their first period gone."""
    marked(books.engine)
    trim_store.delete(books.engine, NOVEMBER, pause=lambda _: None)
    return books


def gone(engine, *ids):
    with engine.connect() as connection:
        return gone_store.gone_ids(connection, ids)


def test_nothing_has_left_before_anything_is_marked(books):
    assert gone(books.engine, FIRST, LAST) == set()


def test_what_has_left_is_known_by_its_id(left):
    assert gone(left.engine, FIRST, LAST, "rct_never") == {FIRST}
    assert known_ids(left.engine, [FIRST, LAST, "rct_never"]) == {FIRST, LAST}
    assert find_event(left.engine, FIRST) is None


def test_an_answer_that_comes_again_is_passed_over_and_its_neighbours_are_not(left):
    left.number = 0
    again, new = (left.records([Line("w_0", 5)], price_grains=1) for _ in range(2))
    new = [
        type(one)(**{**{f: getattr(one, f) for f in one.__struct_fields__}, "id": "rct_new"}) for one in new
    ]
    left.carry([*again, *new], shard="shd_again")
    assert watermark(left.engine, "shd_again") == 4
    assert find_event(left.engine, "rct_new").lines == (Line("w_0", 5),)
    with left.engine.connect() as connection:
        lines = connection.execute(sa.text("SELECT event_id FROM event_line WHERE ppm = 5")).scalars().all()
    assert (find_event(left.engine, FIRST), lines) == (None, ["rct_new"])


def test_who_reads_that_stretch_is_told(left):
    with pytest.raises(Conflict, match="2026-11 are no longer in the store") as told:
        list(events_between(left.engine, {}, {"shd_a": 18}))
    assert told.value.code == "usage_trimmed"
    assert len(list(events_between(left.engine, {"shd_a": 14}, {"shd_a": 18}))) == 2


def test_what_is_written_down_is_read_back(left):
    with left.engine.connect() as connection:
        assert gone_store.trimmed_ranges(connection) == [("shd_a", 0, 14)]
        (label, one), *rest = gone_store.trimmed(connection).items()
    assert (label, one.by, one.seal, one.digest.shards, rest) == ("2026-11", "ines", "sealed", NOVEMBER, [])
