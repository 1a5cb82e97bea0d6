"""The connections to one backend over real sockets, on both event loops: kept, found dead, cancelled, counted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import sys

import httptools
import pytest

from proxy.relay.connection import HELD_BYTES_MAX, WRITTEN_BYTES_MAX, Connection, Failed
from proxy.relay.connections import Connections, Origin
from tests import misbehaving
from tests.misbehaving import Misbehaving, replies, whole
from tests.proxy.relay.test_upstream import certified

pytestmark = pytest.mark.anyio
LIMITS = {"connect_s": 20.0, "first_byte_s": 20.0, "idle_s": 20.0}  # a slow machine is no misbehaviour
LOOPS = [pytest.param(("asyncio", {}), id="asyncio")]
if sys.platform != "win32":
    LOOPS.append(pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))


@pytest.fixture(params=LOOPS)
def anyio_backend(request):
    return request.param


def connections_to(port: int, **changes) -> Connections:
    return Connections(Origin("127.0.0.1", port, b"127.0.0.1"), **changes)


async def asked(connections, *, method="POST", body=b"{}", **limits) -> bytes:
    reply = await connections.ask(method, b"/v1/x", [], body, **(LIMITS | limits))
    try:
        pieces = []
        while (piece := await reply.read()) is not None:
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        reply.close()


async def answers(connection: misbehaving.Connection) -> None:
    while True:
        await connection.request()
        await connection.answer(b"%d" % connection.number)


async def test_the_connection_given_back_last_is_taken_first():
    async with Misbehaving(answers) as server:
        connections = connections_to(server.port)
        first = await asyncio.gather(*(asked(connections) for _ in range(3)))
        assert sorted(first) == [b"1", b"2", b"3"]
        assert (connections.busy, connections.free) == (0, 3)
        last = connections._free[-1]
        assert len({await asked(connections) for _ in range(5)}) == 1
        assert connections._free[-1] is last
        await connections.aclose()


async def test_a_connection_that_nobody_asked_for_long_is_closed():
    async with Misbehaving(answers) as server:
        connections = connections_to(server.port, kept_alive_s=0.05)
        await asyncio.gather(*(asked(connections) for _ in range(3)))
        async with asyncio.timeout(20):
            await server.everything_closed()
        assert connections.free == 0
        assert connections._sweeping is None or not connections._free
        assert await asked(connections) == b"4"
        await connections.aclose()


async def test_closing_takes_down_what_is_under_way():
    heard = asyncio.Event()

    async def hears(connection: misbehaving.Connection) -> None:
        await connection.request()
        heard.set()
        await connection.reader.read()

    async with Misbehaving(hears) as server:
        connections = connections_to(server.port)
        asking = asyncio.get_running_loop().create_task(asked(connections))
        await heard.wait()
        await connections.aclose()
        with pytest.raises(Failed):
            await asking
        assert connections.busy == 0


# -- the race for a connection that is just being closed


async def test_a_kept_connection_that_the_backend_closed_is_never_asked():
    """Each time the FIN lies in our socket unread when the next request is sent."""
    closed = asyncio.Event()

    async def closes_after_one(connection: misbehaving.Connection) -> None:
        await connection.request()
        await connection.answer(b"ok")
        connection.writer.close()
        closed.set()

    async with Misbehaving(closes_after_one) as server:
        connections = connections_to(server.port)
        for turn in range(50):
            closed.clear()
            assert await asked(connections) == b"ok"
            if turn % 2:
                await (
                    closed.wait()
                )  # what it wrote before we look is for the kernel to know, not for our loop
        assert server.requests == 50
        await connections.aclose()


class Racing:
    """A connection that takes the next request for sent although the other side has just closed."""

    def __init__(self, monkeypatch) -> None:
        self.is_on = False
        usable = Connection.is_usable

        def blind(connection: Connection) -> bool:
            if not self.is_on:
                return usable(connection)
            connection._acknowledged = connection._acknowledged_now()
            return True

        monkeypatch.setattr(Connection, "is_usable", blind)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's TCP what was acknowledged")
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_request_that_the_backend_never_got_is_sent_once_more_whatever_it_asks(monkeypatch, method):
    """The close crosses the request: written into a connection whose other side is gone."""
    racing = Racing(monkeypatch)

    def serve(listener: socket.socket, heard: list[bytes]) -> None:
        first, _ = listener.accept()
        heard.append(first.recv(1 << 16))
        first.sendall(whole(b"one"))
        first.recv(1)  # the test says when
        first.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []
        loop = asyncio.get_running_loop()
        serving = loop.run_in_executor(None, serve, listener, heard)
        connections = connections_to(listener.getsockname()[1])
        assert await asked(connections, method=method) == b"one"
        (kept,) = connections._all
        # Closed by the other side, and not read by our loop, which is held here.
        kept._transport.pause_reading()
        kept._sock.send(b"x")
        await serving
        kept._transport.resume_reading()
        racing.is_on = True

        def answer() -> None:
            second, _ = listener.accept()
            heard.append(second.recv(1 << 16))
            second.sendall(whole(b"two"))
            second.close()

        answering = loop.run_in_executor(None, answer)
        assert await asked(connections, method=method) == b"two"
        await answering
        assert [head.split(b" ")[0] for head in heard] == [method.encode()] * 2
        await connections.aclose()


async def closes_on_the_second(connection: misbehaving.Connection) -> None:
    await connection.request()
    await connection.answer(b"ok")
    if connection.number == 1:
        await connection.request()
        connection.writer.close()
    else:
        await connection.request()


async def test_a_post_that_the_backend_has_read_is_never_sent_again():
    async with Misbehaving(closes_on_the_second) as server:
        connections = connections_to(server.port)
        await asked(connections)
        with pytest.raises(Failed) as caught:
            await asked(connections)
        assert caught.value.kind == "cut"
        assert server.requests == 2
        await connections.aclose()


async def test_a_get_is_asked_once_more_and_only_once():
    async with Misbehaving(closes_on_the_second) as server:
        connections = connections_to(server.port)
        await asked(connections, method="GET", body=b"")
        assert await asked(connections, method="GET", body=b"") == b"ok"
        assert server.requests == 3
        await connections.aclose()

    async def reads_and_closes(connection: misbehaving.Connection) -> None:
        await connection.request()
        if connection.number == 1:
            await connection.answer(b"ok")
            await connection.request()
        connection.writer.close()

    async with Misbehaving(reads_and_closes) as server:
        connections = connections_to(server.port)
        await asked(connections, method="GET", body=b"")
        with pytest.raises(Failed):
            await asked(connections, method="GET", body=b"")
        assert server.requests == 3
        await connections.aclose()


async def test_a_first_connection_that_breaks_is_not_tried_again():
    async with Misbehaving(replies(b"")) as server:
        connections = connections_to(server.port)
        with pytest.raises(Failed):
            await asked(connections, method="GET", body=b"")
        assert server.requests == 1
        await connections.aclose()


# -- names with several addresses


@contextlib.contextmanager
def leads_nowhere():
    """Yield a port of 127.0.0.1 whose queue is full, so that a further connection is never answered."""
    with socket.socket() as listener, contextlib.ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            filling = held.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listener.getsockname())
        yield listener.getsockname()


@pytest.mark.skipif(sys.platform != "linux", reason="fills a queue as Linux keeps it")
async def test_an_address_that_leads_nowhere_does_not_hold_up_the_next(monkeypatch):
    async with Misbehaving(answers) as server:
        with leads_nowhere() as nowhere:
            places = [nowhere, ("127.0.0.1", server.port)]
            monkeypatch.setattr(
                Connections,
                "_places",
                lambda self, loop: found([(socket.AF_INET, place) for place in places]),
            )
            connections = connections_to(server.port)
            assert await asked(connections, connect_s=20.0) == b"1"
            places.reverse()
            assert await asyncio.gather(*(asked(connections) for _ in range(2)))
            places[:] = [nowhere, nowhere]
            await connections.aclose()
            with pytest.raises(Failed) as caught:
                await asked(connections, connect_s=0.4)
            assert caught.value.kind == "connect"
            assert connections.busy == 0


async def found(places):
    return places


async def test_a_name_whose_every_address_refuses_is_a_failed_connection(monkeypatch):
    async with Misbehaving(answers) as server:
        port = server.port
    refusing = [(socket.AF_INET, ("127.0.0.1", port))] * 3
    monkeypatch.setattr(Connections, "_places", lambda self, loop: found(refusing))
    connections = connections_to(port)
    with pytest.raises(Failed, match="ConnectionRefusedError"):
        await asked(connections)
    assert connections.busy == 0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_host_may_be_a_name_or_an_address(host):
    async with Misbehaving(answers) as server:
        connections = Connections(Origin(host, server.port, b"x"))
        assert await asked(connections) == b"1"
        await connections.aclose()


# -- both sides lag


async def test_a_backend_that_floods_fills_no_memory_while_nobody_reads():
    written = 0

    async def floods(connection: misbehaving.Connection) -> None:
        nonlocal written
        await connection.request()
        await connection.write(misbehaving.head("Content-Length: 1000000000"))
        while True:
            await connection.write(b"x" * 65_536)
            written += 65_536

    async with Misbehaving(floods) as server:
        connections = connections_to(server.port)
        reply = await connections.ask("GET", b"/", [], b"", **LIMITS)
        connection = reply.connection
        while not connection._is_paused:  # noqa: ASYNC110  it has no event to wait for
            await asyncio.sleep(0)
        before = -1
        while written != before:  # until the kernel's buffers are full as well
            before = written
            await asyncio.sleep(0.05)
        assert reply.held_bytes <= HELD_BYTES_MAX + (1 << 18)
        assert written < 64 << 20
        seen = 0
        while seen < before + (1 << 20):  # and it goes on once it is read
            seen += len(await reply.read())
        reply.close()
        assert connections.busy == 0
        await connections.aclose()


async def test_a_backend_that_does_not_read_holds_the_body_back():
    taken = 0

    async def pieces():
        nonlocal taken
        for _ in range(1_000):
            taken += 1
            yield b"x" * 65_536

    async def reads_nothing(connection: misbehaving.Connection) -> None:
        await connection.head()
        await asyncio.Event().wait()

    async with Misbehaving(reads_nothing) as server:
        connections = connections_to(server.port)
        asking = asyncio.get_running_loop().create_task(asked(connections, body=pieces()))
        before = -1
        while taken != before or not taken:
            before = taken
            await asyncio.sleep(0.05)
        assert taken < 1_000
        (connection,) = connections._all
        assert connection._transport.get_write_buffer_size() <= WRITTEN_BYTES_MAX + 65_536 + 20
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert connections.busy == 0
        await connections.aclose()


# -- many at once


class Fast(asyncio.Protocol):
    """Answers each request after `delay_s`, whole or in pieces."""

    delay_s = 0.0
    open = 0

    def connection_made(self, transport):
        type(self).open += 1
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_message_complete(self):
        asyncio.get_running_loop().call_later(self.delay_s, self.begin)

    def begin(self):
        self.transport.write(misbehaving.head(*misbehaving.SSE_HEAD) + misbehaving.chunked(b"a" * 100))
        asyncio.get_running_loop().call_soon(self.end)

    def end(self):
        self.transport.write(misbehaving.chunked(b"b" * 100) + b"0\r\n\r\n")

    def connection_lost(self, exc):
        type(self).open -= 1


async def served(protocol: type[Fast], **tls) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=1024, **tls)


async def test_128_at_once_wait_together_and_not_in_turn():
    class Slow(Fast):
        delay_s = 0.05

    server = await served(Slow)
    connections = connections_to(server.sockets[0].getsockname()[1])
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for _ in range(4):
        bodies = await asyncio.gather(*(asked(connections) for _ in range(128)))
        assert bodies == [b"a" * 100 + b"b" * 100] * 128
    assert loop.time() - began_s < 0.05 * 128  # one after the other, a single round would take 6.4 s
    assert (connections.busy, len(connections._all)) == (0, 128)
    await connections.aclose()
    server.close()


async def storm(connections: Connections, cancels: int, seed: int) -> tuple[int, int]:
    """Ask until so many requests were cancelled, each anywhere; return (answered whole, cancelled)."""
    rng = random.Random(seed)
    whole_, cancelled = 0, 0

    async def upload():
        yield b"abc"
        await asyncio.sleep(0)
        yield b"def"

    async def one() -> None:
        nonlocal whole_, cancelled
        body = upload() if rng.random() < 0.2 else b"x" * rng.choice((0, 10, 300_000))
        task = asyncio.get_running_loop().create_task(asked(connections, body=body))
        for _ in range(rng.randrange(14)):
            await asyncio.sleep(0)
        task.cancel()
        try:
            assert await task == b"a" * 100 + b"b" * 100
            whole_ += 1
        except asyncio.CancelledError:
            cancelled += 1

    async def lane() -> None:
        while cancelled < cancels:
            await one()
            if rng.random() < 0.05:  # some are let through, so that connections are kept and used again
                assert await asked(connections) == b"a" * 100 + b"b" * 100

    async with asyncio.TaskGroup() as group:
        for _ in range(32):
            group.create_task(lane())
    return whole_, cancelled


async def until_none_is_open() -> None:
    async with asyncio.timeout(60):
        while Fast.open:  # noqa: ASYNC110  nor has the server
            await asyncio.sleep(0.01)


async def test_no_connection_is_left_busy_after_10_000_random_cancels(anyio_backend):
    cancels = (
        10_000 if anyio_backend[1] else 2_000
    )  # on the loop that serves; on the other, to see that it works
    server = await served(Fast)
    connections = connections_to(server.sockets[0].getsockname()[1])
    _, cancelled = await storm(connections, cancels, seed=7)
    assert cancelled >= cancels
    assert connections.busy == 0
    assert await asked(connections) == b"a" * 100 + b"b" * 100
    await connections.aclose()
    await until_none_is_open()
    server.close()


async def test_no_connection_is_left_busy_after_cancels_under_tls(tmp_path):
    context, ca_file = certified(tmp_path)
    server = await served(Fast, ssl=context)
    origin = Origin(
        "127.0.0.1", server.sockets[0].getsockname()[1], b"x", ssl.create_default_context(cafile=ca_file)
    )
    connections = Connections(origin)
    assert (await storm(connections, 300, seed=8))[1] >= 300
    assert connections.busy == 0
    await connections.aclose()
    await until_none_is_open()
    server.close()
