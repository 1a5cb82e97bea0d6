"""Uses by day: every settled answer is summed once, whoever sums and however often it is tried."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from proxy.billing.daily_store import ANSWERS_AT_ONCE, DailyUses, uses_of
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import UNCLAIMED, NewWork, Part, Split
from proxy.metering.usage import Line
from tests.fakes import CountingIds, FrozenClock
from tests.proxy.billing.conftest import make_event, meter
from tests.stores import lay

DAY_US = 86_400_000_000


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    from proxy.database import open_engine

    url = f"sqlite:///{tmp_path / 'uses.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def works(store):
    catalogue = Catalogue(store, clock=FrozenClock(), ids=CountingIds())
    rows = [
        NewWork(str(n), who, f"Song {n}", f"text {n} of {who}") for n, who in enumerate(("ada", "ada", "bo"))
    ]
    made = [one.work_id for one in catalogue.add_works(rows)]
    catalogue.set_split(made[2], Split((Part("ada", 400_000), Part("bo", 500_000), Part(UNCLAIMED, 100_000))))
    return made, catalogue.creator("ada").id, catalogue.creator("bo").id


def test_uses_are_summed_by_day_app_model_and_work_for_everybody_who_has_a_part(store, works):
    (one, two, shared), ada, bo = works
    both = (Line(one, 300_000), Line(two, 100_000, "prohibited"))
    meter(store, [
        make_event(1, both),
        make_event(2, (Line(shared, 200_000),), app_id="app_b", model="other"),
        make_event(3, (Line("w_unknown", 200_000),)),
        make_event(4, (Line(one, 50_000),), occurred_us=make_event(4).occurred_us + DAY_US),
        make_event(5),
    ])  # fmt: skip
    assert DailyUses(store).step() == 5
    assert DailyUses(store).step() == 0
    found = uses_of(store, ada, "2026-11-01")
    assert [(day.what, day.answers, day.ppm, day.prohibited) for day in found.days] == [
        ("2026-11-01", 2, 600_000, 1), ("2026-11-02", 1, 50_000, 0),
    ]  # fmt: skip
    assert [(app.what, app.answers) for app in found.apps] == [("app_a", 2), ("app_b", 1)]
    assert [(model.what, model.answers) for model in found.models] == [("demo-writer", 2), ("other", 1)]
    assert next((work.title, work.answers, work.ppm, work.last_day) for work in found.works) == (
        "Song 0", 2, 350_000, "2026-11-02",
    )  # fmt: skip
    assert [(work.work, work.answers) for work in uses_of(store, bo, "2026-11-01").works] == [(shared, 1)]
    assert uses_of(store, ada, "2026-11-02").days[0].answers == 1
    assert uses_of(store, "c_nobody", "2026-11-01").days == ()


def test_a_long_backlog_is_summed_in_bounded_steps(store, works):
    (one, _, _), ada, _ = works
    number = ANSWERS_AT_ONCE + 5
    meter(
        store,
        [make_event(n, (Line(one, 1_000),), occurred_us=make_event(1).occurred_us) for n in range(number)],
    )
    daily = DailyUses(store)
    assert [daily.step(), daily.step(), daily.step()] == [ANSWERS_AT_ONCE, 5, 0]
    assert uses_of(store, ada, "2026-11-01").days[0].answers == number


def test_shares_that_came_before_their_answer_wait_for_it(store, works):
    (one, _, _), ada, _ = works
    meter(store, [make_event(n, (Line(one, 1_000),)) for n in (1, 2)])
    with store.begin() as connection:
        connection.execute(sa.text("INSERT INTO shard (id, next_index) VALUES ('other', 1)"))
        row = "VALUES ('rct_late', 'other', 0, 1000000, '', '', 0, 'x')"
        names = "event_id, shard_id, idx, unattributed_ppm, reason, method, registry_seq, body_sha256"
        connection.exec_driver_sql(f"INSERT INTO attributed ({names}) {row}")
    daily = DailyUses(store)
    assert daily.step() == 2
    assert daily.step() == 0
    with store.connect() as connection:
        marks = connection.execute(sa.text("SELECT count(*) FROM use_mark WHERE shard_id = 'other'"))
        assert marks.scalar_one() == 0
    assert uses_of(store, ada, "2026-11-01").days[0].answers == 2
