"""Mixed load for as long as wanted, and whether memory grows: `make soak HOURS=n`, ten minutes without.

JSON answers, streams, clients that leave half-way, failing backends, embeddings, long requests. Private memory of
the whole process tree, pages that were written (those of files come and go with other programs), is taken twenty
times; after the first minute it must not grow by more than 2 %. Prints a table; exits 1 beyond, or when an answer
was lost or doubled.
"""

from __future__ import annotations

import asyncio
import collections
import os
import random
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.bench.scene import Backend, Client, Reply, Tree, chat, made_index, served
from tests.commands import Commands

CHAT = "/v1/chat/completions"
CLIENTS, ROWS = 12, 20
WARM_S = 60.0
GROWTH_MAX = 0.02
SAMPLES = 5  # a row is the least of so many: what is in flight comes and goes
REST_S = (
    0.3  # between two requests of one client: a load that can last, or texts that wait would be what grows
)


async def one(client: Client, chance: random.Random) -> tuple[str, Reply]:
    """Make one request of the mixture; return what it was, and its reply."""
    kind = chance.choices(["json", "stream", "leaves", "fails", "embeds", "long"], [30, 30, 10, 10, 15, 5])[0]
    match kind:
        case "stream":
            return kind, await client.ask(CHAT, chat(stream=True))
        case "leaves":
            return kind, await client.ask(CHAT, chat(stream=True), leave_after=chance.randint(1, 40))
        case "fails":
            return kind, await client.ask(CHAT, chat(mark="FAIL"))
        case "embeds":
            return kind, await client.ask("/v1/embeddings", b'{"model":"m","input":"words"}')
        case "long":
            return kind, await client.ask(CHAT, chat(size=200_000))
        case _:
            return kind, await client.ask(CHAT, chat())


async def load(
    base: str, key: str, stop: asyncio.Event, counts: collections.Counter[str], acked: list[str]
) -> None:
    async def worker(number: int) -> None:
        chance, client = random.Random(number), Client(base, key)
        while not stop.is_set():
            kind, reply = await one(client, chance)
            counts[kind] += 1
            if reply.status == 200 and kind != "leaves":
                acked.append(reply.answer_id)
            await asyncio.sleep(REST_S)
        client.close()

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(worker(number))


def backlog_mib(base: str) -> float:
    """Return how much text waits for its shares."""
    told = httpx.get(f"{base}/metrics", timeout=60, trust_env=False).text
    found = re.search(r"^endcredits_backlog_bytes (\S+)$", told, re.MULTILINE)
    return float(found[1]) / 2**20 if found else 0.0


async def least(tree: Tree) -> dict[str, float]:
    """Return the least private memory of some moments."""
    found = []
    for _ in range(SAMPLES):
        found.append(await asyncio.to_thread(tree.private_mib, "Private_Dirty"))
        await asyncio.sleep(0.3)
    return min(found, key=lambda one: one["relay"] + one["scorer"])


async def measure(
    base: str, key: str, tree: Tree, seconds: float, acked: list[str], counts: collections.Counter[str]
) -> list[float]:
    """Return the whole tree's private MiB of each row after the first minute."""
    stop, rows, began_s = asyncio.Event(), list[float](), time.perf_counter()
    print(
        f"{'minute':>8} {'requests':>9} {'relay MiB':>10} {'scorer MiB':>11} {'index MiB':>10} {'waiting MiB':>12}",
        flush=True,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(load(base, key, stop, counts, acked))
        await asyncio.sleep(min(WARM_S, seconds / 3))
        while True:
            found = await least(tree)
            rows.append(found["relay"] + found["scorer"])
            gone_s = time.perf_counter() - began_s
            row = f"{found['relay']:>10.1f} {found['scorer']:>11.1f} {found['index']:>10.1f}"
            waiting = await asyncio.to_thread(backlog_mib, base)
            print(f"{gone_s / 60:>8.1f} {counts.total():>9} {row} {waiting:>12.2f}", flush=True)
            if gone_s >= seconds:
                break
            await asyncio.sleep(max(0.0, seconds / ROWS))
        stop.set()
    return rows


async def soak(folder: Path, seconds: float) -> int:
    index, texts = made_index(folder)
    data, acked, counts = folder / "data", list[str](), collections.Counter[str]()
    async with Backend(texts).serving() as upstream:
        with served(data, index, upstream) as (base, key, tree):
            rows = await measure(base, key, tree, seconds, acked, counts)
    metered = collections.Counter(event["id"] for event in (await _usage(data)))
    lost = sum(1 for one in acked if metered[one] == 0)
    doubled = sum(1 for times in metered.values() if times > 1)
    part = max(1, len(rows) // 4)
    first, last = statistics.median(rows[:part]), statistics.median(rows[-part:])
    growth = (last - first) / first
    print(f"{dict(counts)}; {len(acked)} acknowledged, {lost} lost, {doubled} doubled")
    print(f"private memory {first:.1f} -> {last:.1f} MiB: {growth:+.2%} (at most {GROWTH_MAX:.0%})")
    return 1 if growth > GROWTH_MAX or lost or doubled else 0


async def _usage(data: Path) -> list[dict[str, str]]:
    return (await asyncio.to_thread(Commands(data).json, "usage", "--events")).rows


def main() -> int:
    seconds = float(os.environ.get("HOURS") or 1 / 6) * 3600
    with tempfile.TemporaryDirectory(prefix="endcredits-soak-") as folder:
        return asyncio.run(soak(Path(folder), seconds))


if __name__ == "__main__":
    sys.exit(main())
