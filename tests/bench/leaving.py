"""How answers leave a store that somebody else writes to: speed, the longest wait of the other, and bytes.

    python -m tests.bench.leaving --lines 250000

A period of so many lines, five an answer, is closed and let go of, while a second process commits a row every
few milliseconds, as a carrier does. Prints the answers a second, the longest transaction of the leaving, how long
the other's commits took with and without it, and what store and archive take. Wall times say something on a
quiet machine only.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from proxy.billing import retention_store
from proxy.billing.audit_store import audit
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.database import open_engine
from proxy.receipts.appending import drain
from proxy.receipts.receipt import Secrets
from proxy.settings import Billing, Retention
from tests.bench.closing import BEGIN_US, make

DAY_US = 86_400_000_000
PAUSE_S = 0.005
STEADY_S = 5.0


def write_on(path: str) -> None:
    """Commit a row again and again until told to stop; print how long each took, in microseconds."""
    store = sqlite3.connect(path, timeout=30, isolation_level=None)
    store.execute("PRAGMA synchronous = FULL")
    stop = Path(f"{path}.stop")
    while not stop.exists():
        began_s = time.perf_counter()
        store.execute("UPDATE shard SET next_index = next_index + 1 WHERE id = 'shd_other'")
        print(round((time.perf_counter() - began_s) * 1e6), flush=True)
        time.sleep(PAUSE_S)


def timed(path: Path, work: Callable[[], None]) -> list[int]:
    """Do `work` while the other process writes; return its commits' microseconds, sorted."""
    stop = Path(f"{path}.stop")
    stop.unlink(missing_ok=True)
    other = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.leaving", "--write-on", str(path)], stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    first = other.stdout.readline()  # it has begun
    work()
    stop.touch()
    said, _ = other.communicate(timeout=60)
    return sorted(int(line) for line in (first + said).split())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="answers leave a store that is written to")
    parser.add_argument("--lines", type=int, default=250_000)
    parser.add_argument("--write-on", metavar="STORE")
    options = parser.parse_args()
    if options.write_on:
        write_on(options.write_on)
        return
    folder = Path(tempfile.mkdtemp(prefix="ec-leaving-"))
    try:
        measure(folder, options.lines)
    finally:
        shutil.rmtree(folder)


def settled_bytes(engine: sa.Engine, path: Path) -> int:
    """Return the file's bytes when nothing of it is in the log beside it."""
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def measure(folder: Path, lines: int) -> None:
    """Make a period, let it go, and tell how that went."""
    path = folder / "store.db"
    make(path, lines)
    engine = open_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO shard (id, next_index) VALUES ('shd_other', 0)"))
    close_period(engine, "2026-11", Billing(comment_days=0), load(), dry_run=False, now_us=BEGIN_US)
    drain(engine, lambda _us: Secrets(bytes(32)))
    before = settled_bytes(engine, path)
    steady = timed(path, lambda: time.sleep(STEADY_S))
    left: list[retention_store.Left] = []
    began_s, began_cpu_s = time.perf_counter(), time.process_time()

    def leave() -> None:
        made = retention_store.retain(
            engine,
            Retention(usage_days=1),
            folder,
            seal=lambda _: "",
            by="bench",
            now_us=BEGIN_US + 2 * DAY_US,
        )
        left.extend(made)

    waits = timed(path, leave)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    (one,) = left
    broken = [found.id for found in audit(engine) if found.state == "broken"]
    after = settled_bytes(engine, path)
    engine.dispose()
    archive = (folder / "archive" / one.archive).stat().st_size
    print(f"{one.deleted:,} answers of {lines:,} lines left in {took_s:.0f} s ({cpu_s:.0f} s of CPU)")
    print(f"longest transaction {one.longest_us / 1_000:.1f} ms; invariants broken: {broken or 'none'}")
    for name, times in (("without", steady), ("with", waits)):
        p99 = times[len(times) * 99 // 100]
        print(f"another's commit {name} it: p99 {p99 / 1_000:.1f} ms, longest {times[-1] / 1_000:.1f} ms")
    print(f"store {before / 1e6:.1f} MB, then {after / 1e6:.1f} MB; archive {archive / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
