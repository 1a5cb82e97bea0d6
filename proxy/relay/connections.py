"""The connections to one backend: kept for the next request, found dead in time, counted to the last one.

The one given back last is taken first, so that a burst's surplus grows old and is closed. Before a kept
connection is used, its socket is asked whether the backend has closed it or said something on its own. If it
dies under the request all the same, the request is sent once more over a new connection, but only where that
can do no harm: not a byte of a reply has come, the body is still here, and either asking twice is the same as
asking once (GET and its kin) or the backend's kernel never acknowledged a byte of the request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.relay.connection import Connection, Failed, Reply

# Servers close idle connections after 5 s or more (uvicorn: 5). We go first: what is written on a connection
# that is just being closed cannot always be repeated.
KEPT_ALIVE_S = 4.0
NEXT_ADDRESS_S = 0.25  # what an address may take before the next is tried beside it; RFC 8305's own figure
_HARMLESS_TWICE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})  # RFC 9110, 9.2.2
_HAS_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a backend listens. `host_header` is the value of Host; `tls` None speaks in the clear."""

    host: str
    port: int
    host_header: bytes
    tls: ssl.SSLContext | None = None


class Connections:
    """All connections to one origin: as many as requests are in flight, and KEPT_ALIVE_S after."""

    def __init__(self, origin: Origin, *, kept_alive_s: float = KEPT_ALIVE_S) -> None:
        self._origin = origin
        self._kept_alive_s = kept_alive_s
        self._all: set[Connection] = set()
        self._free: deque[Connection] = deque()  # the one given back last is on the right
        self._connecting = 0
        self._sweeping: asyncio.TimerHandle | None = None
        self._literal = _literal(origin)
        self._line_end = b" HTTP/1.1\r\nhost: " + origin.host_header + b"\r\n"

    @property
    def busy(self) -> int:
        """Connections that are being made, or that some request holds."""
        return self._connecting + len(self._all) - self.free

    @property
    def free(self) -> int:
        """Connections that are kept for the next request."""
        return sum(not connection.is_gone for connection in self._free)

    async def ask(
        self,
        method: str,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterator[bytes],
        *,
        connect_s: float,
        first_byte_s: float,
        idle_s: float,
    ) -> Reply:
        """Send a request; return when its reply's head is here.

        target: path and query as they go on the wire. headers: without Host and Transfer-Encoding; with a
        Content-Length only where the body is an iterator that has one. idle_s: between two pieces of the
        reply. Raises Failed, or what the iterator raised.
        """
        head, length = self._head(method, target, headers, body)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + first_byte_s
        asks_head = method == "HEAD"
        if (kept := self._kept()) is not None:
            try:
                return await kept.ask(
                    head, body, length=length, asks_head=asks_head, until_s=until_s, idle_s=idle_s
                )
            except Failed as failed:
                harmless = kept.was_unread or method in _HARMLESS_TWICE
                if not (failed.kind == "cut" and kept.was_unheard and harmless and isinstance(body, bytes)):
                    raise
        connection = await self._connected(loop, connect_s, until_s)
        return await connection.ask(
            head, body, length=length, asks_head=asks_head, until_s=until_s, idle_s=idle_s
        )

    async def aclose(self) -> None:
        """Close every connection, those under a request too."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in tuple(self._all):
            connection.abort()
        self._free.clear()

    def _head(
        self,
        method: str,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterator[bytes],
    ) -> tuple[bytes, int | None]:
        """Return the request's head and its body's length, None when it goes in chunks."""
        length: int | None = None
        lines = [b"%b: %b\r\n" % header for header in headers]
        if isinstance(body, bytes):
            length = len(body)
            if length or method in _HAS_BODY:
                lines.append(b"content-length: %d\r\n" % length)
        else:
            said = [value for name, value in headers if name.lower() == b"content-length"]
            if said:
                is_one = len(said) == 1 and said[0].isdigit() and len(said[0]) <= 18
                length = int(said[0]) if is_one else -1
            else:
                lines.append(b"transfer-encoding: chunked\r\n")
        head = b"%b %b%b%b\r\n" % (method.encode("ascii"), target, self._line_end, b"".join(lines))
        line_ends = len(lines) + 3
        if (
            head.count(b"\n") != line_ends
            or head.count(b"\r") != line_ends
            or b"\0" in head
            or b" " in target
            or length == -1
        ):
            raise Failed("connect", "a line break in a header, or a length that is none; nothing was sent")
        return head, length

    def _kept(self) -> Connection | None:
        """Return a free connection that can be used."""
        free = self._free
        while free:
            connection = free.pop()
            if connection.is_usable():
                return connection
            connection.abort()
        return None

    async def _connected(
        self, loop: asyncio.AbstractEventLoop, connect_s: float, until_s: float
    ) -> Connection:
        """Return a new connection. Raises Failed."""
        by_s = loop.time() + connect_s
        self._connecting += 1
        try:
            async with asyncio.timeout_at(min(by_s, until_s)):
                return await self._connect(loop)
        except (OSError, UnicodeError) as error:  # TimeoutError and ssl.SSLError are OSErrors
            is_late = isinstance(error, TimeoutError) and until_s < by_s
            raise Failed("timeout" if is_late else "connect", f"{type(error).__name__}: {error}") from error
        finally:
            self._connecting -= 1

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> Connection:
        places = await self._places(loop)
        if len(places) == 1:
            return await self._opened(loop, await _socket_to(loop, *places[0]))
        return await self._opened(loop, await _first_to_answer(loop, places))

    async def _places(self, loop: asyncio.AbstractEventLoop) -> Sequence[tuple[int, Any]]:
        if self._literal:
            return self._literal
        host, port = self._origin.host, self._origin.port
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]

    async def _opened(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Connection:
        """Return the connection over a socket, which the loop closes from here on, whatever happens."""
        tls: dict[str, Any] = {}
        if self._origin.tls is not None:
            tls = {"ssl": self._origin.tls, "server_hostname": self._origin.host}
        _, connection = await loop.create_connection(
            lambda: Connection(loop, sock, self._freed, self._all.discard), sock=sock, **tls
        )
        if connection.is_gone:
            raise ConnectionResetError("closed at once")
        self._all.add(connection)
        return connection

    def _freed(self, connection: Connection) -> None:
        connection.free_since_s = connection.loop.time()
        self._free.append(connection)
        if self._sweeping is None:
            self._sweeping = connection.loop.call_later(self._kept_alive_s, self._sweep, connection.loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what nobody has asked for long, and look again when the next has grown old."""
        self._sweeping = None
        free, old_s = self._free, loop.time() - self._kept_alive_s
        while free and (free[0].is_gone or free[0].free_since_s <= old_s + 0.001):
            free.popleft().abort()
        if free:
            self._sweeping = loop.call_at(free[0].free_since_s + self._kept_alive_s, self._sweep, loop)


def _literal(origin: Origin) -> Sequence[tuple[int, Any]]:
    """Return the one place of an origin that is named by its address; a look-up would go to a thread."""
    try:
        address = ipaddress.ip_address(origin.host)
    except ValueError:
        return []
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return [(family, (origin.host, origin.port))]


async def _socket_to(loop: asyncio.AbstractEventLoop, family: int, address: Any) -> socket.socket:
    """Return a connected socket."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _first_to_answer(
    loop: asyncio.AbstractEventLoop, places: Sequence[tuple[int, Any]]
) -> socket.socket:
    """Return a socket to the first address that answers; the next is tried when one fails or is slow.

    A name often has an IPv6 address that leads nowhere. Source: RFC 8305, 5 "Connection Attempts".
    """
    left = list(places)
    under_way: set[asyncio.Task[socket.socket]] = set()
    refused: OSError = OSError("the name has no address")
    won: socket.socket | None = None
    try:
        while won is None and (left or under_way):
            if left:
                under_way.add(loop.create_task(_socket_to(loop, *left.pop(0))))
            done, under_way = await asyncio.wait(
                under_way, timeout=NEXT_ADDRESS_S if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None and won is None:
                    won = task.result()
                elif error is None:
                    task.result().close()
                elif isinstance(error, OSError):
                    refused = error
                else:
                    raise error
    finally:
        for task in under_way:
            task.add_done_callback(_close_loser)
            task.cancel()
    if won is None:
        raise refused
    return won


def _close_loser(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
