import pytest
import sqlalchemy as sa

from proxy.errors import Unavailable
from proxy.metering import log_store, store
from proxy.metering.log_store import events_between


def carried(engine, frames, shard="shd_a"):
    store.watermark(engine, shard)
    return store.carry(engine, shard, frames)


def test_an_answer_is_read_as_it_is_found_by_its_id(engine, made, frames_of):
    media = made.used(2, images=3, milliseconds=8_471)
    carried(engine, frames_of([*made.answer(1), media, made.attributed(2)]))
    assert list(events_between(engine, {}, {"shd_a": 5})) == [
        store.find_event(engine, name) for name in ("rct_1", "rct_2")
    ]


def test_shares_may_arrive_before_their_usage_and_count_only_then(engine, made, frames_of):
    carried(engine, frames_of([made.attributed(1)]), "shd_b")
    assert store.find_event(engine, "rct_1") is None
    with pytest.raises(Unavailable) as incomplete:
        list(events_between(engine, {}, {"shd_b": 1}))
    assert incomplete.value.code == "events_incomplete"
    carried(engine, frames_of([made.used(1)]), "shd_a")
    assert [event.id for event in events_between(engine, {}, {"shd_b": 1})] == ["rct_1"]


def test_events_between_bounds_come_in_order_of_their_shares_each_exactly_once(engine, made, frames_of):
    shuffled = [made.used(1), made.used(2), made.attributed(2), made.attributed(1), made.used(3)]
    carried(engine, frames_of(shuffled), "shd_b")
    carried(engine, frames_of([*made.answer(4), made.attributed(3)]), "shd_a")
    marks = store.watermarks(engine)
    assert marks == {"shd_a": 4, "shd_b": 5}
    assert [event.id for event in events_between(engine, {}, marks)] == [
        "rct_4",
        "rct_3",
        "rct_2",
        "rct_1",
    ]
    middle = {"shd_a": 3, "shd_b": 3}
    halves = [*events_between(engine, {}, middle), *events_between(engine, middle, marks)]
    assert sorted(event.id for event in halves) == ["rct_1", "rct_2", "rct_3", "rct_4"]
    assert list(events_between(engine, marks, marks)) == []


@pytest.mark.parametrize("positions", [1, 7, 40])
def test_reading_goes_page_by_page_without_losing_or_repeating(
    engine, made, frames_of, monkeypatch, positions
):
    monkeypatch.setattr(log_store, "POSITIONS", positions)
    records = [record for number in range(50) for record in made.answer(number)]
    bare = [made.used(number) for number in range(100, 160)]  # a stretch in which no shares lie
    carried(engine, frames_of([*records, *bare, *made.answer(99)]))
    ids = [event.id for event in events_between(engine, {}, {"shd_a": 213})]
    assert ids == [*(f"rct_{n}" for n in range(50)), "rct_99"]


def test_a_store_that_goes_away_is_told_so(engine, made, frames_of):
    carried(engine, frames_of(made.answer(1)))
    with engine.begin() as connection:
        for table in ("event_line", "attributed"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
    with pytest.raises(Unavailable) as refused:
        list(events_between(engine, {}, {"shd_a": 3}))
    assert refused.value.code == "store_unavailable"
