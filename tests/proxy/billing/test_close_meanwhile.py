"""Periods are closed while answers are given: nobody waits, and each answer is in exactly one of them."""

import asyncio

import pytest

from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.clock import SystemClock
from proxy.metering.journal import Journal
from proxy.metering.log_store import events_between
from proxy.metering.sink import Sink
from proxy.metering.usage import PPM, Attributed, Line, Used
from proxy.settings import Billing, Metering

pytestmark = pytest.mark.anyio
NOW_US, ANSWERS, TOGETHER = 1_796_083_200_000_000, 1_200, 40


def answer(number):
    used = Used(
        id=f"rct_{number:05d}", occurred_us=NOW_US - 86_400_000_000 + number, app="app_a", backend="default", model="m",
        endpoint="/v1/chat/completions", outcome="complete", input_tokens=10, output_tokens=20, estimated=False,
        price_version="p1", price_grains=12_500_000,
    )  # fmt: skip
    lines = (Line("w_1", 600_000), Line("w_2", 150_000))
    return used, Attributed(id=used.id, unattributed_ppm=PPM - 750_000, lines=lines, registry_seq=1)


async def test_each_answer_given_while_periods_close_is_in_exactly_one_of_them(engine, tmp_path):
    journal = Journal.open(tmp_path / "journal", settings=Metering(), clock=SystemClock())
    sink = Sink(journal, engine, settings=Metering(carry_ms=1))
    prices, closings, given, one_is_closed = load(), [], 0, asyncio.Event()

    async def closed(label):
        closing = await asyncio.to_thread(
            close_period, engine, label, Billing(), prices, dry_run=False, now_us=NOW_US
        )
        closings.append(closing)
        one_is_closed.set()

    async def answering():
        nonlocal given
        for first in range(0, ANSWERS, TOGETHER):
            if first == ANSWERS // 2:  # the others are given when a second close is under way, or after
                await one_is_closed.wait()
            records = [record for number in range(first, first + TOGETHER) for record in answer(number)]
            await asyncio.gather(*(journal.append(record) for record in records))
            given += TOGETHER

    async with asyncio.TaskGroup() as group:
        carrying = group.create_task(sink.run())
        giving = group.create_task(answering())
        begun_with = []
        while not giving.done():
            begun_with.append(given)
            await closed(f"2026-{len(closings)}")
        carrying.cancel()
    await sink.drain()
    await closed("last")
    await journal.close()
    await sink.close()

    assert len(set(begun_with)) > 1, "no period was closed while answers were given"
    assert sum(closing.totals.events for closing in closings) == ANSWERS
    assert (
        sum(closing.totals.charged_grains for closing in closings)
        == ANSWERS * closings[-1].basis.royalty_ppm * 125 // 10
    )
    seen = []
    for before, closing in zip([None, *closings], closings, strict=False):
        assert closing.basis.start_bounds == (before.basis.end_bounds if before else {})
        bounds = (closing.basis.start_bounds, closing.basis.end_bounds)
        seen += [event.id for event in events_between(engine, *bounds)]
    assert seen == [f"rct_{number:05d}" for number in range(ANSWERS)]
