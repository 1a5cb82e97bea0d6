"""What a request costs over each transport, in CPU time of the asker; ratios from rounds that take turns.

The backend is a process of its own on a bare protocol. `bare` is the least a client on this loop can do: it
writes bytes that were built before and looks for the end of the reply in them. Wall time is told only for the
backend that takes 50 ms, where it is the question: do 128 requests wait together, or in turn?
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import httpx
import pytest
import uvloop

from proxy.relay.connections import Connections
from proxy.relay.transport import OwnTransport, httpx_transport, origin_of, trust
from tests.commands import Commands
from tests.processes import serving

pytestmark = [pytest.mark.bench, pytest.mark.anyio]
ROUNDS = 3
REQUEST = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 150}]}).encode()
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "word " * 280}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 40, "completion_tokens": 280}
REPLY = json.dumps({"object": "chat.completion", "model": "m", "usage": USAGE, "choices": [CHOICE]}).encode()
EVENTS = 300
EVENT = b"data: " + b"x" * 217 + b"\n\n"
LIMITS = {"connect_s": 20.0, "first_byte_s": 60.0, "idle_s": 60.0}
Ask = Callable[[str], Awaitable[int]]


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


class Backend(asyncio.Protocol):
    """Answers /json, /slow (after 50 ms) and /events; in a process of its own."""

    whole = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REPLY)
        + REPLY
    )
    begins = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    def connection_made(self, transport):
        self.transport = transport
        self.seen = b""

    def data_received(self, data):
        self.seen += data
        head, found, body = self.seen.partition(b"\r\n\r\n")
        if not found or len(body) < len(REQUEST):
            return
        self.seen = b""
        if b" /slow" in head:
            asyncio.get_running_loop().call_later(0.05, self.transport.write, self.whole)
        elif b" /events" in head:
            self.transport.write(self.begins)
            self.say(EVENTS)
        else:
            self.transport.write(self.whole)

    def say(self, left):
        """Each event is a write of its own, as a backend makes them."""
        if left:
            self.transport.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            asyncio.get_running_loop().call_soon(self.say, left - 1)
        else:
            self.transport.write(b"0\r\n\r\n")


async def serve():
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Bare(asyncio.Protocol):
    """A client of one connection that parses nothing but the length."""

    def __init__(self, loop, key):
        self.loop = loop
        self.more = f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n".encode()
        self.seen = self.ends = 0
        self.waiter = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if not self.seen:
            assert data.startswith(b"HTTP/1.1 200 "), data
            at = data.find(b"content-length: ")
            body_at = data.find(b"\r\n\r\n") + 4
            self.ends = body_at + int(data[at + 16 : data.find(b"\r", at)]) if 0 < at < body_at else 0
        self.seen += len(data)
        if self.seen == self.ends or (not self.ends and data.endswith(b"0\r\n\r\n")):
            self.waiter.set_result(None)

    async def ask(self, path):
        self.seen, self.waiter = 0, self.loop.create_future()
        head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%b\r\n"
        self.transport.write(head % (path.encode(), len(REQUEST), self.more) + REQUEST)
        await self.waiter
        return self.seen


def ours(connections: Connections) -> Ask:
    headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer key")]

    async def ask(path):
        reply = await connections.ask("POST", path.encode(), headers, REQUEST, **LIMITS)
        seen = 0
        while (piece := await reply.read()) is not None:
            seen += len(piece)
        reply.close()
        return seen

    return ask


def behind_httpx(transport: httpx.AsyncBaseTransport, base: str) -> Ask:
    urls = {path: httpx.URL(base + path) for path in ("/json", "/slow", "/events")}
    headers = [("content-type", "application/json"), ("authorization", "Bearer key")]

    async def ask(path):
        request = httpx.Request(
            "POST", urls[path], headers=headers, content=REQUEST, extensions={"timeout": {"read": 60.0}}
        )
        response = await transport.handle_async_request(request)
        seen = 0
        async for piece in response.stream:
            seen += len(piece)
        await response.aclose()
        return seen

    return ask


async def spent(ask: Ask, path: str, clients: int, requests: int) -> tuple[float, float]:
    """Return (CPU ms a request, requests a second) of `clients` that ask one after the other."""

    async def client():
        for _ in range(requests // clients):
            assert await ask(path) >= len(REPLY)

    await asyncio.gather(*(ask(path) for _ in range(clients)))  # connect, and fill caches
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    done = requests // clients * clients
    return (time.process_time() - cpu_s) / done * 1000, done / (time.perf_counter() - wall_s)


class Bares:
    """As many bare clients as ask at once."""

    def __init__(self, port, key="none"):
        self.port = port
        self.key = key
        self.free = []

    async def ask(self, path):
        loop = asyncio.get_running_loop()
        if self.free:
            bare = self.free.pop()
        else:
            _, bare = await loop.create_connection(lambda: Bare(loop, self.key), "127.0.0.1", self.port)
        seen = await bare.ask(path)
        self.free.append(bare)
        return seen

    def close(self):
        for bare in self.free:
            bare.transport.close()


def median(figures):
    return {name: statistics.median(values) for name, values in figures.items()}


@contextlib.contextmanager
def pinned(serving, *arguments):
    """Serve on the last core that we may use, and stay on the first."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        with serving(*arguments) as url:
            os.sched_setaffinity(0, {min(cores)})
            yield url
    finally:
        os.sched_setaffinity(0, cores)


@contextlib.asynccontextmanager
async def backend_process(core=None):
    """Yield the port of a backend in a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, stdout=asyncio.subprocess.PIPE)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    try:
        yield int(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


def machine():
    return f"{os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


async def test_the_whole_proxy_before_a_backend_that_takes_50_ms(tmp_path):
    """Keys, metering durable before the last byte, attribution against nothing registered: req/s over direct.

    The server on one core, client and backend on another, as far as there are two.
    """
    key = Commands(tmp_path / "data").json("keys", "create", "--role", "app").row["key"]
    async with backend_process(min(os.sched_getaffinity(0))) as port:
        with pinned(serving, tmp_path / "data", "--upstream", f"http://127.0.0.1:{port}/slow") as url:
            direct, through = Bares(port), Bares(int(url.rpartition(":")[2]), key)
            found = {"direct": [], "through the proxy": []}
            for _ in range(ROUNDS):
                found["direct"].append((await spent(direct.ask, "/slow", 128, 128 * 20))[1])
                found["through the proxy"].append(
                    (await spent(through.ask, "/v1/chat/completions", 128, 128 * 20))[1]
                )
            direct.close()
            through.close()
    rates = median(found)
    over = rates["through the proxy"] / rates["direct"]
    print(f"\npytest -m bench tests/bench/test_transports.py -s; {machine()}; median of {ROUNDS}")
    print(f"128 clients, backend of 50 ms: {rates}, over direct {over:.2f}")
    assert over > 0.3  # one after the other, it would be 0.01


async def test_what_a_request_costs_over_each_transport():
    async with backend_process() as port:
        await compare(port)


async def compare(port):
    base = f"http://127.0.0.1:{port}"
    bares = Bares(port)
    connections = Connections(origin_of(httpx.URL(base), None))
    own, default = OwnTransport(), httpx_transport(trust())
    asks: dict[str, Ask] = {
        "bare": bares.ask,
        "own": ours(connections),
        "own behind httpx": behind_httpx(own, base),
        "httpx": behind_httpx(default, base),
    }
    told = {}
    try:
        for name, path, clients, requests in (
            ("JSON, 1 client: CPU ms", "/json", 1, 300),
            ("JSON, 32 clients: CPU ms", "/json", 32, 1_600),
            (f"{EVENTS} events at once, 8 clients: CPU ms", "/events", 8, 40),
        ):
            found = {key: [] for key in asks}
            for _ in range(ROUNDS):
                for key, ask in asks.items():
                    found[key].append((await spent(ask, path, clients, requests))[0])
            told[name] = median(found)
        found = {key: [] for key in asks}
        for _ in range(ROUNDS):
            for key, ask in asks.items():
                found[key].append((await spent(ask, "/slow", 128, 128 * 8))[1])
        told["backend of 50 ms, 128 clients: requests a second"] = median(found)
    finally:
        await connections.aclose()
        await own.aclose()
        await default.aclose()
        bares.close()
    print(f"\npytest -m bench tests/bench/test_transports.py -s; {machine()}; median of {ROUNDS}")
    for name, figures in told.items():
        row = ", ".join(
            f"{key} {value:.3f} ({value / figures['bare']:.2f})" for key, value in figures.items()
        )
        print(f"{name} (over bare): {row}")
    at_32, slow = told["JSON, 32 clients: CPU ms"], told["backend of 50 ms, 128 clients: requests a second"]
    assert at_32["own"] < at_32["httpx"] / 3
    assert slow["own"] > slow["bare"] * 0.7


if __name__ == "__main__":
    uvloop.run(serve())
