"""Several workers as operators run them: real processes on one port, killed and asked in turn."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from proxy.crew import LATE_S, RESTART_S_MIN, SILENT_S, STEADY_S, Crew, Supervisor, _Member
from proxy.settings import Server, Settings, handed_over
from tests.commands import Commands
from tests.processes import serving

SOON_S = 60  # a bound for a slow machine, not a wait
WORKERS = 3


@contextlib.contextmanager
def backend() -> Iterator[str]:
    """The demonstration backend as a process of its own; yield its base URL."""
    command = [sys.executable, "-m", "proxy.demo.backend", "--port", "0", "--piece-ms", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["base_url"]
        finally:
            process.kill()


def members(data: Path) -> dict[str, int]:
    """Return who runs now, by name, as the supervisor has logged it."""
    said = (data.parent / f"{data.name}.log").read_text()
    lines = said[: said.rfind("\n") + 1].splitlines()  # the last may be half written
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return {event["member"]: event["pid"] for event in events if event["event"] == "member_started"}


async def until(is_so, what: str) -> None:
    async with asyncio.timeout(SOON_S):
        while not is_so():  # noqa: ASYNC110  # other processes have no event to wait for
            await asyncio.sleep(0.05)
    assert is_so(), what


def total(text: str, metric: str) -> float:
    return sum(float(n) for n in re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def client(base: str, key: str) -> httpx.AsyncClient:
    # A connection for each request, so that every worker has its turn.
    limits = httpx.Limits(max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=base, headers=headers, timeout=SOON_S, limits=limits, trust_env=False)


async def ask(asked: httpx.AsyncClient, question: str, *, stream: bool = False) -> tuple[str, bytes] | None:
    """Return id and body of an answer whose last byte arrived, None when a worker died under it."""
    body = {
        "model": "demo-credits-1",
        "messages": [{"role": "user", "content": question}],
        "stream": stream,
    }
    try:
        answer = await asked.post("/v1/chat/completions", json=body)
    except httpx.HTTPError:
        return None
    end = b"data: [DONE]" if stream else b"}"
    whole = answer.status_code == 200 and answer.content.rstrip().endswith(end)
    return (answer.headers["x-attribution-id"], answer.content) if whole else None


@pytest.mark.anyio
async def test_killing_a_worker_of_three_and_then_the_scorer_loses_and_doubles_nothing(tmp_path):
    data, rng = tmp_path / "data", random.Random(4)
    run = Commands(data)
    key = run.json("keys", "create", "--role", "app").row["key"]
    acknowledged: list[str] = []
    arguments = ("--workers", str(WORKERS))
    with backend() as upstream, serving(data, "--upstream", upstream, *arguments) as base:
        await until(lambda: len(members(data)) == WORKERS + 1, "everybody starts")
        first = members(data)
        async with client(base, key) as asked:
            stop = asyncio.Event()

            async def go_on() -> None:
                while not stop.is_set():
                    answer = await ask(asked, "Tell me about bees", stream=rng.random() < 0.6)
                    if answer is not None:
                        acknowledged.append(answer[0])

            async with asyncio.TaskGroup() as group:
                for _ in range(6):
                    group.create_task(go_on())
                await until(lambda: len(acknowledged) > 20, "answers flow")
                os.kill(first["worker 1"], signal.SIGKILL)
                await until(lambda: members(data)["worker 1"] != first["worker 1"], "it is started again")
                so_far = len(acknowledged)
                await until(lambda: len(acknowledged) > so_far + 20, "answers go on flowing")
                os.kill(first["scorer"], signal.SIGKILL)
                await until(lambda: members(data)["scorer"] != first["scorer"], "so is the scorer")
                so_far = len(acknowledged)
                await until(lambda: len(acknowledged) > so_far + 20, "answers go on flowing")
                stop.set()
            last = await ask(asked, "And once more")
            assert last is not None
            acknowledged.append(last[0])
            async with asyncio.timeout(SOON_S):
                while (await asked.get(f"/api/receipts/{last[0]}")).status_code == 202:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            metrics = (await asked.get("/metrics")).text
            assert total(metrics, "endcredits_requests_total") >= len(acknowledged) - 1
    events = (await asyncio.to_thread(run.json, "usage", "--events")).rows
    count = collections.Counter(event["id"] for event in events)
    assert [one for one in acknowledged if count[one] == 0] == []
    assert [one for one, times in count.items() if times > 1] == []
    cut = [event for event in events if event["outcome"] == "cut"]
    assert all(event["tokens"]["estimated"] for event in cut)
    (settled,) = [event for event in events if event["id"] == last[0]]
    assert settled["status"] == "settled", "the scorer that came after serves"


@pytest.mark.anyio
async def test_one_scrape_tells_of_all_workers_and_a_revoked_key_is_refused_by_each_within_a_second(tmp_path):
    data = tmp_path / "data"
    run = Commands(data)
    made = run.json("keys", "create", "--role", "app").row
    arguments = ("--workers", str(WORKERS))
    with backend() as upstream, serving(data, "--upstream", upstream, *arguments) as base:
        await until(lambda: len(members(data)) == WORKERS + 1, "everybody starts")
        async with client(base, made["key"]) as asked:
            async with asyncio.TaskGroup() as group:
                for _ in range(30):
                    group.create_task(ask(asked, "Tell me about bees"))
            metrics = (await asked.get("/metrics")).text
            assert total(metrics, "endcredits_requests_total") == 30
            assert total(metrics, "endcredits_events_total") == 30
            assert total(metrics, "endcredits_request_seconds_count") == 30
            await asyncio.to_thread(run, "keys", "revoke", made["id"])
            revoked_s = time.monotonic()
            seen: set[int] = set()
            while time.monotonic() - revoked_s < 1.0:
                seen.add((await asked.get("/v1/models")).status_code)
            assert 401 in seen
            for _ in range(40):
                assert (await asked.get("/v1/models")).status_code == 401


def test_workers_go_when_their_supervisor_is_killed_and_the_port_is_free_again(tmp_path):
    data = tmp_path / "data"
    command = [sys.executable, "-m", "proxy", "serve", "--data", str(data), "--port", "0", "--json"]
    log = tmp_path / "data.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [*command, "--upstream", "http://127.0.0.1:9/v1", "--workers", "2"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    assert httpx.get(f"{url}/readyz", timeout=SOON_S, trust_env=False).status_code == 200
    pids = members(data).values()
    process.kill()
    process.communicate()
    asyncio.run(until(lambda: not any(is_alive(pid) for pid in pids), "they are gone"))
    port = int(url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        pass


SUPERVISED = """
import socket, sys
from proxy.crew import Supervisor
from proxy.observability import configure_logging
configure_logging("info")
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
# It may be stopped before its first word, so that the bound of a start counts too.
sys.exit(Supervisor(listener, workers=2, nice=0, shutdown_s=1, silent_s=8.0, starting_s=40.0).run())
"""


@contextlib.contextmanager
def supervised(data: Path, log: Path) -> Iterator[int]:
    settings = handed_over(Settings(data_dir=data, server=Server(workers=2)))
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISED],
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate(timeout=SOON_S)


@pytest.mark.anyio
async def test_a_worker_whose_event_loop_hangs_is_noticed_killed_and_replaced_and_the_others_are_not(
    tmp_path,
):
    data, log = tmp_path / "data", tmp_path / "data.log"
    await asyncio.to_thread(Commands(data), "keys", "list")  # the store is there
    with supervised(data, log) as port:
        await until(lambda: log.read_text().count('"proxy_started"') == 2, "both serve")
        first = members(data)
        os.kill(first["worker 1"], signal.SIGSTOP)  # alive, and its loop turns no more
        await until(lambda: members(data)["worker 1"] != first["worker 1"], "it is replaced")
        await until(lambda: not is_alive(first["worker 1"]), "the one that hung is gone")
        assert '"member_hung"' in log.read_text()
        await until(lambda: log.read_text().count('"proxy_started"') == 3, "the new one serves")
        async with client(f"http://127.0.0.1:{port}", "nobody's") as asked:
            assert {(await asked.get("/healthz")).status_code for _ in range(20)} == {200}
        assert members(data) == {**first, "worker 1": members(data)["worker 1"]}, "only that one was replaced"


def test_after_a_long_sleep_of_the_supervisor_itself_nobody_is_taken_for_hung():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor = Supervisor(listener, workers=1, nice=0, shutdown_s=1)
        worker = next(member for member in supervisor._members if member.is_worker)
        killed = worker.process = Running()  # pyright: ignore[reportAttributeAccessIssue]
        worker.silent_at_s = 100.0
        supervisor._end_the_hung(101.0 + LATE_S, meant_s=100.0)
        assert not killed.is_killed
        assert worker.silent_at_s == 101.0 + LATE_S + SILENT_S
        supervisor._end_the_hung(worker.silent_at_s, meant_s=worker.silent_at_s)
        assert killed.is_killed
        worker.process = None
        supervisor._stop()


class Running:
    pid, is_killed = 1, False

    def kill(self) -> None:
        self.is_killed = True


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_when_no_worker_can_start_the_server_ends_and_says_why(tmp_path):
    data = tmp_path / "data"
    Commands(data)("keys", "list")
    (data / "signing").mkdir()
    (data / "signing" / "s.key").write_bytes(b"too short")
    command = [sys.executable, "-m", "proxy", "serve", "--data", str(data), "--port", "0", "--workers", "2"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert ran.returncode == 1
    assert "s.key is damaged" in ran.stderr


def test_a_member_that_dies_at_once_is_started_ever_more_slowly_and_a_steady_one_at_once():
    member = _Member("worker 0", (), socket.socket(), Path(), "", is_worker=True)
    pauses = []
    for lived_s in (0.0, 0.0, 0.0, STEADY_S + 1):
        member.process = Ended()  # pyright: ignore[reportAttributeAccessIssue]
        member.began_s = 100.0
        assert member.died(100.0 + lived_s)
        pauses.append(round(member.due_s - 100.0 - lived_s, 3))
    assert pauses == [RESTART_S_MIN, 2 * RESTART_S_MIN, 4 * RESTART_S_MIN, RESTART_S_MIN]
    member.shares.close()


class Ended:
    def poll(self) -> int:
        return 1


def test_the_scorers_socket_lies_in_the_folder_that_all_share():
    assert Crew(Path("/run/x"), 2).scorer == Path("/run/x/scorer.sock")
