"""One request of a client and its reply, as a relay writes one: a head, and pieces of somebody else's bytes.

The head is looked at as a whole, instead of twice for each header, and leaves with the first piece of the
body where one follows at once. A client that leaves is told to whoever asked to hear of it, at once and
without a task that waits for it. A client of HTTP/1.0 knows no chunks: its answer ends with the connection,
and one that breaks off ends in a reset, or its client would take it for whole.

Sources: RFC 9112, 6.3 "Message Body Length"; the ASGI specification, 2.3.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from proxy.wire.errors import error_body, error_shape

NAMES_KEPT = 1_024  # header names that were looked at already; backends and we send some dozens
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROLS = bytes({*range(32), 127} - {9, 10, 13})  # line breaks are counted, tabs may be
NO_CONTENT = 204
_NO_BODY = frozenset({NO_CONTENT, 304})
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets
_TOLD = frozenset({b"content-length", b"transfer-encoding", b"connection"})  # what they say is looked at
_begins: dict[bytes, bytes] = {}  # how the line of each other header begins, by the name that was given


class Cycle(RequestResponseCycle):
    """One request and its reply."""

    hang_up: Callable[[], None]  # closes its connection behind it
    _when_gone: Callable[[], None] | None = None
    _ends_with_connection = False
    _is_bare = False  # no body follows the head, whatever length it says
    _head = b""  # that waits for the first piece of the body, or for the loop's next turn

    def tell_when_gone(self, call: Callable[[], None] | None) -> None:
        """Call this once when the client leaves before the reply is whole; None: nobody asks any more."""
        self._when_gone = call
        if call is not None:
            self.flow.resume_reading()  # who does not read does not notice
            if self.disconnected:
                asyncio.get_running_loop().call_soon(self._tell)

    def lost(self) -> None:
        """Take note that the connection is gone."""
        if not self.response_complete:
            self.disconnected = True
            self.message_event.set()
            self._tell()

    def _tell(self) -> None:
        call, self._when_gone = self._when_gone, None
        if call is not None:
            call()

    async def run_asgi(self, app: Any) -> None:
        """Run the application; a reply that it leaves unfinished breaks off visibly."""
        try:
            await app(self.scope, self.receive, self.send)
            if not (self.response_complete or self.disconnected):
                if not self.response_started:
                    self.logger.error("ASGI callable returned without starting response.")
                    await self.send_500_response()
                else:
                    self._break_off()
        except BaseException as error:
            self.logger.error("Exception in ASGI application", exc_info=error)  # noqa: TRY400  # and not only `Exception`
            if not self.response_started:
                await self.send_500_response()
            else:
                self._break_off()
        finally:
            self.on_response = _nothing

    def _break_off(self) -> None:
        self._send_head()
        if self._ends_with_connection:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.transport.abort()
        else:
            self.transport.close()

    async def send_500_response(self) -> None:
        """Answer for a fault of ours, in the form that clients of this path read."""
        path = self.scope["raw_path"].decode("latin-1")
        body = error_body(500, "something broke on our side", code="internal", shape=error_shape(path))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def send(self, message: Any) -> None:
        """Write a head or a piece. Raises RuntimeError for what would break the protocol: our bug."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.body":
            self._write(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start" and not self.response_started:
            self._begin(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"{kind} has no place here")

    def _begin(self, status: int, headers: Any) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        self._is_bare = status in _NO_BODY or self.scope["method"] == "HEAD"
        is_old = self.scope["http_version"] == "1.0"
        says_close = False
        lines = [STATUS_LINE[status][:-2]]
        for name, value in (*self.default_headers, *headers):
            begins = _begins.get(name)
            if begins is not None:
                lines.append(begins + value)
                continue
            lower = _looked_at(name)
            if lower == b"content-length" and status == NO_CONTENT:
                continue  # RFC 9110, 8.6: it has none
            if lower == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif lower == b"transfer-encoding" and value.lower() == b"chunked":
                if is_old:
                    continue
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif lower == b"connection" and b"close" in (part.strip() for part in value.lower().split(b",")):
                self.keep_alive = False
                says_close = True
            lines.append(lower + b": " + value)
        if self.chunked_encoding is None and not self._is_bare:
            self.chunked_encoding, self._ends_with_connection = not is_old, is_old
            if not is_old:
                lines.append(b"transfer-encoding: chunked")
        if not (self.keep_alive or says_close):
            lines.append(b"connection: close")
        head = b"\r\n".join([*lines, b"", b""])
        is_clean = head.count(b"\n") == len(lines) + 1 == head.count(b"\r")
        if not is_clean or len(head.translate(None, _CONTROLS)) != len(head):
            raise RuntimeError("a header's value holds a control character")
        self._head = head
        asyncio.get_running_loop().call_soon(self._send_head)

    def _send_head(self) -> None:
        """Write the head by itself, where no piece of the body came with it."""
        head, self._head = self._head, b""
        if head and not self.transport.is_closing():
            self.transport.write(head)

    def _write(self, body: bytes, *, more: bool) -> None:
        if self.response_complete or not self.response_started:
            raise RuntimeError("a piece of a reply that has not begun, or is over")
        if self._is_bare:
            body = b""
        elif self.chunked_encoding:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if not more:
                body += b"0\r\n\r\n"
        elif not self._ends_with_connection:
            self._count(body, more=more)
        if self._head:  # one write, and one packet, fewer
            body, self._head = self._head + body, b""
        if body:
            self.transport.write(body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.hang_up()
            self.on_response()

    def _count(self, body: bytes, *, more: bool) -> None:
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0 or (self.expected_content_length and not more):
            raise RuntimeError("the reply's length is not what its head says")


def _looked_at(name: bytes) -> bytes:
    """Return a header's name in small letters. Raises RuntimeError for one that is none."""
    if _TOKEN.fullmatch(name) is None:
        raise RuntimeError("a header's name is none")
    lower = name.lower()
    if lower not in _TOLD and len(_begins) < NAMES_KEPT:
        _begins[name] = lower + b": "
    return lower


def _nothing() -> None:
    """Let go of the connection when the request is over."""
