"""Kill -9 the whole server under load, again and again, and count what its clients were told.

    python tests/crash/server_kill.py --kills 50

Clients read answers (JSON and streams) through a real `endcredits serve` in front of the demonstration backend.
An answer counts as acknowledged when its last byte arrived. After every kill the server starts again on the same
data folder. At the end each acknowledged answer must have exactly one usage event, and all of them close as a month
of which every invariant holds. Prints the counts; exits 1 when any answer was lost or doubled, or the books are
broken. Load is bounded: a fixed number of clients, a fixed number of kills.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

READY_S = 60  # a start under load on two busy cores; typical is under 3 s
PROMPTS = (
    "Tell me about bees",
    "What is the tide?",
    "Write about bread",
    "Explain photosynthesis",
    "A song, please",
)


def free_port() -> int:
    """Return a loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    """Start `python -m ...` in a process group of its own, its output appended to `log`."""
    with log.open("ab") as out:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,
        )


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return when `url` answers 200; fail loudly when it never does."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"the server stopped by itself with {process.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise SystemExit(f"{url} did not answer 200 within {READY_S} s")


async def one_answer(client: httpx.AsyncClient, key: str, rng: random.Random) -> str | None:
    """Return the attribution id of an answer whose last byte arrived, else None."""
    stream = rng.random() < 0.6
    body = {
        "model": "demo-credits-1",
        "messages": [{"role": "user", "content": rng.choice(PROMPTS)}],
        "stream": stream,
    }
    try:
        async with client.stream(
            "POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}
        ) as response:
            content = b"".join([piece async for piece in response.aiter_raw()])
    except httpx.HTTPError:
        return None
    if response.status_code != 200:
        return None
    whole = content.rstrip().endswith(b"data: [DONE]") if stream else content.rstrip().endswith(b"}")
    return response.headers["x-attribution-id"] if whole else None


async def load(
    base: str, key: str, clients: int, stop: asyncio.Event, acked: list[str], rng: random.Random
) -> None:
    """Keep `clients` requests in flight until told to stop or the server is gone."""
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False, limits=limits) as client:

        async def worker() -> None:
            while not stop.is_set():
                found = await one_answer(client, key, rng)
                if found is None:
                    await asyncio.sleep(0.01)
                else:
                    acked.append(found)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(worker())


async def round_of_load(
    base: str, key: str, options: argparse.Namespace, acked: list[str], server: subprocess.Popen[bytes]
) -> None:
    """Load the server for a random while, then kill it and let the clients notice."""
    rng: random.Random = options.rng
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(load(base, key, options.clients, stop, acked, rng))
        await asyncio.sleep(rng.uniform(0.15, options.seconds))
        os.killpg(server.pid, signal.SIGKILL)
        stop.set()


def main() -> int:
    """Run the rounds and print the counts."""
    parser = argparse.ArgumentParser(description="kill -9 the whole server under load and count")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.2, help="longest life of a server under load")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="endcredits-crash-") as folder:
        return run(Path(folder), options)


def run(folder: Path, options: argparse.Namespace) -> int:
    """Do it all inside `folder`."""
    log, data = folder / "log", folder / "data"
    backend_port, port = free_port(), free_port()
    backend = start("proxy.demo.backend", "--port", str(backend_port), "--piece-ms", "1", log=log)
    processes = [backend]
    base = f"http://127.0.0.1:{port}"
    upstream = f"http://127.0.0.1:{backend_port}/v1"
    acked: list[str] = []
    try:
        wait_for(f"{upstream}/models", backend)
        key = command(data, "keys", "create", "--role", "app", "--name", "crash", "--json")[0]["key"]
        for number in range(options.kills + 1):
            arguments = ("serve", "--data", str(data), "--port", str(port), "--upstream", upstream)
            server = start("proxy", *arguments, log=log)
            processes.append(server)
            wait_for(f"{base}/readyz", server)
            if number == options.kills:
                break
            asyncio.run(round_of_load(base, key, options, acked, server))
            server.wait()
        wait_until_carried(base)
        server.send_signal(signal.SIGTERM)
        stopped = server.wait(30)
        events = command(data, "usage", "--events", "--json")
        return report(events, acked, options.kills, stopped, unbalanced(data))
    except BaseException:
        sys.stderr.write(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_carried(base: str) -> None:
    """Return when the journal has nothing left for the store."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        text = httpx.get(f"{base}/metrics", timeout=5, trust_env=False).text
        lag = [
            line.split()[-1]
            for line in text.splitlines()
            if line.startswith("endcredits_journal_lag_records ")
        ]
        if lag and float(lag[0]) == 0:
            return
        time.sleep(0.1)
    raise SystemExit("the journal was not carried to the store in time")


def command(data: Path, *arguments: str, may_fail: bool = False) -> list[dict[str, object]]:
    """Run an endcredits command on the data folder and return its JSON lines."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *arguments, "--data", str(data)],
        check=not may_fail,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def unbalanced(data: Path, *arguments: str) -> int:
    """Close all that was metered as a month, and return how many invariants the audit finds broken."""
    command(data, "periods", "close", "crash", "--json", *arguments)
    items = command(data, "audit", "--json", *arguments, may_fail=True)
    assert len(items) >= 20, "the audit did not come to its end"
    return sum(one["state"] == "broken" for one in items)


def report(events: list[dict[str, object]], acked: list[str], kills: int, stopped: int, broken: int) -> int:
    """Compare what clients were told with what was metered."""
    count = collections.Counter(str(event["id"]) for event in events)
    outcomes = collections.Counter(str(event["outcome"]) for event in events)
    lost = sum(1 for name in acked if count[name] == 0)
    doubled = sum(1 for times in count.values() if times > 1)
    print(
        f"kills {kills}, answers acknowledged {len(acked)}, events {len(events)} {dict(outcomes)}, "
        f"lost {lost}, doubled {doubled}, unbalanced {broken}, last stop exited {stopped}"
    )
    return 1 if lost or doubled or broken or stopped or not acked else 0


if __name__ == "__main__":
    sys.exit(main())
