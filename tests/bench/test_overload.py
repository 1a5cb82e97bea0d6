"""What one core carries, and what happens above it: 300-token answers, relay and scorer on the same core.

Above what the scorer can do, answers become `pending` at their deadline; tokens are not held up for it, every
text waits for its shares and gets them, and nothing is lost. Prints; what holds on any machine is asserted.

    INDEX=index BENCH=labelled pytest -m bench tests/bench/test_overload.py -s
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import os
import platform
import time

import pytest

from tests.bench.scene import Backend, Client, chat, gauge, made_index, served, waits
from tests.commands import Commands

pytestmark = [pytest.mark.anyio, pytest.mark.bench, pytest.mark.timeout(600)]
CHAT = "/v1/chat/completions"
SECONDS = float(os.environ.get("SECONDS", "10"))
FEW, MANY, WATCHED = 8, 96, 8
PATIENT = "x-attribution-deadline-ms: 60000\r\n"


async def load(
    base: str, key: str, clients: int, seconds: float, headers: str = ""
) -> collections.Counter[str]:
    """Keep so many JSON requests in flight; count what became of their shares."""
    told: collections.Counter[str] = collections.Counter()
    until_s = time.perf_counter() + seconds

    async def one() -> None:
        client = Client(base, key)
        while time.perf_counter() < until_s:
            reply = await client.ask(CHAT, chat(), headers=headers)
            told[reply.attribution if reply.status == 200 else str(reply.status)] += 1
        client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(one())
    return told


async def gaps(base: str, key: str, seconds: float) -> list[float]:
    """Watch paced streams for so long; return the milliseconds between their tokens, in order of size."""
    found: list[float] = []
    until_s = time.perf_counter() + seconds

    async def one(number: int) -> None:
        client = Client(base, key)
        await asyncio.sleep(number * 0.1)
        while time.perf_counter() < until_s:
            await client.ask(CHAT, chat(stream=True, mark="PACED"))
            came = client.pieces_s[:-3]  # the last wait for their shares, by design
            found.extend((b - a) * 1e3 for a, b in itertools.pairwise(came))
        client.close()

    async with asyncio.TaskGroup() as group:
        for number in range(WATCHED):
            group.create_task(one(number))
    return sorted(found)


def at(ordered: list[float], part: float) -> float:
    return round(ordered[int(len(ordered) * part)], 2)


async def drained(base: str) -> float:
    began_s = time.perf_counter()
    while waits(base):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return round(time.perf_counter() - began_s, 2)


async def test_above_what_the_scorer_can_do_answers_are_pending_and_nothing_else_changes(tmp_path):
    index, texts = made_index(tmp_path)
    data = tmp_path / "data"
    async with Backend(texts).serving() as upstream:
        with served(data, index, upstream) as (base, key, tree):
            await load(base, key, FEW, 2.0, PATIENT)  # warm
            before = tree.cpu_s()
            began_s = time.perf_counter()
            inline = await load(base, key, FEW, SECONDS, PATIENT)
            wall_s = time.perf_counter() - began_s
            spent = {role: after - before[role] for role, after in tree.cpu_s().items()}
            calm = await gaps(base, key, SECONDS)
            async with asyncio.TaskGroup() as group:
                over = group.create_task(load(base, key, MANY, SECONDS))
                pressed = group.create_task(gaps(base, key, SECONDS))
            waiting_mib = round(gauge(base, "endcredits_backlog_bytes") / 2**20, 2)
            drain_s = await drained(base)
            memory = tree.private_mib()
    events = (await asyncio.to_thread(Commands(data).json, "usage", "--events")).rows
    count = inline.total()
    result = {
        "command": "pytest -m bench tests/bench/test_overload.py -s",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "index_mib": round(sum(path.stat().st_size for path in index.iterdir()) / 2**20),
        "answers_inline": dict(inline),
        "answers_a_second_of_one_core": round(count / sum(spent.values()), 1),
        "answers_a_second_by_the_clock": round(count / wall_s, 1),
        "cpu_ms_an_answer": {role: round(seconds / count * 1e3, 2) for role, seconds in spent.items()},
        "overload": dict(over.result()),
        "overload_requests_a_second": round(over.result().total() / SECONDS, 1),
        "gap_ms_calm": {"p50": at(calm, 0.5), "p99": at(calm, 0.99)},
        "gap_ms_overload": {"p50": at(pressed.result(), 0.5), "p99": at(pressed.result(), 0.99)},
        "backlog_mib": waiting_mib,
        "drained_after_s": drain_s,
        "private_mib": memory,
        "events": len(events),
    }
    print(json.dumps(result))
    assert set(inline) == {"settled"}
    assert set(over.result()) <= {"settled", "pending", "503"}
    assert {event["status"] for event in events} == {"settled"}
    assert len({event["id"] for event in events}) == len(events)
