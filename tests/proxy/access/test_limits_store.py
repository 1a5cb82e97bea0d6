"""Limits in the store, and budgets that no interleaving overdraws."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.access.limits import UNLIMITED, Limits, month_of
from proxy.access.limits_store import HOLD_US_MAX, Budgets, app_limits, limit_app, limit_key, spent
from proxy.access.store import KeyRing, create_key, list_keys, revoke, rotate
from proxy.errors import BadRequest, NotFound, Unauthenticated, Unavailable
from tests.fakes import START_US

pytestmark = pytest.mark.anyio
MONTH = month_of(START_US)
SECOND_US = 1_000_000


@pytest.fixture
def made(engine, clock, ids):
    return create_key(engine, "app", clock=clock, ids=ids, name="reader")


@pytest.fixture
def app_id(made):
    return made.principal.app_id


def limited(engine, clock, **changes):
    return limit_app(engine, "reader", lambda old: dataclasses.replace(old, **changes), clock=clock)


async def test_limits_of_key_and_app_come_with_the_key(engine, clock, ids, made):
    limit_key(engine, made.id, clock=clock, models=["gpt-*"], expires_us=START_US + 9)
    limited(engine, clock, requests_per_min=5, origins=("https://a",), budget_grains=7, currency="USD")
    found = await KeyRing(engine, clock=clock).find(made.secret)
    assert found is not None
    assert found.limits == Limits(
        ("gpt-*",), START_US + 9, requests_per_min=5, origins=("https://a",), budget_grains=7, currency="USD"
    )


async def test_a_key_without_limits_has_none(engine, clock, made):
    found = await KeyRing(engine, clock=clock).find(made.secret)
    assert found is not None
    assert found.limits == UNLIMITED


async def test_a_change_acts_in_every_ring_at_its_next_poll(engine, second_engine, clock, made):
    rings = [KeyRing(each, clock=clock) for each in (engine, second_engine)]
    for ring in rings:
        await ring.refresh()
    limited(engine, clock, tokens_per_min=9)
    limit_key(engine, made.id, clock=clock, models=["o3"])
    for ring in rings:
        assert await ring.refresh()
        found = await ring.find(made.secret)
        assert found is not None
        assert (found.limits.tokens_per_min, found.limits.models) == (9, ("o3",))


async def test_a_key_ends_at_its_time_without_anybody_looking_at_the_store(engine, clock, ids):
    made = create_key(engine, "app", clock=clock, ids=ids, expires_us=START_US + 2 * SECOND_US)
    ring = KeyRing(engine, clock=clock)
    assert await ring.find(made.secret) is not None
    engine.dispose()
    clock.advance(2)
    with pytest.raises(Unauthenticated, match="has ended"):
        await ring.find(made.secret)


async def test_rotation_gives_a_new_key_with_the_same_rights_while_the_old_one_goes_on_for_a_while(
    engine, clock, ids, made
):
    limit_key(engine, made.id, clock=clock, models=["gpt-*"])
    new = rotate(engine, made.id, clock=clock, ids=ids, overlap_s=60)
    ring = KeyRing(engine, clock=clock)
    for secret in (made.secret, new.secret):
        found = await ring.find(secret)
        assert found is not None
        assert (found.app_id, found.limits.models) == (made.principal.app_id, ("gpt-*",))
    clock.advance(60)
    assert await ring.find(new.secret) is not None
    with pytest.raises(Unauthenticated):
        await ring.find(made.secret)


def test_rotation_never_lengthens_a_keys_life(engine, clock, ids):
    made = create_key(engine, "app", clock=clock, ids=ids, expires_us=START_US + 5)
    rotate(engine, made.id, clock=clock, ids=ids, overlap_s=3_600)
    assert {key.id: key.expires_us for key in list_keys(engine)}[made.id] == START_US + 5


def test_what_has_ended_is_not_rotated(engine, clock, ids, made):
    revoke(engine, made.id, clock=clock)
    with pytest.raises(NotFound):
        rotate(engine, made.id, clock=clock, ids=ids, overlap_s=1)
    ended = create_key(engine, "app", clock=clock, ids=ids, expires_us=START_US - 1)
    with pytest.raises(BadRequest, match="has ended"):
        rotate(engine, ended.id, clock=clock, ids=ids, overlap_s=1)


def test_who_does_not_exist_cannot_be_limited(engine, clock, made):
    with pytest.raises(NotFound):
        limit_key(engine, "key_x", clock=clock, models=[])
    with pytest.raises(NotFound):
        app_limits(engine, "nobody")
    with pytest.raises(BadRequest):
        limit_key(engine, made.id, clock=clock, models=[""])


def reserve(budgets, hold_id, app_id, grains, budget=100, now_us=START_US):
    return budgets.reserve(hold_id, app_id, month=MONTH, grains=grains, budget_grains=budget, now_us=now_us)


def test_a_reservation_becomes_what_the_answer_cost(engine, app_id):
    budgets = Budgets(engine)
    assert reserve(budgets, "rct_1", app_id, 60)
    assert spent(engine, app_id, MONTH) == (0, 60)
    assert not reserve(budgets, "rct_2", app_id, 50)
    assert budgets.settle("rct_1", 10)
    assert spent(engine, app_id, MONTH) == (10, 0)
    assert reserve(budgets, "rct_2", app_id, 90)
    assert not budgets.settle("rct_1", 10), "settled once"
    assert spent(engine, app_id, MONTH) == (10, 90)


def test_an_answer_whose_price_is_not_known_after_all_costs_what_was_held(engine, app_id):
    budgets = Budgets(engine)
    reserve(budgets, "rct_1", app_id, 60)
    budgets.settle("rct_1", None)
    assert spent(engine, app_id, MONTH) == (60, 0)


def test_nothing_passes_once_a_budget_is_used_up_not_even_what_costs_nothing(engine, app_id):
    budgets = Budgets(engine)
    assert reserve(budgets, "rct_1", app_id, 100)
    assert not reserve(budgets, "rct_2", app_id, 0)
    budgets.settle("rct_1", 250)
    assert spent(engine, app_id, MONTH) == (250, 0)
    assert not reserve(budgets, "rct_3", app_id, 0)


def test_a_new_month_is_a_new_budget(engine, app_id):
    budgets = Budgets(engine)
    assert reserve(budgets, "rct_1", app_id, 100)
    assert budgets.reserve("rct_2", app_id, month="2099-01", grains=100, budget_grains=100, now_us=START_US)


steps = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=40
)


@given(steps)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_order_held_and_spent_are_the_sums_of_what_was_reserved_and_settled(
    engine, app_id, script
):
    """`cost` is within what was held, as it is when the bound is one."""
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM budget_hold"))
        connection.execute(sa.text("DELETE FROM budget_month"))
    budgets, held, paid = Budgets(engine), {}, 0
    for name, grains, cost, settles in script:
        hold_id = f"rct_{name}"
        if settles or hold_id in held:
            had = held.pop(hold_id, None)
            assert budgets.settle(hold_id, min(cost, had or 0)) == (had is not None)
            paid += min(cost, had or 0)
        else:
            fits = sum(held.values()) + paid + max(grains, 1) <= 100
            assert reserve(budgets, hold_id, app_id, grains) == fits
            if fits:
                held[hold_id] = grains
        assert spent(engine, app_id, MONTH) == (paid, sum(held.values()))
        assert paid + sum(held.values()) <= 100


def race(engines, app_id, *, workers=8, each=10, grains=7, budget=300):
    """Reserve from many threads over several engines at once; return how many were let through."""
    start, passed = threading.Barrier(workers), []

    def work(number):
        budgets = Budgets(engines[number % len(engines)])
        start.wait()
        passed.extend(
            hold_id
            for turn in range(each)
            if reserve(budgets, hold_id := f"rct_{number}_{turn}", app_id, grains, budget)
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return passed


def test_many_that_reserve_at_once_from_two_processes_never_get_more_than_there_is(
    engine, second_engine, app_id
):
    passed = race([engine, second_engine], app_id)
    assert len(passed) == 300 // 7
    assert spent(engine, app_id, MONTH) == (0, len(passed) * 7)


@pytest.mark.postgres
def test_they_never_do_on_postgresql_either(postgres_engine, clock, ids):
    made = create_key(postgres_engine, "app", clock=clock, ids=ids, name="reader")
    passed = race([postgres_engine], made.principal.app_id)
    assert len(passed) == 300 // 7
    budgets = Budgets(postgres_engine)
    for hold_id in passed:
        assert budgets.settle(hold_id, 1)
    assert spent(postgres_engine, made.principal.app_id, MONTH) == (len(passed), 0)
    assert budgets.sweep(now_us=START_US) == 0


def add_event(engine, event_id, grains):
    """Put in an event as the sink would; its other columns do not matter here."""
    table = sa.Table("event", sa.MetaData(), autoload_with=engine)
    numbers = (sa.Integer, sa.Boolean)
    row = {column.name: 0 if isinstance(column.type, numbers) else "" for column in table.columns}
    for column in table.columns:
        if isinstance(column.type, sa.Boolean):
            row[column.name] = False
    row |= {"id": event_id, "price_grains": grains, "idx": len(event_id), "outcome": "cut"}
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [row])


def test_what_a_dead_worker_reserved_is_settled_from_its_event_or_given_back_in_a_day(engine, app_id):
    budgets = Budgets(engine)
    for hold_id in ("rct_1", "rct_22", "rct_333"):
        reserve(budgets, hold_id, app_id, 30)
    add_event(engine, "rct_1", 12)
    add_event(engine, "rct_22", None)
    assert budgets.sweep(now_us=START_US + HOLD_US_MAX) == 2
    assert spent(engine, app_id, MONTH) == (12 + 30, 30)
    assert budgets.sweep(now_us=START_US + HOLD_US_MAX + 1) == 1
    assert spent(engine, app_id, MONTH) == (42, 0)


def test_a_store_that_is_away_is_told_as_such(tmp_path):
    away = sa.create_engine(f"sqlite:///{tmp_path / 'no' / 'where.db'}")
    with pytest.raises(Unavailable):
        reserve(Budgets(away), "rct_1", "app_1", 1)
    away.dispose()


async def test_a_ring_knows_which_origins_any_app_lists(engine, clock, made):
    ring = KeyRing(engine, clock=clock)
    await ring.refresh()
    assert not ring.lists("https://a")
    limited(engine, clock, origins=("https://a",))
    await ring.refresh()
    assert ring.lists("https://a")
    revoke(engine, made.id, clock=clock)
    await ring.refresh()
    assert not ring.lists("https://a")
