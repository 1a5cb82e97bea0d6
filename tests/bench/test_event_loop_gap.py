"""How long the event loop is held up while attribution works beside it. Prints; asserts nothing on time.

Streams are paced as a backend paces them; each event is offered to attribution, each answer is settled at its
end and begun anew. The gap is by how much a sleeping task wakes later than asked: what a token would wait.
Other processes are in it too; `busy` is not theirs: the processor time this thread used between two wakes.
Rounds with and without attribution take turns, so that a machine that grows busier favours neither.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import pytest

from attribution import SourceWork, build_index
from proxy.clock import SystemClock
from proxy.observability import Metrics, get_log
from proxy.relay.attributing import Attributing
from proxy.relay.scored import Failed, Scored
from proxy.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.bench]
TEXTS = Path(__file__).parents[2] / "proxy" / "demo" / "catalogue" / "texts"
STREAMS = 24
EVENTS_A_SECOND = 50
EVENTS_AN_ANSWER = 150  # 3 s, some 600 characters
SECONDS = 10.0
ROUNDS = 2
TICK_S = 0.002
DEADLINE_MS = 250
BUSY_MS_AT_MOST = 10.0  # in one of a hundred turns of the loop, in its own CPU time; 0.6 was measured


class Gaps:
    """Wakes every TICK_S and notes by how much it was late, and how busy the loop was, in milliseconds."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.busy_ms: list[float] = []

    async def watch(self) -> None:
        while True:
            asked, busy = time.perf_counter() + TICK_S, time.thread_time()
            await asyncio.sleep(TICK_S)
            self.late_ms.append(max(0.0, (time.perf_counter() - asked) * 1000))
            self.busy_ms.append((time.thread_time() - busy) * 1000)


def quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {
        "p50": len(ordered) // 2,
        "p99": len(ordered) * 99 // 100,
        "p99.9": len(ordered) * 999 // 1000,
        "max": -1,
    }
    return {name: round(ordered[place], 2) for name, place in at.items()} if ordered else {}


async def stream(
    number: int,
    pieces: list[str],
    attributing: Attributing | None,
    until: float,
    settle_ms: list[float],
    late: list[str],
) -> None:
    answer, at = 0, number * 997
    await asyncio.sleep(number / STREAMS * EVENTS_AN_ANSWER / EVENTS_A_SECOND)  # ends come one by one
    while time.perf_counter() < until:
        answer_id = f"rct_{number}_{answer}"
        answer += 1
        due = time.perf_counter()
        for _ in range(EVENTS_AN_ANSWER):
            if attributing is not None:
                attributing.offer(answer_id, 0, pieces[at % len(pieces)])
            at += 1
            due += 1 / EVENTS_A_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if attributing is not None:
            began = time.perf_counter()
            settled = await attributing.settle(answer_id, deadline_ms=DEADLINE_MS)
            settle_ms.append((time.perf_counter() - began) * 1000)
            if not isinstance(settled, Scored):
                late.append(answer_id)


async def noted(answer_id: str, result: Scored | Failed) -> None:
    """Late shares are counted where settle() returned without them."""


async def measure(attributing: Attributing | None, pieces: list[str]) -> dict[str, object]:
    gaps, settle_ms, late = Gaps(), [], []
    cpu = time.process_time()
    until = time.perf_counter() + SECONDS
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(gaps.watch())
        async with asyncio.TaskGroup() as streams:
            for number in range(STREAMS):
                streams.create_task(stream(number, pieces, attributing, until, settle_ms, late))
        watching.cancel()
    return {
        "gap_ms": quantiles(gaps.late_ms),
        "busy_ms": quantiles(gaps.busy_ms),
        "settle_ms": quantiles(settle_ms),
        "answers": len(settle_ms),
        "late": len(late),
        "loop_cpu_s": round(time.process_time() - cpu, 2),
    }


async def test_the_longest_gap_of_the_event_loop_with_attribution_and_without():
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted(TEXTS.iterdir())).split()
    pieces = [word + " " for word in words]
    works = [
        SourceWork(path.stem, path.read_text(encoding="utf-8"), number)
        for number, path in enumerate(sorted(TEXTS.iterdir()))
    ]
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        build_index(works, index)
        attributing = Attributing(
            Settings(), index=lambda: index, metrics=Metrics(), clock=SystemClock(), log=get_log()
        )
        attributing.on_late = noted
        await attributing.start()
        off, on = [], []
        for _ in range(ROUNDS):
            off.append(await measure(None, pieces))
            on.append(await measure(attributing, pieces))
        await attributing.stop()
    print(
        json.dumps(
            {
                "command": "pytest -m bench tests/bench/test_event_loop_gap.py -s",
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
                f"load {os.getloadavg()[0]:.1f}",
                "streams": STREAMS,
                "events_a_second": STREAMS * EVENTS_A_SECOND,
                "seconds_a_round": SECONDS,
                "off": off,
                "on": on,
            }
        )
    )
    assert all(one["busy_ms"]["p99"] < BUSY_MS_AT_MOST for one in (*off, *on))
