"""What an app asked for: every settled answer once, by day and model, and from before there were such sums."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic import command

from proxy.billing.app_uses_store import last_answers, month_of_app, table
from proxy.billing.daily_store import DailyUses
from proxy.database import _alembic, open_engine, upgrade
from proxy.metering.usage import Line
from tests.proxy.billing.conftest import make_event, meter
from tests.stores import lay

DAY_US = 86_400_000_000
FIRST_US = make_event(1).occurred_us


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'uses.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


def summed(engine) -> None:
    daily = DailyUses(engine)
    while daily.step():
        pass


def some_answers(engine) -> None:
    meter(engine, [
        make_event(1, price_grains=7),
        make_event(2, (Line("w_unknown", 200_000),), price_grains=10**12, outcome="cut"),
        make_event(3, outcome="failed", output_tokens=0),
        make_event(4, model="other", price_grains=3, occurred_us=FIRST_US + DAY_US),
        make_event(5, currency="EUR", price_grains=5, occurred_us=FIRST_US + DAY_US),
        make_event(6, app_id="app_b", price_grains=9),
        make_event(7, price_grains=1, occurred_us=FIRST_US + 40 * DAY_US),
    ])  # fmt: skip


def shown(rows):
    return [
        (r.what, r.currency, r.answers, r.cut, r.failed, r.output_tokens, r.grains, r.unpriced) for r in rows
    ]


def test_a_month_of_an_app_is_summed_by_day_and_by_model(store):
    some_answers(store)
    assert month_of_app(store, "app_a", "2026-11") == ([], [])
    summed(store)
    days, models = month_of_app(store, "app_a", "2026-11")
    assert shown(days) == [
        ("2026-11-01", "USD", 3, 1, 1, 2_450, 10**12 + 7, 1),
        ("2026-11-02", "EUR", 1, 0, 0, 1_225, 5, 0),
        ("2026-11-02", "USD", 1, 0, 0, 1_225, 3, 0),
    ]
    assert [(one.what, one.currency, one.answers) for one in models] == [
        ("demo-writer", "USD", 3), ("demo-writer", "EUR", 1), ("other", "USD", 1),
    ]  # fmt: skip
    assert shown(month_of_app(store, "app_b", "2026-11")[0]) == [("2026-11-01", "USD", 1, 0, 0, 1_225, 9, 0)]
    assert [one.what for one in month_of_app(store, "app_a", "2026-12")[0]] == ["2026-12-11"]
    assert month_of_app(store, "app_nobody", "2026-11") == ([], [])


def test_more_of_the_same_day_is_added_and_nothing_counted_twice(store):
    some_answers(store)
    summed(store)
    summed(store)
    meter(store, [make_event(8, price_grains=2)])
    summed(store)
    (first, *_), _ = month_of_app(store, "app_a", "2026-11")
    assert (first.answers, first.grains) == (4, 10**12 + 9)


def test_the_last_answers_are_an_apps_own_newest_first_of_its_last_day(store):
    assert last_answers(store, "app_a", 10) == []
    some_answers(store)
    summed(store)
    assert [one.id for one in last_answers(store, "app_a", 10)] == [make_event(7).id]
    assert [one.id for one in last_answers(store, "app_b", 10)] == [make_event(6).id]
    meter(store, [make_event(n, occurred_us=FIRST_US + 40 * DAY_US + n) for n in range(20, 30)])
    assert [one.id for one in last_answers(store, "app_a", 3)] == [make_event(n).id for n in (29, 28, 27)]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_answers_that_were_summed_before_there_were_such_sums_are_in_them(request, tmp_path, kind):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    engine = open_engine(url)
    some_answers(engine)
    summed(engine)
    meter(engine, [make_event(9, price_grains=4)])  # not summed yet: behind the mark
    with engine.connect() as connection:
        wanted = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).all()
    engine.dispose()
    command.downgrade(_alembic(url), "0031_declarations")
    upgrade(url)
    engine = open_engine(url)
    with engine.connect() as connection:
        assert connection.execute(sa.select(table).order_by(*table.primary_key.columns)).all() == wanted
    summed(engine)
    assert month_of_app(engine, "app_a", "2026-11")[0][0].answers == 4
    engine.dispose()
