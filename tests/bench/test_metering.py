"""How many usage records a journal takes and a store is given; each figure with its spread and its machine."""

import asyncio
import multiprocessing
import os
import platform
import statistics
import time

import pytest

from proxy.clock import SystemClock
from proxy.database import open_engine
from proxy.metering import store
from proxy.metering.frames import Frame, encode_record
from proxy.metering.journal import Journal
from proxy.metering.sink import BATCH_RECORDS, Sink
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


def told(what, rates, unit, *, at_least):
    """Print the rates. at_least: far below what a loaded machine with a slow disk does."""
    machine = f"{os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    print(
        f"\n{what}: {statistics.median(rates):,.0f} {unit} (of {len(rates)}: {min(rates):,.0f} to {max(rates):,.0f}; {machine})"
    )
    assert statistics.median(rates) > at_least


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
    told(f"journal, {callers} callers", rates, "durable appends/s", at_least=2 * callers)
    await journal.close()


async def test_answers_with_five_lines_carried_a_second_into_sqlite(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'store.db'}")
    create_tables(engine)
    rates, cpu_us = await carried(tmp_path, engine)
    told(f"carrier, SQLite, 5 lines, {cpu_us:.0f} µs of CPU an answer", rates, "answers/s", at_least=500)
    engine.dispose()


async def test_answers_with_five_lines_carried_a_second_into_postgresql(tmp_path, postgres_url):
    engine = open_engine(postgres_url)
    create_tables(engine)
    rates, cpu_us = await carried(tmp_path, engine)
    told(
        f"carrier, PostgreSQL, 5 lines, {cpu_us:.0f} µs of our CPU an answer",
        rates,
        "answers/s",
        at_least=500,
    )
    engine.dispose()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_workers_carry_into_postgresql_side_by_side(postgres_url, workers):
    engine = open_engine(postgres_url)
    create_tables(engine)
    engine.dispose()
    context, batches = multiprocessing.get_context("spawn"), 60
    ready, go, took = context.Semaphore(0), context.Event(), context.SimpleQueue()
    asked = (postgres_url, batches, ready, go, took)
    processes = [context.Process(target=carry_batches, args=(number, *asked)) for number in range(workers)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    go.set()
    times = [took.get() for _ in processes]
    for process in processes:
        process.join()
    wall_s = max(end for _, end in times) - min(begin for begin, _ in times)
    rates = [workers * batches * BATCH_RECORDS / 2 / wall_s]
    told(f"{workers} carriers, PostgreSQL, 5 lines", rates, "answers/s", at_least=500)


def carry_batches(number, url, batches, ready, go, took):
    """Carry a journal of its own, read already, in batches of a carrier's size."""
    engine, shard = open_engine(url), f"shd_{number}"
    store.watermark(engine, shard)
    answers = BATCH_RECORDS // 2
    records = [
        make(number * 1_000_000 + answer)
        for answer in range(batches * answers)
        for make in (used, attributed)
    ]
    frames = [Frame(index, encode_record(record), 0) for index, record in enumerate(records)]
    ready.release()
    go.wait()
    began = time.monotonic()  # of the machine: the processes share it
    for first in range(0, len(frames), BATCH_RECORDS):
        store.carry(engine, shard, frames[first : first + BATCH_RECORDS])
    took.put((began, time.monotonic()))


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
    told("restart, 100,000 records in the journal", rates, "records/s", at_least=10_000)
