"""Who waits for a close: usage at RATE answers a second while a period of LINES lines is closed beside it.

    LINES=1000000 RATE=1000 python -m tests.bench.closing_beside

The answers are appended to a journal, durable before each is told so, as a request has it before its last byte,
and a carrier brings them into the same SQLite store. Printed: what an append took before and during the close,
how far the carrier fell behind and how long it took to catch up. The close runs in a process of its own. The end
closes a second period: every answer is in exactly one of the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.clock import SystemClock
from proxy.database import open_engine
from proxy.metering.journal import Journal
from proxy.metering.sink import Sink
from proxy.metering.usage import PPM, Attributed, Line, Used
from proxy.settings import Billing, Metering
from tests.bench.closing import BEGIN_US, LINES_AN_ANSWER, make

TICK_S = 0.01
CALM_S = 5


def answer(number: int) -> tuple[Used, Attributed]:
    """One answer with five lines, of works that the store has."""
    used = Used(
        id=f"rct_live_{number:020d}", occurred_us=BEGIN_US, app=f"app_{0:022d}", backend="default", model="model-0",
        endpoint="/v1/chat/completions", outcome="complete", input_tokens=800, output_tokens=400, estimated=False,
        price_version="v1", price_grains=12_000_000,
    )  # fmt: skip
    lines = tuple(Line(f"w_{work:026d}", 100_000) for work in range(LINES_AN_ANSWER))
    return used, Attributed(id=used.id, unattributed_ppm=PPM - 500_000, lines=lines, registry_seq=1)


class Load:
    """Appends RATE answers a second, whatever they take, and keeps what each took."""

    def __init__(self, journal: Journal, rate: int) -> None:
        self.journal, self.rate, self.given, self.took_ms = journal, rate, 0, []

    async def _one(self, number: int) -> None:
        began = time.perf_counter()
        await asyncio.gather(*(self.journal.append(record) for record in answer(number)))
        self.took_ms.append((time.perf_counter() - began) * 1e3)

    async def run(self) -> None:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while True:
                due = int((time.perf_counter() - began) * self.rate)
                for number in range(self.given, due):
                    group.create_task(self._one(number))
                self.given = max(self.given, due)
                await asyncio.sleep(TICK_S)

    def told(self) -> dict[str, float]:
        """Return the spread of what was appended since this was asked last."""
        took, self.took_ms = sorted(self.took_ms), []
        cuts = statistics.quantiles(took, n=1000)
        return {
            "answers": len(took),
            "p50": round(cuts[499], 2),
            "p99": round(cuts[989], 2),
            "max": round(took[-1], 1),
        }


async def beside(folder: Path, lines: int, rate: int) -> dict[str, object]:
    """Close the period of `lines` lines under load; return the figures."""
    store = folder / "store.db"
    engine = open_engine(f"sqlite:///{store}")
    journal = Journal.open(folder / "journal", settings=Metering(), clock=SystemClock())
    sink = Sink(journal, engine, settings=Metering())
    load_, behind, troubles = Load(journal, rate), 0, set()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(load_.run()), group.create_task(sink.run())]
        await asyncio.sleep(CALM_S)
        calm = load_.told()
        began = time.perf_counter()
        closing = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.closing_beside", "--close", str(store)
        )
        while closing.returncode is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), 0.1)
            behind = max(behind, sink.lag)
            troubles |= {sink.problem.code} if sink.problem else set()
        took_s, meanwhile = time.perf_counter() - began, load_.told()
        began = time.perf_counter()
        while sink.lag > 4 * rate * Metering().carry_ms / 1_000:  # noqa: ASYNC110  it has no event for that
            await asyncio.sleep(TICK_S)
        caught_up_s = time.perf_counter() - began
        tasks[0].cancel()
        await asyncio.sleep(1)  # for what was asked last
        tasks[1].cancel()
    await sink.drain()
    second = close_period(engine, "second", Billing(), load(), dry_run=False, now_us=BEGIN_US)
    with engine.connect() as connection:
        first, metered = (
            connection.exec_driver_sql(asked).scalar_one()
            for asked in (
                "SELECT json_extract(totals, '$.totals.events') FROM period WHERE seq = 1",
                "SELECT count(*) FROM attributed",
            )
        )
    await journal.close()
    await sink.close()
    engine.dispose()
    return {
        "append_ms_before": calm, "append_ms_meanwhile": meanwhile, "close_s": round(took_s, 1),
        "behind_records": behind, "caught_up_s": round(caught_up_s, 1), "troubles": sorted(troubles),
        "answers": metered, "made": lines // LINES_AN_ANSWER + load_.given,
        "in_first": first, "in_second": second.totals.events,
    }  # fmt: skip


def main() -> None:
    """Make the period, close it under load, print what happened; exit 1 where an answer is in none or in two."""
    if sys.argv[1:2] == ["--close"]:
        engine = open_engine(f"sqlite:///{sys.argv[2]}")
        close_period(engine, "first", Billing(), load(), dry_run=False, now_us=BEGIN_US)
        return
    lines, rate = int(os.environ.get("LINES") or 1_000_000), int(os.environ.get("RATE") or 1_000)
    folder = Path(tempfile.mkdtemp(prefix="ec-beside-", dir=os.environ.get("BENCH_DIR")))
    try:
        make(folder / "store.db", lines)
        print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
        told = asyncio.run(beside(folder, lines, rate))
        print(json.dumps(told, indent=1))
        if not told["answers"] == told["made"] == told["in_first"] + told["in_second"]:
            sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
