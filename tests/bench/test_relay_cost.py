"""What the relay costs above its transport: processor time for an answer and for an event of a stream.

Two servers take turns before one backend: the product as operators run it, with nothing registered, its usage on
disk before the last byte, its scorer counted in; and a bare pass-through, a Litestar mount on the same server
and the same connections to the backend, that reads nothing. What is counted is processor time and not wall time,
so that other work on the machine does little to it; the ratios are of rounds that took turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import uvicorn
from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send

from proxy.access.store import create_key
from proxy.clock import RandomIds, SystemClock
from proxy.database import open_engine, upgrade
from proxy.relay.connections import Connections
from proxy.relay.transport import origin_of
from proxy.settings import Server, Settings
from proxy.worker import options
from tests.processes import serving

pytestmark = [pytest.mark.bench, pytest.mark.anyio]
ROUNDS = 5
EVENTS = 300
PACE_S = 0.01
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
# How many clients ask at once, and how often each asks in a round.
LOADS = {"json": (16, 60), "burst": (8, 8), "paced": (32, 1)}


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


def request_of(kind: str) -> bytes:
    asked = {"model": kind, "messages": [{"role": "user", "content": "x" * 150}]}
    return json.dumps(asked if kind == "json" else {**asked, "stream": True}).encode()


def event(value: dict[str, object]) -> bytes:
    data = {
        "id": "chatcmpl-1234567890",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        **value,
    }
    text = b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(text), text)


def told(place: int) -> bytes:
    delta = {"content": f"word{place} "}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return event({"system_fingerprint": "fp_0123456789", "choices": [choice]})


def end() -> bytes:
    usage = {"prompt_tokens": 40, "completion_tokens": EVENTS, "total_tokens": 40 + EVENTS}
    done = b"data: [DONE]\n\n"
    return b"".join(
        (
            event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            event({"choices": [], "usage": usage}),
            b"%x\r\n%b\r\n" % (len(done), done),
            LAST,
        )
    )


def whole() -> bytes:
    message = {"role": "assistant", "content": "word " * EVENTS}
    usage = {"prompt_tokens": 40, "completion_tokens": EVENTS, "total_tokens": 40 + EVENTS}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({"id": "chatcmpl-1", "model": "m", "choices": [choice], "usage": usage}).encode()
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )


# -- the backend and the bare relay, each in a process of its own


TOLD = tuple(told(place) for place in range(EVENTS))
ANSWERS = {b"json": whole(), b"burst": HEAD + b"".join(TOLD) + end()}


class Backend(asyncio.Protocol):
    """Answers by the model it is asked for: json, burst, paced."""

    def connection_made(self, transport):
        self.transport = transport
        self.seen = b""

    def data_received(self, data):
        self.seen += data
        _, found, body = self.seen.partition(b"\r\n\r\n")
        if not found or not body.endswith(b"}"):
            return
        self.seen = b""
        for model, answer in ANSWERS.items():
            if b'"model": "%b"' % model in body:
                self.transport.write(answer)
                return
        self.transport.write(HEAD)
        loop = asyncio.get_running_loop()
        self.say(loop, loop.time(), 0)

    def say(self, loop, began_s, place):
        if place == EVENTS:
            self.transport.write(end())
        elif not self.transport.is_closing():
            self.transport.write(TOLD[place])
            loop.call_at(began_s + (place + 1) * PACE_S, self.say, loop, began_s, place + 1)


async def be_backend() -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", 0, backlog=1024)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await server.serve_forever()


def be_bare(backend: str) -> None:
    connections = Connections(origin_of(httpx.URL(backend), None))

    @asgi("/v1", is_mount=True, copy_scope=False)
    async def relay(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        reply = await connections.ask(
            scope["method"], scope["raw_path"], scope["headers"], body, connect_s=20, first_byte_s=60, idle_s=60
        )  # fmt: skip
        kept = [(name, value) for name, value in reply.headers if name.lower() != b"transfer-encoding"]
        await send({"type": "http.response.start", "status": reply.status, "headers": kept})
        while (piece := await reply.read()) is not None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        reply.close()
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(Litestar([relay], logging_config=None), port=0, **options(Server()))
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    server.run(sockets=[listener])


# -- the client and the measuring


class Client(asyncio.Protocol):
    """One connection; `ask` returns how many bytes of its answer came."""

    def __init__(self):
        self.answered = asyncio.get_running_loop().create_future()
        self.ends = LAST

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.seen += len(data)
        self.tail = (self.tail + data)[-8:]
        if self.tail.endswith(self.ends):
            self.answered.set_result(self.seen)

    def connection_lost(self, exc):
        if not self.answered.done():
            self.answered.set_exception(ConnectionError("the relay hung up"))

    async def ask(self, request: bytes, ends: bytes) -> int:
        self.answered = asyncio.get_running_loop().create_future()
        self.ends, self.seen, self.tail = ends, 0, b""
        self.transport.write(request)
        return await self.answered


async def load(url: str, kind: str, key: str) -> int:
    """Ask as LOADS says; return how many answers came."""
    clients, times = LOADS[kind]
    body = request_of(kind)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    where = httpx.URL(url)
    ends = b"}" if kind == "json" else LAST

    async def one() -> None:
        transport, client = await asyncio.get_running_loop().create_connection(Client, where.host, where.port)
        for _ in range(times):
            assert await client.ask(head + body, ends) > (1_000 if kind == "json" else 50_000)
        transport.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return clients * times


def family(pid: int) -> list[int]:
    """Return a process and all that it has started, and they."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found += family(int(stat.parent.name))
    return found


def cpu_s(pids: list[int]) -> float:
    """Return the processor time that these processes have used, to the nanosecond (see clock_getcpuclockid)."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


@contextlib.contextmanager
def process(*arguments: str):
    command = [sys.executable, __file__, *arguments]
    made = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield made.pid, json.loads(made.stdout.readline())["url"]
    finally:
        made.kill()
        made.wait()
        made.stdout.close()


def app_key(folder: Path) -> str:
    settings = Settings(data_dir=folder)
    upgrade(settings.store_url)
    engine = open_engine(settings.store_url)
    made = create_key(engine, "app", clock=SystemClock(), ids=RandomIds())
    engine.dispose()
    return made.secret


def server_pid() -> int:
    """Return the child of ours that serves the product; its own child, of the same name, appends to the log."""
    return next(
        pid for pid in family(os.getpid())[1:] if b"proxy.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )


@pytest.mark.skipif(sys.platform != "linux", reason="another process's clock is asked of Linux")
async def test_the_processor_time_of_answers_and_events_over_a_bare_pass_through(tmp_path):
    (tmp_path / "data").mkdir()
    key = app_key(tmp_path / "data")
    with contextlib.ExitStack() as stack:
        _, backend = stack.enter_context(process("backend"))
        bare_pid, bare = stack.enter_context(process("bare", backend))
        full = stack.enter_context(serving(tmp_path / "data", "--upstream", f"{backend}/v1"))
        targets: dict[str, tuple[str, list[int]]] = {
            "bare": (bare, family(bare_pid)), "full": (full, family(server_pid()))
        }  # fmt: skip
        figures: dict[str, object] = {}
        for kind in LOADS:
            spent: dict[str, list[float]] = {name: [] for name in targets}
            for number in range(ROUNDS + 1):
                for name, (url, pids) in targets.items():
                    before = cpu_s(pids)
                    answers = await load(url, kind, key)
                    if number:  # the first is warming up
                        spent[name].append((cpu_s(pids) - before) / answers * 1e6)
            figures[kind] = described(kind, spent)
    print(
        json.dumps(
            {
                "command": "pytest -m bench tests/bench/test_relay_cost.py -s",
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
                f"load {os.getloadavg()[0]:.1f}",
                "events_a_stream": EVENTS,
                **figures,
            },
            indent=1,
        )
    )


def described(kind: str, spent: dict[str, list[float]]) -> dict[str, object]:
    median: Callable[[list[float]], float] = statistics.median
    ratios = [full / bare for bare, full in zip(spent["bare"], spent["full"], strict=True)]
    found: dict[str, object] = {
        f"{name}_us_an_answer": [round(min(values)), round(median(values)), round(max(values))]
        for name, values in spent.items()
    }
    if kind != "json":
        found |= {f"{name}_us_an_event": round(median(values) / EVENTS, 2) for name, values in spent.items()}
    return {
        **found,
        "full_over_bare": [round(min(ratios), 2), round(median(ratios), 2), round(max(ratios), 2)],
    }


if __name__ == "__main__":
    import uvloop

    uvloop.run(be_backend()) if sys.argv[1] == "backend" else be_bare(sys.argv[2])
