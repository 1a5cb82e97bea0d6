"""How many usage records a journal takes and a store is given; each figure with its spread and its machine."""

import asyncio
import os
import platform
import statistics
import time

import pytest

from proxy.clock import SystemClock
from proxy.database import open_engine
from proxy.metering.journal import Journal
from proxy.metering.sink import Sink
from proxy.metering.usage import PPM, Attributed, Line, Used
from proxy.settings import Metering
from tests.proxy.metering.conftest import create_tables

pytestmark = [pytest.mark.bench, pytest.mark.anyio]
RUNS = 5


def used(number):
    return Used(
        id=f"rct_{number:026d}", occurred_us=1_780_000_000_000_000, app="app_aaaaaaaaaaaaaaaaaaaaaaaaaa", backend="default",
        model="gpt-x-2026", endpoint="/v1/chat/completions", outcome="complete", input_tokens=812, output_tokens=394,
        estimated=False, output_digest="0" * 64, price_version="2026-11-01", price_grains=12_500_000,
    )  # fmt: skip


def attributed(number):
    lines = tuple(Line(f"w_{work:026d}", 100_000 + number % 1000) for work in range(5))
    return Attributed(
        id=f"rct_{number:026d}", unattributed_ppm=PPM - sum(line.ppm for line in lines), lines=lines,
        method="endcredits/1 0123456789ab", registry_seq=1,
    )  # fmt: skip


def told(what, rates, unit):
    machine = f"{os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    print(
        f"\n{what}: {statistics.median(rates):,.0f} {unit} (of {len(rates)}: {min(rates):,.0f} to {max(rates):,.0f}; {machine})"
    )


@pytest.mark.parametrize("callers", [1, 16, 64, 256, 1024])
async def test_appends_a_second_by_callers_that_wait_together(tmp_path, callers):
    journal = Journal.open(tmp_path, settings=Metering(), clock=SystemClock())
    total = max(1_000, callers * 40)
    record = used(1)
    rates = []

    async def call():
        for _ in range(total // callers):
            await journal.append(record)

    for _ in range(RUNS):
        started = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        rates.append(total // callers * callers / (time.perf_counter() - started))
    told(f"journal, {callers} callers", rates, "durable appends/s")
    await journal.close()


async def test_answers_with_five_lines_carried_a_second_into_sqlite(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'store.db'}")
    create_tables(engine)
    rates, cpu_us = await carried(tmp_path, engine)
    told(f"carrier, SQLite, 5 lines, {cpu_us:.0f} µs of CPU an answer", rates, "answers/s")
    engine.dispose()


async def test_answers_with_five_lines_carried_a_second_into_postgresql(tmp_path, postgres_url):
    engine = open_engine(postgres_url)
    create_tables(engine)
    rates, cpu_us = await carried(tmp_path, engine)
    told(f"carrier, PostgreSQL, 5 lines, {cpu_us:.0f} µs of our CPU an answer", rates, "answers/s")
    engine.dispose()


async def carried(folder, engine, answers=5_000):
    journal = Journal.open(folder / "journal", settings=Metering(), clock=SystemClock())
    sink = Sink(journal, engine, settings=Metering())
    await sink.drain()
    rates, cpu_us = [], []
    for run in range(RUNS):
        numbers = range(run * answers, (run + 1) * answers)
        await asyncio.gather(
            *(journal.append(make(number)) for number in numbers for make in (used, attributed))
        )
        started, used_s = time.perf_counter(), time.process_time()
        await sink.drain()
        rates.append(answers / (time.perf_counter() - started))
        cpu_us.append((time.process_time() - used_s) / answers * 1e6)
    await journal.close()
    await sink.close()
    return rates, statistics.median(cpu_us)


async def test_a_restart_over_a_full_day_s_uncarried_journal(tmp_path):
    journal = Journal.open(tmp_path, settings=Metering(), clock=SystemClock())
    await asyncio.gather(
        *(journal.append(make(number)) for number in range(50_000) for make in (used, attributed))
    )
    await journal.close()
    rates = []
    for _ in range(RUNS):
        started = time.perf_counter()
        again = Journal.open(tmp_path, settings=Metering(), clock=SystemClock())
        rates.append(100_000 / (time.perf_counter() - started))
        await again.close()
    told("restart, 100,000 records in the journal", rates, "records/s")
