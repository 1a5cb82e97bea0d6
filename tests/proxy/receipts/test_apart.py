from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.receipts import apart, store
from proxy.receipts.apart import Apart
from tests.proxy.receipts.conftest import carry

# A process of its own: it forks, and a test run has threads that must not be. It says where the process is that
# appends, then waits until that has ended.
SERVER = """
import asyncio, sys
from pathlib import Path
from proxy.receipts.apart import Apart
from proxy.settings import Receipts, Settings, Store

folder, url = sys.argv[1:]
apart = Apart.fork(Settings(data_dir=Path(folder), store=Store(url=url), receipts=Receipts(append_ms=10)))
print(apart._pid, flush=True)
asyncio.run(apart.run())
print("alone", flush=True)
"""
SOON_S = 20.0  # a bound for a slow machine


def until(holds) -> None:
    ends_s = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < ends_s
        os.sched_yield()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def priority(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at as Linux shows them")
@pytest.mark.parametrize("killed", ["appender", "server"])
def test_it_appends_what_is_carried_until_it_or_its_server_is_killed(engine, store_url, tmp_path, killed):
    carry(engine, range(3))
    command = [sys.executable, "-c", SERVER, str(tmp_path), store_url]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as server:
        try:
            appender = int(server.stdout.readline())
            until(lambda: store.read_state(engine).size == 3)
            carry(engine, [3])
            until(lambda: store.read_state(engine).size == 4)
            assert priority(appender) == min(priority(server.pid) + apart.NICE, 19)
            os.kill(appender, signal.SIGTERM)  # as when a service manager asks the whole group
            os.kill(appender if killed == "appender" else server.pid, signal.SIGKILL)
            until(lambda: not lives(appender))
            assert server.stdout.read() == ("alone\n" if killed == "appender" else "")
        finally:
            server.kill()


@pytest.fixture
def told():
    """Return (what the server sees, the other's end of the line, its process)."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield Apart(process.pid, ours), theirs, process
    process.kill()
    process.wait()
    theirs.close()
    ours.close()


async def turned(holds) -> None:
    while True:
        await asyncio.sleep(0)
        if holds():
            return


@pytest.mark.anyio
async def test_the_server_says_what_it_was_told_and_ends_it_when_it_stops(told, monkeypatch):
    seen, theirs, process = told
    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(seen.run())
        assert seen.problem is None
        theirs.send(b'{"code":"store_unavailable","cause":"it is away"}\n')
        await turned(lambda: seen.problem is not None)
        assert (seen.problem.code, seen.problem.cause) == ("store_unavailable", "it is away")
        theirs.send(b"{}\n")
        await turned(lambda: seen.problem is None)
        monkeypatch.setattr(apart, "SILENT_S", -1.0)
        assert seen.problem.code == "log_silent"
        running.cancel()
    assert not lives(process.pid)
    assert seen.problem is None


@pytest.mark.anyio
async def test_one_that_talks_nonsense_is_ended(told):
    seen, theirs, process = told
    theirs.send(b"nonsense\n")
    await seen.run()
    assert not lives(process.pid)
