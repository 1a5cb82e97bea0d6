"""Mixed load for as long as wanted, and whether memory grows: `make soak HOURS=n`, ten minutes without.

JSON answers, streams, clients that leave half-way, failing backends, embeddings, long requests. Text that waits
for a scorer which other programs starve is memory too, and no leak: so the clients hold back while much waits, and
each of twenty times they stop until nothing is asked and nothing waits before memory is taken. What has grown
then is kept by nobody's wish. Taken is the private memory of the whole process tree, pages that were written (those
of files come and go with other programs); after the first minute it must not grow by more than 2 %. Prints a table;
exits 1 beyond, when what waits is not worked off, or when an answer was lost or doubled.
"""

from __future__ import annotations

import asyncio
import collections
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.scene import Backend, Client, Reply, Tree, chat, gauge, made_index, served, waits
from tests.commands import Commands

CHAT = "/v1/chat/completions"
CLIENTS, ROWS = 12, 20
WARM_S = 60.0
GROWTH_MAX = 0.02
SAMPLES = 5  # a row is the least of so many: what is in flight comes and goes
REST_S = float(os.environ.get("REST_S") or 0.3)  # between two requests of one client
WAITING_BYTES_MAX = 256 << 10  # about 180 answers: a scorer with a tenth of a core is through within a minute
REST_S_MAX = 300.0  # what waits longer than this is never worked off


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


@dataclass
class Load:
    """Clients that ask one thing after the other, as long as they may."""

    base: str
    key: str
    may_ask: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False
    asking: int = 0
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    acked: list[str] = field(default_factory=list)

    async def run(self, number: int) -> None:
        """Be one client, to the end."""
        chance, client = random.Random(number), Client(self.base, self.key)
        while True:
            await self.may_ask.wait()
            if self.is_over:
                client.close()
                return
            self.asking += 1
            kind, reply = await one(client, chance)
            self.asking -= 1
            self.counts[kind] += 1
            if reply.status == 200 and kind != "leaves":
                self.acked.append(reply.answer_id)
            await asyncio.sleep(REST_S)

    def end(self) -> None:
        self.is_over = True
        self.may_ask.set()

    async def ask_for(self, seconds: float) -> float:
        """Let the clients ask for so long, but not above WAITING_BYTES_MAX; return the most that waited."""
        most, until_s = 0.0, time.perf_counter() + seconds
        while time.perf_counter() < until_s:
            waiting = await asyncio.to_thread(gauge, self.base, "endcredits_backlog_bytes")
            most = max(most, waiting)
            if waiting > WAITING_BYTES_MAX:
                self.may_ask.clear()
            else:
                self.may_ask.set()
            await asyncio.sleep(0.5)
        self.may_ask.clear()
        return most

    async def rest(self) -> float:
        """Wait until nothing is asked and nothing waits; return the seconds that took."""
        began_s = time.perf_counter()
        async with asyncio.timeout(REST_S_MAX):
            while self.asking or await asyncio.to_thread(waits, self.base):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return time.perf_counter() - began_s


async def least(tree: Tree) -> dict[str, float]:
    """Return the least private memory of some moments."""
    found = []
    for _ in range(SAMPLES):
        found.append(await asyncio.to_thread(tree.private_mib, "Private_Dirty"))
        await asyncio.sleep(0.3)
    return min(found, key=lambda one: one["relay"] + one["scorer"])


async def measure(load: Load, tree: Tree, seconds: float) -> list[dict[str, float]]:
    """Return the private MiB of each row after the first minute, each taken when nothing waits."""
    rows, began_s = list[dict[str, float]](), time.perf_counter()
    print(f"{'minute':>7} {'requests':>9} {'relay MiB':>10} {'scorer MiB':>11} {'index MiB':>10}", end=" ")
    print(f"{'waited KiB':>11} {'rested s':>9}", flush=True)
    next_s = min(WARM_S, seconds / 3)
    while True:
        most = await load.ask_for(next_s)
        rested_s = await load.rest()
        found = await least(tree)
        rows.append(found)
        gone_s, next_s = time.perf_counter() - began_s, seconds / ROWS
        row = f"{found['relay']:>10.1f} {found['scorer']:>11.1f} {found['index']:>10.1f}"
        print(
            f"{gone_s / 60:>7.1f} {load.counts.total():>9} {row} {most / 1024:>11.0f} {rested_s:>9.1f}",
            flush=True,
        )
        if gone_s >= seconds:
            break
    return rows


def grown(rows: list[float]) -> tuple[float, float]:
    """Return the medians of the first quarter of the rows and of the last."""
    part = max(1, len(rows) // 4)
    return statistics.median(rows[:part]), statistics.median(rows[-part:])


async def soak(folder: Path, seconds: float) -> int:
    index, texts = made_index(folder)
    data = folder / "data"
    async with Backend(texts).serving() as upstream:
        with served(data, index, upstream) as (base, key, tree):
            load = Load(base, key)
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(load.run(number))
                rows = await measure(load, tree, seconds)
                load.end()
    metered = collections.Counter(event["id"] for event in (await _usage(data)))
    lost = sum(1 for one in load.acked if metered[one] == 0)
    doubled = sum(1 for times in metered.values() if times > 1)
    for name in ("relay", "scorer"):
        first, last = grown([row[name] for row in rows])
        print(
            f"{name}: {first:.1f} -> {last:.1f} MiB, {(last - first) / load.counts.total() * 2**20:+.0f} bytes a request"
        )
    first, last = grown([row["relay"] + row["scorer"] for row in rows])
    growth = (last - first) / first
    print(f"{dict(load.counts)}; {len(load.acked)} acknowledged, {lost} lost, {doubled} doubled")
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
