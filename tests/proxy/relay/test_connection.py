"""One connection on a wire that is no socket: what is held, what is refused, and when it is free."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.connection import HEAD_BYTES_MAX, HELD_BYTES_MAX, Connection, Failed, Reply
from tests import misbehaving

pytestmark = pytest.mark.anyio


class Wire(asyncio.Transport):
    """The other side: what was written to it, and whether it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_read = True
        self.is_closed = False
        self.unsent_bytes = 0

    def write(self, data):
        self.written += data

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def get_write_buffer_size(self):
        return self.unsent_bytes

    def pause_reading(self):
        self.is_read = False

    def resume_reading(self):
        self.is_read = True

    def is_closing(self):
        return self.is_closed

    def abort(self):
        self.is_closed = True


class Held:
    """A connection on a wire that is no socket, with what it told its owner."""

    def __init__(self, loop) -> None:
        self.freed, self.lost = [], []
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.wire = Wire()
        self.connection = Connection(loop, self.near, self.freed.append, self.lost.append)
        self.connection.connection_made(self.wire)

    async def ask(self, *, asks_head=False, idle_s=20.0) -> Reply:
        loop = self.connection.loop
        return await self.connection.ask(
            b"GET / HTTP/1.1\r\n\r\n",
            b"",
            length=0,
            asks_head=asks_head,
            until_s=loop.time() + 20,
            idle_s=idle_s,
        )

    async def begun(self, raw: bytes) -> Reply:
        asking = asyncio.get_running_loop().create_task(self.ask())
        await asyncio.sleep(0)
        self.connection.data_received(raw)
        return await asking

    def close(self) -> None:
        self.connection.abort()
        self.near.close()
        self.far.close()


@pytest.fixture
async def held():
    made = Held(asyncio.get_running_loop())
    yield made
    made.close()


async def test_a_reply_that_is_whole_frees_its_connection_before_it_is_read(held):
    reply = await held.begun(misbehaving.whole(b"abc"))
    assert held.freed == [held.connection]
    assert await reply.read() == b"abc"
    assert await reply.read() is None
    reply.close()
    assert not held.wire.is_closed


async def test_a_reply_that_is_let_go_takes_its_connection_with_it(held):
    reply = await held.begun(misbehaving.whole(b"abc")[:-1])
    reply.close()
    reply.close()
    assert held.wire.is_closed
    assert (held.freed, held.lost) == ([], [held.connection])


async def test_a_reply_that_came_before_the_request_was_sent_is_whole_but_frees_nothing(held):
    held.wire.unsent_bytes = 1
    reply = await held.begun(misbehaving.whole(b"abc"))
    assert [await reply.read(), await reply.read()] == [b"abc", None]
    assert held.wire.is_closed
    assert held.freed == []


async def test_all_that_came_is_read_at_once(held):
    reply = await held.begun(misbehaving.head(*misbehaving.SSE_HEAD) + misbehaving.chunked(b"a", b"b", b"c"))
    assert await reply.read() == b"abc"


async def test_a_reader_that_lags_stops_the_socket_and_goes_on_when_it_has_caught_up(held):
    reply = await held.begun(misbehaving.head("Content-Length: 1000000000"))
    fed = 0
    while held.wire.is_read:
        held.connection.data_received(b"x" * 10_000)
        fed += 10_000
    assert HELD_BYTES_MAX < fed <= HELD_BYTES_MAX + 10_000
    assert len(await reply.read()) == fed
    assert held.wire.is_read


async def test_bytes_on_a_free_connection_close_it(held):
    await held.begun(misbehaving.whole(b"abc"))
    held.connection.data_received(misbehaving.whole(b"unasked"))
    assert held.wire.is_closed
    assert held.lost == [held.connection]


async def test_bytes_beyond_a_reply_fail_it_even_when_it_was_whole(held):
    asking = asyncio.get_running_loop().create_task(held.ask())
    await asyncio.sleep(0)
    held.connection.data_received(misbehaving.whole(b"abc") + b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(Failed) as caught:
        await asking
    assert caught.value.kind == "protocol"
    assert held.freed == []


async def test_the_end_of_the_connection_ends_only_a_reply_without_a_length(held):
    reply = await held.begun(misbehaving.head(status="HTTP/1.0 200 OK") + b"abc")
    held.connection.eof_received()
    assert [await reply.read(), await reply.read()] == [b"abc", None]


async def test_a_reset_never_ends_a_reply(held):
    reply = await held.begun(misbehaving.head(status="HTTP/1.0 200 OK") + b"abc")
    held.connection.connection_lost(ConnectionResetError())
    assert await reply.read() == b"abc"
    with pytest.raises(Failed, match="ConnectionResetError"):
        await reply.read()


async def test_silence_fails_the_read_that_waited(held):
    reply = await held.begun(misbehaving.head(*misbehaving.SSE_HEAD) + misbehaving.chunked(b"a"))
    reply._idle_s = 0.01
    assert await reply.read() == b"a"
    with pytest.raises(Failed) as caught:
        await reply.read()
    assert caught.value.kind == "timeout"
    assert held.wire.is_closed


async def test_a_reader_that_lags_is_not_taken_for_a_silent_backend(held):
    reply = await held.begun(misbehaving.head(*misbehaving.SSE_HEAD) + misbehaving.chunked(b"a"))
    reply._idle_s = 0.02
    await reply.read()
    waiting = asyncio.get_running_loop().create_task(reply.read())
    await asyncio.sleep(0)
    held.connection.data_received(misbehaving.chunked(b"b"))
    assert await waiting == b"b"
    await asyncio.sleep(0.05)  # the timer rings while nobody waits
    held.connection.data_received(misbehaving.chunked(b"c") + b"0\r\n\r\n")
    assert [await reply.read(), await reply.read()] == [b"c", None]


async def test_a_connection_that_the_other_side_closed_or_spoke_on_is_not_usable(held):
    await held.begun(misbehaving.whole(b"abc"))
    assert held.connection.is_usable()
    held.far.send(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert not held.connection.is_usable()
    held.near.recv(100)
    held.far.close()
    assert not held.connection.is_usable()


async def test_a_head_is_bounded_however_slowly_it_comes(held):
    asking = asyncio.get_running_loop().create_task(held.ask())
    await asyncio.sleep(0)
    held.connection.data_received(b"HTTP/1.1 200 OK\r\nX: ")
    fed = 0
    while not held.wire.is_closed:
        held.connection.data_received(b"x" * 100)
        fed += 100
    assert fed <= HEAD_BYTES_MAX + 100
    with pytest.raises(Failed, match="protocol"):
        await asking


@given(st.lists(st.integers(1, 40), max_size=30))
def test_what_is_read_does_not_depend_on_where_the_network_cuts(cuts):
    raw = (
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
        + misbehaving.head("X-A: b", *misbehaving.SSE_HEAD)
        + misbehaving.chunked(b"one", b"two\r\n", b"three")
        + b"0\r\nTrailer: t\r\n\r\n"
    )

    async def read() -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        held = Held(asyncio.get_running_loop())
        asking = asyncio.get_running_loop().create_task(held.ask())
        await asyncio.sleep(0)
        at = 0
        for cut in [*cuts, len(raw)]:
            if raw[at : at + cut]:
                held.connection.data_received(raw[at : at + cut])
            at += cut
        reply = await asking
        body = b""
        while (piece := await reply.read()) is not None:
            body += piece
        assert held.freed == [held.connection]
        held.close()
        return reply.status, reply.headers, body

    status, headers, body = asyncio.run(read())
    assert (status, headers[0], body) == (200, (b"X-A", b"b"), b"onetwo\r\nthree")


@given(st.binary(max_size=300), st.integers(0, 300))
def test_no_bytes_whatever_break_more_than_their_connection(garbage, cut):
    """They are a reply, a failure, or not yet either; the connection is then closed or waits."""

    async def feed() -> None:
        held = Held(asyncio.get_running_loop())
        asking = asyncio.get_running_loop().create_task(held.ask())
        await asyncio.sleep(0)
        for piece in (b"HTTP/1.1 200 OK\r\n"[:cut] + garbage[:cut], garbage[cut:]):
            if piece and not held.wire.is_closed:
                held.connection.data_received(piece)
        held.connection.connection_lost(None)
        try:
            reply = await asking
            while await reply.read() is not None:
                pass
        except Failed as failed:
            assert failed.kind in {"protocol", "cut"}  # noqa: PT017  either is right, and so is a reply
        assert held.connection.is_gone
        held.close()

    asyncio.run(feed())
