"""One HTTP/1.1 connection to a backend, and the reply that comes over it.

An asyncio Protocol on httptools' parser, and little else: no lock, no task, no new timer for each wait,
because a proxy pays for them with every token. One request is under way at a time. A reply that has come to
its end gives its connection back by itself, whoever still has its last bytes to read; a reply that is let go
before that takes its connection down with it. So a connection is under a request or free, never forgotten.

What is read is bounded: beyond HELD_BYTES_MAX the socket is not read until the reader has caught up. A reply
whose framing can be understood in two ways is refused, and so are bytes that nobody asked for: what one of us
takes for the end of a reply, another may take for the middle.

Source: RFC 9112, 6 "Message Body" and 9 "Connection Management".
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from typing import Literal, cast

import httptools

FailureKind = Literal["connect", "timeout", "cut", "protocol"]
HEAD_BYTES_MAX = 1 << 16  # of a reply's head, of trailers, of chunk extensions; servers send 8 KiB at most
HEADERS_MAX = 256
HELD_BYTES_MAX = 1 << 16  # unread bytes of one reply before we stop reading; the loop adds one read, 256 KiB
WRITTEN_BYTES_MAX = 1 << 18  # of a body at once: a backend that does not read holds up nobody else
# struct tcp_info of Linux: where it says how many bytes the other side has acknowledged. Its kernel
# acknowledges what it will hand to the program; what comes after the program has closed, it refuses.
_ACKNOWLEDGED = struct.Struct("=120xQ") if sys.platform == "linux" and hasattr(socket, "TCP_INFO") else None


class Failed(Exception):
    """A request came to no answer, or its answer broke off. `kind` "connect": nothing was sent."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: FailureKind = kind


class Reply:
    """A reply whose head is here; its body comes as it is read. Let it go with `close`."""

    __slots__ = (
        "_failure",
        "_idle_s",
        "_is_whole",
        "_pieces",
        "_timer",
        "_until_s",
        "_waiter",
        "connection",
        "has_head",
        "headers",
        "held_bytes",
        "is_framed",
        "status",
    )

    def __init__(self, connection: Connection, idle_s: float) -> None:
        self.connection: Connection | None = connection  # None once it has been given back or closed
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = False
        self.is_framed = False  # it says itself where it ends; another ends with its connection
        self.held_bytes = 0
        self._pieces: list[bytes] = []
        self._idle_s = idle_s
        self._is_whole = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until_s = 0.0

    async def head(self, until_s: float) -> None:
        """Wait for the head until `until_s` of the loop's clock. Raises Failed, or what the body raised."""
        self._until_s = until_s
        while not self.has_head and self._failure is None:
            await self._wait(self._until_s)
        # What is known to be broken by now is not begun.
        if self._failure is not None and (not self.has_head or _is_protocol(self._failure)):
            raise self._failure

    async def read(self) -> bytes | None:
        """Return all bytes that have come, None at the end. Raises Failed after the last good byte."""
        while not (self._pieces or self._is_whole or self._failure):
            connection = self.connection
            assert connection is not None
            await self._wait(connection.loop.time() + self._idle_s)
        if pieces := self._pieces:
            self._pieces, self.held_bytes = [], 0
            if self.connection is not None:
                self.connection.go_on_reading()
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._failure is None:
            return None
        if isinstance(self._failure, Failed):
            raise self._failure
        raise Failed("cut", type(self._failure).__name__) from self._failure

    def close(self) -> None:
        """Let it go: a connection that is still under it is closed. May be called again."""
        if self.connection is not None:
            self.failed(Failed("cut", "let go"))
            self.connection.abort()

    # -- said by the connection

    def put_off(self, until_s: float) -> None:
        """Wait for the head until then: the request is still going up."""
        if not self.has_head:
            self._until_s = until_s

    def add(self, piece: bytes) -> None:
        """Keep a piece of the body until it is read."""
        self._pieces.append(piece)
        self.held_bytes += len(piece)

    def ended(self) -> None:
        """Note that the body is whole."""
        self._is_whole = True

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self._is_whole or self._failure is not None

    def failed(self, failure: Exception) -> None:
        """Note why nothing more will come; the first reason holds."""
        if self._failure is None:
            self._failure = failure
        self.wake()

    def wake(self) -> None:
        """Let the waiter look again."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def part(self) -> None:
        """Forget the connection: it is free, or gone."""
        self.connection = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # A timer is set once and looks, when it rings, how far its deadline has moved since: a stream of tokens
    # would otherwise pay for one timer a token.

    async def _wait(self, until_s: float) -> None:
        connection = self.connection
        assert connection is not None
        loop = connection.loop
        self._until_s = until_s
        if self._timer is None or self._timer.when() > until_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(until_s, self._ring, loop)
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._waiter is None or self.connection is None:
            return
        if loop.time() >= self._until_s - 0.001:  # timers of the loop are good to a millisecond
            connection = self.connection
            self.failed(Failed("timeout", "silence"))
            connection.abort()
        else:
            self._timer = loop.call_at(self._until_s, self._ring, loop)


class Connection(asyncio.Protocol):
    """A connection; `on_free` is told when it may take another request, `on_lost` when it is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_free: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self.free_since_s = 0.0
        self.is_gone = False
        self._sock = sock
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._reply: Reply | None = None
        self._is_paused = False
        self._is_kept = False  # the reply under way lets us ask again afterwards
        self._asks_head = False
        self._has_heard = False  # a byte of the reply under way has come
        self._barren_bytes = 0  # that have come since anything came of them
        self._upload: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None  # while the other side does not read
        self._acknowledged = 0  # before the request under way

    async def ask(
        self,
        head: bytes,
        body: bytes | AsyncIterator[bytes],
        *,
        length: int | None,
        asks_head: bool,
        until_s: float,
        idle_s: float,
    ) -> Reply:
        """Send a request; return when its reply's head is here.

        body: an iterator is sent in the background, `length` None sends it in chunks. until_s: by the loop's
        clock; as much time begins again with each piece of the body. Raises Failed, or what the iterator
        raised. Whatever is raised, the connection is closed.
        """
        assert self._reply is None
        assert self._transport is not None
        reply = self._reply = Reply(self, idle_s)
        self._is_kept = self._has_heard = False
        self._barren_bytes = 0
        self._asks_head = asks_head
        try:
            if isinstance(body, bytes) and len(body) <= WRITTEN_BYTES_MAX:
                self._transport.write(head + body if body else head)
            else:
                self._transport.write(head)
                wait_s = until_s - self.loop.time()
                self._upload = self.loop.create_task(self._send(body, length, reply, wait_s))
            await reply.head(until_s)
        except BaseException:
            reply.close()
            raise
        return reply

    def is_usable(self) -> bool:
        """Whether the other side has neither closed nor said anything since the last reply.

        The loop may not have come to read it yet; a request written now would be lost, or be given an answer
        that came before it.
        """
        if self.is_gone or self._transport is None or self._transport.is_closing():
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._acknowledged = self._acknowledged_now()
            return True
        except OSError:
            return False
        return False

    @property
    def was_unheard(self) -> bool:
        """Whether not one byte of a reply came."""
        return not self._has_heard

    @property
    def was_unread(self) -> bool:
        """Whether the other side never got a byte of the request, so that it cannot have done anything.

        Only its kernel knows; where ours does not say, this is False. Asked when the connection is lost.
        """
        return self._was_unread

    _was_unread = False

    def abort(self) -> None:
        """Close at once."""
        if self._reply is not None:
            self._part_from(self._reply, Failed("cut", "closed here"))
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
        self._gone()

    def go_on_reading(self) -> None:
        """Read again after a reader that lagged has caught up."""
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = made = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        made.set_write_buffer_limits(high=WRITTEN_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None or self._parser is None:
            self.abort()  # nobody asked; what follows could be taken for the answer to the next request
            return
        self._has_heard = True
        self._barren_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broken(reply, str(error.__context__ or error))
            return
        if reply.is_over:
            self._finished(reply)
        elif self._barren_bytes > HEAD_BYTES_MAX:
            self._broken(reply, "a head, trailer or chunk extension without end")
            return
        elif reply.held_bytes > HELD_BYTES_MAX and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        reply.wake()

    def eof_received(self) -> None:
        self._lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)
        self._transport = self._parser = None
        self._gone()

    def pause_writing(self) -> None:
        self._room = self.loop.create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # -- the parser's side

    def on_message_begin(self) -> None:
        """Refuse a reply beyond the one that was asked for."""
        if self._reply is None or self._reply.is_over:
            raise ValueError("bytes beyond the reply")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is dropped."""
        reply = self._reply
        assert reply is not None
        if reply.has_head:
            return
        headers = reply.headers
        headers.append((name, value))
        if len(headers) > HEADERS_MAX or len(value) > HEAD_BYTES_MAX:
            raise ValueError("too many or too long headers")
        if len(name) == 14 and name.lower() == b"content-length":
            reply.is_framed = True
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            if value.strip().lower() != b"chunked":  # we said that we accept no other
                raise ValueError("a transfer encoding that is not chunked")
            reply.is_framed = True

    def on_headers_complete(self) -> None:
        """Begin the reply, or forget one that only announces another (1xx)."""
        reply, parser = self._reply, self._parser
        assert reply is not None
        assert parser is not None
        reply.status = parser.get_status_code()
        if reply.status < 200:
            if reply.status == 101:
                raise ValueError("a switch of protocols that nobody asked for")
            reply.headers.clear()
            reply.is_framed = False
            return
        reply.has_head = True
        self._barren_bytes = 0
        self._is_kept = parser.should_keep_alive() and not self._asks_head
        if self._asks_head:
            reply.ended()  # whatever length it says

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        reply = self._reply
        assert reply is not None
        if reply.is_over:
            raise ValueError("a body in the reply to HEAD")
        reply.add(body)
        self._barren_bytes = 0

    def on_message_complete(self) -> None:
        """End the reply."""
        reply = self._reply
        assert reply is not None
        if reply.has_head:
            reply.ended()

    # -- within

    async def _send(
        self, body: bytes | AsyncIterator[bytes], length: int | None, reply: Reply, wait_s: float
    ) -> None:
        """Send a body as fast as the other side reads; break off one of another length than it said."""
        pieces = _slices(body) if isinstance(body, bytes) else body
        sent_bytes = 0
        try:
            async for piece in pieces:
                sent_bytes += len(piece)
                if length is not None and sent_bytes > length:
                    break
                if not piece:
                    continue
                self._write(piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
                if self._room is not None:
                    await self._room
                if self._transport is None:
                    return
                reply.put_off(self.loop.time() + wait_s)
            if length is not None and sent_bytes != length:
                raise ConnectionAbortedError("the body is not as long as it said")  # noqa: TRY301
            if length is None:
                self._write(b"0\r\n\r\n")
            self._upload = None
        except Exception as error:  # noqa: BLE001  a body may raise what it likes; the asker gets it
            if self._reply is not None:
                self._part_from(self._reply, error)
            self.abort()
        finally:
            closing = getattr(pieces, "aclose", None)
            if closing is not None:
                with contextlib.suppress(RuntimeError):  # it is running, in whoever cancelled us
                    await closing()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _finished(self, reply: Reply) -> None:
        """Part from a reply that is whole, and be free for the next request if both sides can."""
        transport = self._transport
        has_sent = self._upload is None and transport is not None and not transport.get_write_buffer_size()
        if not (self._is_kept and has_sent):  # one that answered before it had read all may not read the rest
            self.abort()
            return
        self._reply = None
        reply.part()
        self.go_on_reading()
        self._on_free(self)

    def _broken(self, reply: Reply, detail: str) -> None:
        reply.failed(Failed("protocol", detail))  # even one that is whole: where it ends is in doubt
        self._part_from(reply, Failed("protocol", detail))
        self.abort()

    def _lost(self, error: Exception | None) -> None:
        reply = self._reply
        if reply is None:
            self._gone()
            return
        if error is None and reply.has_head and not reply.is_framed:
            reply.ended()  # such a reply ends where its connection does
        # A FIN says what its sender had received; a reset may come before the acknowledgement.
        self._was_unread = error is None and 0 < self._acknowledged == self._acknowledged_now()
        self._part_from(reply, Failed("cut", type(error).__name__ if error else "closed inside the reply"))
        self.abort()

    def _part_from(self, reply: Reply, failure: Exception) -> None:
        self._reply = None
        if not reply.is_over:
            reply.failed(failure)
        reply.wake()
        reply.part()

    def _gone(self) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        upload, self._upload = self._upload, None
        if upload is not None and upload is not asyncio.current_task(self.loop):
            upload.cancel()
        self.resume_writing()
        self._on_lost(self)

    def _acknowledged_now(self) -> int:
        if _ACKNOWLEDGED is None:
            return 0
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
        except OSError:
            return 0
        return _ACKNOWLEDGED.unpack(info)[0] if len(info) == _ACKNOWLEDGED.size else 0


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(body), WRITTEN_BYTES_MAX):
        yield bytes(view[start : start + WRITTEN_BYTES_MAX])


def _is_protocol(failure: Exception) -> bool:
    return isinstance(failure, Failed) and failure.kind == "protocol"
