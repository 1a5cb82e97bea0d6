import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from proxy.database import insert_rows
from proxy.errors import Conflict, Unavailable
from proxy.metering import store
from proxy.metering.frames import Frame
from proxy.metering.usage import PPM, Attributed


def carried(engine, frames, shard="shd_a"):
    store.watermark(engine, shard)
    return store.carry(engine, shard, frames)


def test_an_answer_comes_back_as_it_was_recorded(engine, made, frames_of):
    assert carried(engine, frames_of(made.answer(1))) == store.Carried(3)
    used, attributed = made.used(1), made.attributed(1)
    found = store.find_event(engine, "rct_1")
    for name in ("occurred_us", "backend", "model", "endpoint", "outcome", "input_tokens", "output_tokens", "estimated",
                 "price_version", "price_grains", "currency", "output_digest"):  # fmt: skip
        assert getattr(found, name) == getattr(used, name)
    for name in ("unattributed_ppm", "lines", "reason", "method", "registry_seq"):
        assert getattr(found, name) == getattr(attributed, name)
    assert (found.app_id, found.status) == ("app_a", "settled")


def test_images_and_time_come_back_as_they_were_recorded_and_a_replay_counts_them_once(
    engine, made, frames_of
):
    records = [made.used(1, images=3, milliseconds=2**62), made.attributed(1), *made.answer(2)]
    assert carried(engine, frames_of(records)) == store.Carried(5)
    assert carried(engine, frames_of(records), "shd_b").contradicted == ()
    for event in (store.find_event(engine, "rct_1"), next(iter(store.usage(engine)))):
        assert (event.images, event.milliseconds) == (3, 2**62)
    assert [(event.images, event.milliseconds) for event in store.usage(engine)] == [(3, 2**62), (0, 0)]


def test_carrying_a_batch_five_times_changes_nothing(engine, made, frames_of, dumped):
    frames = frames_of(made.answer(1) + made.answer(2))
    carried(engine, frames)
    before = dumped(engine)
    for _ in range(5):
        assert store.carry(engine, "shd_a", frames) is None
    assert dumped(engine) == before


def test_a_whole_day_replayed_under_another_shard_counts_nothing_twice(engine, made, frames_of, dumped):
    records = [record for number in range(700) for record in made.answer(number)]
    carried(engine, frames_of(records))
    before = dumped(engine)
    assert carried(engine, frames_of(records + records), "shd_b").contradicted == ()
    after = dumped(engine)
    assert after.pop("shard") == [("shd_a", 2100), ("shd_b", 4200)]
    before.pop("shard")
    assert after == before


def test_an_id_recorded_twice_with_different_content_is_told_and_the_first_stands(
    engine, made, frames_of, dumped
):
    carried(engine, frames_of(made.answer(1)))
    before = dumped(engine)
    other = [
        made.used(1, output_tokens=99),
        Attributed(id="rct_1", unattributed_ppm=PPM, reason="cut_by_crash"),
    ]
    outcome = store.carry(engine, "shd_a", frames_of([*other, *made.answer(2)], 3))
    assert outcome == store.Carried(8, ("rct_1", "rct_1"))
    assert [row for row in dumped(engine)["event"] if row[0] == "rct_1"] == before["event"]
    assert store.find_event(engine, "rct_2").status == "settled"
    assert store.find_event(engine, "rct_1").lines == made.attributed(1).lines


def test_contradictions_inside_one_batch_are_told_too(engine, made, frames_of):
    outcome = carried(engine, frames_of([made.used(1), made.used(1, output_tokens=99), made.used(1)]))
    assert outcome.contradicted == ("rct_1",)
    assert store.find_event(engine, "rct_1").output_tokens == 20


def test_a_hole_in_the_indexes_is_an_error_and_changes_nothing(engine, made, frames_of, dumped):
    frames = frames_of(made.answer(1))
    store.watermark(engine, "shd_a")
    before = dumped(engine)
    with pytest.raises(Unavailable) as gap:
        store.carry(engine, "shd_a", [frames[0], frames[2]])
    assert gap.value.code == "journal_gap"
    assert dumped(engine) == before


def test_a_batch_that_does_not_begin_at_the_mark_changes_nothing(engine, made, frames_of, dumped):
    carried(engine, frames_of(made.answer(1)))
    before = dumped(engine)
    assert store.carry(engine, "shd_a", frames_of(made.answer(2), 4)) is None
    assert dumped(engine) == before


def test_reading_goes_page_by_page_without_losing_or_repeating(engine, made, frames_of, monkeypatch):
    monkeypatch.setattr(store, "PAGE_EVENTS", 7)
    records = [record for number in range(50) for record in made.answer(number)]
    carried(engine, frames_of([*records, made.used(99)]))
    assert [event.id for event in store.usage(engine)] == [*(f"rct_{n}" for n in range(50)), "rct_99"]


def test_usage_of_one_app_from_one_place_on_is_asked_of_the_store(engine, made, frames_of):
    at_us = made.used(1).occurred_us
    answers = [("rct_1", "app_a"), ("rct_2", "app_b"), ("rct_3", "app_a")]
    carried(engine, frames_of([made.used(1, id=name, app=app) for name, app in answers]))
    assert [event.id for event in store.usage(engine, at_us, app="app_a")] == ["rct_1", "rct_3"]
    assert [event.id for event in store.usage(engine, at_us, after_id="rct_1")] == ["rct_2", "rct_3"]
    assert [event.id for event in store.usage(engine, at_us, after_id="rct_1", app="app_a")] == ["rct_3"]


def test_usage_lists_answers_since_a_time_and_marks_those_without_shares(engine, made, frames_of):
    carried(engine, frames_of([*made.answer(1), *made.answer(2), made.used(3)]))
    listed = list(store.usage(engine, made.used(2).occurred_us))
    assert [(event.id, event.status, len(event.lines)) for event in listed] == [
        ("rct_2", "settled", 5),
        ("rct_3", "pending", 0),
    ]


def test_totals_count_everything(engine, made, frames_of):
    assert store.totals(engine) == store.Totals(0, 0, 0, 0, 0)
    carried(engine, frames_of([*made.answer(1), made.used(2)]))
    assert store.totals(engine) == store.Totals(
        events=2, pending=1, lines=5, input_tokens=20, output_tokens=40
    )


def test_the_largest_counts_and_a_nul_in_a_name_are_stored(engine, made, frames_of):
    carried(engine, frames_of([made.used(1, output_tokens=2**63 - 1, price_grains=None, model="a\0b")]))
    found = store.find_event(engine, "rct_1")
    assert (found.output_tokens, found.price_grains, found.model) == (2**63 - 1, None, "a\ufffdb")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET output_tokens = 1",
        "DELETE FROM event",
        "UPDATE attributed SET unattributed_ppm = 1",
        "DELETE FROM attributed",
        "UPDATE event_line SET ppm = 1",
        "DELETE FROM event_line",
    ],
)
def test_recorded_usage_cannot_be_changed(engine, made, frames_of, dumped, statement):
    carried(engine, frames_of(made.answer(1)))
    before = dumped(engine)
    with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
        connection.execute(sa.text(statement))
    assert dumped(engine) == before


def test_a_store_without_its_tables_is_unavailable_not_a_crash(tmp_path):
    engine = store.sa.create_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(Unavailable) as away:
        store.watermark(engine, "shd_a")
    assert away.value.code == "store_unavailable"
    engine.dispose()


def test_a_record_of_another_version_stops_carrying_instead_of_being_skipped(sqlite_engine):
    store.watermark(sqlite_engine, "shd_a")
    with pytest.raises(Unavailable) as unknown:
        store.carry(sqlite_engine, "shd_a", [Frame(0, b"\x81\xa4type\xa5later", 0)])
    assert unknown.value.code == "journal_record_unknown"


def test_rows_the_store_refuses_are_a_conflict_and_change_nothing(engine, made, frames_of, dumped):
    carried(engine, frames_of(made.answer(1)))
    with engine.begin() as connection:  # a mark moved back by hand: positions would be taken twice
        connection.execute(sa.update(store.shard).values(next_index=0))
    before = dumped(engine)
    with pytest.raises(Conflict):
        store.carry(engine, "shd_a", frames_of(made.answer(2)))
    assert dumped(engine) == before


def test_the_migration_makes_the_columns_that_the_rows_declare(engine):
    inspector = sa.inspect(engine)
    for table in (store.shard, store.event, store.attributed, store.event_line):
        found = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
        assert found == {column.name: column.nullable for column in table.columns}


def test_lines_without_their_answer_are_refused_however_many_come_with_them(engine, made, frames_of):
    carried(engine, frames_of(made.answer(1)))
    rows = [("rct_1", 50, "w_1", 1, "paid"), ("rct_unknown", 0, "w_1", 1, "paid")]
    with pytest.raises(IntegrityError), engine.begin() as connection:
        insert_rows(connection, store.event_line, store.event_line.c.keys(), rows)
    with engine.begin() as connection:
        insert_rows(connection, store.event_line, store.event_line.c.keys(), rows[:1])
