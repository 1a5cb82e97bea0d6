"""Kills a process that meters, again and again, and counts what became of every record it acknowledged.

    python tests/crash/journal_kill.py --kills 200

Each child appends answers from 16 callers, repeats some as a client's retry does, and carries them into SQLite. It
dies by SIGKILL: half of the time at a random moment, half at a failpoint (before a write, half-way through one,
before and after its sync, before and after a statement, at a commit). In the end every acknowledged record must be
in the store exactly once, with its own content. Limit: a killed process leaves the kernel's cached pages behind, so
this says nothing about a power cut; the journal's own tests cut its files at every byte for that.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import random
import select
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import structlog

from proxy.clock import SystemClock
from proxy.database import open_engine
from proxy.metering import log_store, store
from proxy.metering.journal import Journal
from proxy.metering.segments import Disk
from proxy.metering.sink import Sink, carry_orphans
from proxy.metering.usage import PPM, Attributed, Begun, Line, Used
from proxy.settings import Metering

SETTINGS = Metering(segment_bytes=200_000, carry_ms=5, carry_events=50)
CALLERS = 16
RETRIED = 0.15
FAILPOINTS = ("write", "half_write", "sync", "synced", "statement", "stated", "commit")


@dataclass(frozen=True)
class Report:
    """acked: records acknowledged; stored: answers in the store; lost and doubled must be 0."""

    kills: int
    acked: int
    stored: int
    cut: int
    lost: int
    doubled: int

    def __str__(self) -> str:
        return (
            f"{self.kills} kills: acked {self.acked}, stored {self.stored}, cut {self.cut}, "
            f"lost {self.lost}, doubled {self.doubled}"
        )


def run_and_kill(child: Callable[[int], None], *, after_s: float) -> list[str]:
    """Fork `child`, which writes a line to the pipe it is given for each acknowledgement; kill it; return the lines.

    It is killed `after_s` after its first line, unless it kills itself before.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        try:
            child(write_end)
        finally:
            os._exit(3)
    os.close(write_end)
    text = bytearray()
    deadline = time.monotonic() + 30
    while True:
        ready, _, _ = select.select([read_end], [], [], max(deadline - time.monotonic(), 0))
        piece = os.read(read_end, 1 << 16) if ready else b""
        if not piece:
            break
        if not text:
            deadline = time.monotonic() + after_s
        text += piece
    os.kill(pid, signal.SIGKILL)
    while piece := os.read(read_end, 1 << 16):
        text += piece
    os.close(read_end)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"the child ended by itself with status {status}")
    return text.decode().split("\n")[:-1]


def used(answer: str) -> Used:
    """The usage of an answer is a function of its id, so that the store can be compared with it."""
    return Used(
        id=answer, occurred_us=1_780_000_000_000_000, app="app_a", backend="b", model="m", endpoint="/v1/chat/completions",
        outcome="complete", input_tokens=1, output_tokens=zlib.crc32(answer.encode()), estimated=False,
    )  # fmt: skip


def attributed(answer: str) -> Attributed:
    part = 1 + zlib.crc32(answer.encode()) % 1000
    lines = tuple(Line(f"w_{number}", part) for number in range(5))
    return Attributed(id=answer, unattributed_ppm=PPM - 5 * part, lines=lines)


class FatalDisk(Disk):
    """Dies by SIGKILL at a failpoint once it has been passed `countdown` times."""

    def __init__(self, failpoint: str, countdown: int) -> None:
        self.failpoint, self.countdown = failpoint, countdown

    def reach(self, failpoint: str) -> None:
        if failpoint == self.failpoint:
            self.countdown -= 1
            if self.countdown <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        self.reach("write")
        if self.failpoint == "half_write" and self.countdown == 1:
            super().write(descriptor, data[: random.randrange(len(data) + 1)], offset)
        self.reach("half_write")
        return super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self.reach("sync")
        super().sync(descriptor)
        self.reach("synced")


async def meter(folder: Path, url: str, seed: int, pipe: int) -> None:
    """What a child does until it is killed."""
    rng = random.Random(seed)
    disk = FatalDisk(rng.choice(FAILPOINTS) if rng.random() < 0.5 else "", rng.randrange(3, 120))
    engine = open_engine(url)
    sa.event.listen(engine, "before_cursor_execute", lambda *_: disk.reach("statement"))
    sa.event.listen(engine, "after_cursor_execute", lambda *_: disk.reach("stated"))
    sa.event.listen(engine, "commit", lambda *_: disk.reach("commit"))
    journal = Journal.open(folder, settings=SETTINGS, clock=SystemClock(), disk=disk)
    sink = Sink(journal, engine, settings=SETTINGS)

    async def call(caller: int) -> None:
        for number in range(1_000_000):
            answer = f"rct_{seed}_{caller}_{number}"
            journal.begin(
                Begun(id=answer, occurred_us=1, app="app_a", model="m", endpoint="/v1/x", input_tokens=1)
            )
            if rng.random() < RETRIED:
                await asyncio.sleep(
                    rng.random() / 30
                )  # the backend thinks: a kill now finds an answer in flight
            for letter, record in (("U", used(answer)), ("A", attributed(answer))):
                await journal.append(record)
                os.write(pipe, f"{letter} {answer}\n".encode())
                if rng.random() < RETRIED:
                    await journal.append(record)

    async with asyncio.TaskGroup() as group:
        group.create_task(sink.run())
        for caller in range(CALLERS):
            group.create_task(call(caller))


def verify(folder: Path, url: str, acked: list[str], kills: int) -> Report:
    """Restart once more, carry everything, and compare the store with what was acknowledged."""

    async def settle() -> None:
        engine = open_engine(url)
        for sink in await carry_orphans(folder, engine, settings=SETTINGS, clock=SystemClock()):
            for unsettled in sink.journal.unsettled():
                await sink.journal.append(attributed(unsettled.id))
            await sink.drain()
            await sink.journal.close()
            await sink.close()
        engine.dispose()

    asyncio.run(settle())
    engine = open_engine(url)
    found = {event.id: event for event in store.usage(engine)}
    counted = [event.id for event in log_store.events_between(engine, {}, store.watermarks(engine))]
    lost = 0
    for line in acked:
        letter, answer = line.split(" ")
        event, expected = found.get(answer), attributed(answer)
        if (
            event is None
            or (event.outcome, event.output_tokens) != ("complete", used(answer).output_tokens)
            or (
                letter == "A"
                and (event.lines, event.unattributed_ppm) != (expected.lines, expected.unattributed_ppm)
            )
        ):
            lost += 1
    with engine.connect() as connection:
        lines = connection.scalar(sa.text("SELECT count(*) FROM event_line"))
    cut = sum(event.outcome == "cut" for event in found.values())
    doubled = (
        len(counted)
        - len(set(counted))
        + abs(lines - 5 * (len(found) - cut))
        + abs(len(counted) - len(found))
    )
    engine.dispose()
    return Report(kills, len(acked), len(found), cut, lost, doubled)


def kill_many(data: Path, kills: int, seed: int) -> Report:
    """Run and kill `kills` children one after the other on one data folder; return what became of their records."""
    rng = random.Random(seed)
    folder, url = data / "journal", f"sqlite:///{data / 'store.db'}"
    engine = open_engine(url)
    _create_tables(engine)
    engine.dispose()
    acked: list[str] = []
    for kill in range(kills):
        child_seed = seed * 1_000_000 + kill

        def child(pipe: int, child_seed: int = child_seed) -> None:
            asyncio.run(meter(folder, url, child_seed, pipe))

        acked += run_and_kill(child, after_s=rng.uniform(0.02, 0.45))
    return verify(folder, url, acked, kills)


def _create_tables(engine: sa.Engine) -> None:
    path = Path(__file__).parents[1] / "proxy/metering/conftest.py"
    spec = importlib.util.spec_from_file_location("metering_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.create_tables(engine)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # tails are cut by the hundred here
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="endcredits-crash-") as data:
        report = kill_many(Path(data), options.kills, options.seed)
    print(report)
    return 0 if report.lost == report.doubled == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
