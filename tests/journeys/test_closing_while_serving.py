"""Periods are closed while answers are given: nobody waits for a close, and every answer is in exactly one period."""

from __future__ import annotations

import asyncio
import threading

import pytest

from proxy.billing import booking_store, store
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.metering.log_store import events_between
from proxy.settings import Billing, Metering, Store
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio
NOW_US = 1_800_000_000_000_000
PRICES = load()
ANSWERS, AT_ONCE = 90, 6


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def settings(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    metering = Metering(carry_ms=5)
    return settings_in(
        tmp_path / "data", store=Store(url=url), billing=Billing(scheme="direct"), metering=metering
    )


def closed(engine, billing, label):
    return close_period(engine, label, billing, PRICES, dry_run=False, now_us=NOW_US)


async def test_every_answer_given_during_closes_is_in_exactly_one_period(settings):
    async with live(settings) as app:
        (work,) = app.register("a text of hers")
        await app.running.registry.refresh()
        app.answers(f"{work} again")
        headers, engine = app.key(), app.running.engine
        left, given, closings = iter(range(ANSWERS)), [], []

        async def ask():
            for _ in left:
                reply = await app.chat(headers)
                assert reply.status_code == 200
                given.append(reply.headers["x-attribution-id"])

        async def close():
            while len(given) < ANSWERS:
                label = f"during-{len(closings)}"
                closings.append(await asyncio.to_thread(closed, engine, settings.billing, label))

        await asyncio.gather(close(), *(ask() for _ in range(AT_ONCE)))
        await app.running.sink.drain()
        closings.append(await asyncio.to_thread(closed, engine, settings.billing, "after"))
        assert len(closings) > 1
        assert sum(closing.totals.events for closing in closings) == ANSWERS == len(set(given))
        counted: list[str] = []
        for before, closing in zip([None, *closings], closings, strict=False):
            assert closing.basis.start_bounds == (before.basis.end_bounds if before else {})
            basis = closing.basis
            ids = [event.id for event in events_between(engine, basis.start_bounds, basis.end_bounds)]
            assert len(ids) == closing.totals.events
            counted += ids
        assert sorted(counted) == sorted(given)
        owed = sum(statement.earned_grains for closing in closings for statement in closing.statements)
        assert sum(store.balances(engine, "liab:payee:").values()) == owed > 0


async def test_no_request_waits_for_a_close_that_holds_the_stores_lock(settings, monkeypatch):
    async with live(settings) as app:
        (work,) = app.register("a text of hers")
        await app.running.registry.refresh()
        app.answers(f"{work} again")
        headers, engine = app.key(), app.running.engine
        await app.chat(headers)
        await app.running.sink.drain()
        writing, go_on, insert = threading.Event(), threading.Event(), booking_store.insert

        def slow(*arguments):
            writing.set()
            assert go_on.wait(60)
            insert(*arguments)

        monkeypatch.setattr(booking_store, "insert", slow)
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(asyncio.to_thread(closed, engine, settings.billing, "slow"))
            try:
                assert await asyncio.to_thread(writing.wait, 60)
                during = [await app.chat(headers) for _ in range(20)]
                assert [reply.status_code for reply in during] == [200] * 20
                assert not closing.done()
            finally:
                go_on.set()
        assert closing.result().totals.events == 1
        monkeypatch.undo()
        await app.running.sink.drain()
        assert closed(engine, settings.billing, "next").totals.events == 20
