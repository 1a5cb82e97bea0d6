"""Clients' side of the socket: uvicorn's HTTP, with what a relay needs of it and frameworks do not.

Heads, trailers and silence are bounded, what two readers could read in two ways is refused, and a client that
leaves is noticed also when it had sent several requests one behind the other. How one of them is answered is
`cycle`'s.

Source: RFC 9112, 9.3.2 "Pipelining".
"""

from __future__ import annotations

import asyncio
import functools
import urllib.parse
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from proxy.cycle import Cycle
from proxy.relay.needs import GONE
from proxy.turns import Turns
from proxy.wire.errors import error_body, error_shape

HEAD_BYTES_MAX = 65_536  # a request's line and headers; a long session cookie has some 8,000
LINGER_S = 2.0  # an unread request is taken for so long behind its answer, or until its client closes
LINGER_BYTES_MAX = 1 << 24  # and so much of it; who sends more without a look at our answer is reset
LATER_S = 1.0  # after what reads a body has noticed a silence by itself: it answers in its own words
FIELD_BYTES = 4  # of each header beside its name and value
_LASTING = frozenset({b"close", b"keep-alive"})  # what `Connection` says of the connection itself
_OFFER = frozenset({b"upgrade", b"http2-settings"})


class _HeadTooLarge(Exception):
    """A request's line and headers are over HEAD_BYTES_MAX."""


class _NotServed(Exception):
    """A request of a version that we do not speak, for a tunnel, or of which two readers could make two."""


class Front(HttpToolsProtocol):
    """One client's connection.

    A head is whole within `client_idle_s` of its first byte and no larger than HEAD_BYTES_MAX; a connection
    on which no request begins is closed after that time too, whatever else comes: before its first request,
    and behind an answer that did not wait for its request's body. Trailers are bounded and dropped.

    Who trickles is ended like who falls silent: in each `client_idle_s` a body must bring `bytes_per_s`,
    unless it was us who did not read, and an answer that waits for its reader must lose as much. With 0 one
    byte is enough.
    """

    _turns: ClassVar[Turns | None] = None  # of the loop that serves; a process has one
    _serving: Cycle | None = None  # the request that is answered; `cycle` is the one that is read
    _in_head = False
    _in_body = False
    _beside_bytes = 0  # of trailers and chunk extensions since a byte of the body came
    _head_bytes = 0  # of the head that is read, as far as it came in earlier pieces
    _piece_bytes = 0  # that are parsed now
    _head_timer: asyncio.TimerHandle | None = None  # only where a head came in pieces
    _pace_timer: asyncio.TimerHandle | None = None  # only while a body is to come, or an answer to be read
    _came_bytes = 0  # since the pace was looked at
    _was_paused = False  # since then: we did not read, so nothing could come
    _unread: int | None = None  # bytes that wait for their reader; None: they went in between
    _unread_s = 0.0  # since when it is so many
    _lingers_bytes: int | None = None  # that are still taken of what nobody reads; None: we do not linger

    def __init__(self, *args: Any, bytes_per_s: int = 0, **more: Any) -> None:
        """bytes_per_s: of a body or of an answer (`[server] client_bytes_per_s`); the rest is uvicorn's."""
        super().__init__(*args, **more)
        self._bytes_per_s = bytes_per_s

    def connection_made(self, transport: Any) -> None:
        """Take a connection, for as long as a kept one may be silent."""
        super().connection_made(transport)
        wait_s, close = self.timeout_keep_alive, self.timeout_keep_alive_handler
        self.timeout_keep_alive_task = self.loop.call_later(wait_s, close)

    def data_received(self, data: bytes) -> None:
        """Parse what came. What is no HTTP, or a head without end, is refused and the connection closed."""
        if self._lingers_bytes is not None:
            self._lingers_bytes -= len(data)
            if self._lingers_bytes < 0:
                self.transport.close()
            return
        self._piece_bytes = len(data)
        self._beside_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _HeadTooLarge):
                self._refuse(400, "the request cannot be read as HTTP/1.1", code="bad_http")
            else:
                self._refuse(431, f"the request's head is over {HEAD_BYTES_MAX} bytes", code="head_too_large")
        except httptools.HttpParserError:
            self._refuse(400, "the request cannot be read as HTTP/1.1", code="bad_http")
        else:
            if self._in_head:
                self._wait_for_head()
            elif self._in_body:
                self._body_goes_on(len(data))

    def _parse(self, data: bytes) -> None:
        """Parse, without heed to offers to go on in another protocol, but for websockets (RFC 9110, 7.8).

        Some clients offer HTTP/2 in the clear with whatever they ask. The parser leaves such a request's body
        unread, so its head is parsed once more, without the offer.
        """
        while True:
            try:
                cast("Any", self.parser).feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                head = self._head_without_offer()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                data = head + data[cast("int", offer.args[0]) :]
            else:
                return

    def _head_without_offer(self) -> bytes:
        """Return the head that was parsed last, as if no other protocol had been offered."""
        parser = cast("Any", self.parser)
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self.url, parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() in _LASTING]
                lines.append(b"connection: " + b",".join(kept))
            elif name not in _OFFER:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    def _body_goes_on(self, came_bytes: int) -> None:
        if self._beside_bytes > HEAD_BYTES_MAX:
            why = f"trailers or a chunk's extensions are over {HEAD_BYTES_MAX} bytes"
            self._refuse(431, why, code="head_too_large")
            return
        self._came_bytes += came_bytes
        self._was_paused = self._was_paused or self.flow.read_paused
        self._watch_pace()

    def pause_writing(self) -> None:
        """Take note that the client does not keep up."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Take note that it does again."""
        super().resume_writing()
        self._unread = None

    def on_response_complete(self) -> None:
        """Go on to the next request; what its reader has not taken yet is looked after."""
        if self._lingers_bytes is not None:
            return
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._watch_reader()

    def _watch_reader(self) -> None:
        self._unread, self._unread_s = self.transport.get_write_buffer_size(), self.loop.time()
        self._watch_pace()

    def _watch_pace(self) -> None:
        if self._pace_timer is None:
            self._came_bytes, self._was_paused = 0, self.flow.read_paused
            self._pace_timer = self.loop.call_later(self.timeout_keep_alive + LATER_S, self._look_at_pace)

    def _look_at_pace(self) -> None:
        """End a connection that trickles; look again later while there is something to wait for."""
        self._pace_timer = None
        now_s, least = self.loop.time(), max(1, self._bytes_per_s * self.timeout_keep_alive)
        if self._unread is not None and now_s - self._unread_s >= self.timeout_keep_alive:
            left = self.transport.get_write_buffer_size()
            if left and self._unread - left < least:
                self.transport.abort()
                return
            self._unread, self._unread_s = left or None, now_s
        if self._in_body and self._came_bytes < least and not self._is_waiting_for_us():
            why = f"the request's body came with less than {self._bytes_per_s} bytes a second"
            self._refuse(408, why, code="client_idle")
        elif self._in_body or self._unread is not None:
            self._watch_pace()

    def _is_waiting_for_us(self) -> bool:
        """Say whether a body does not come because we do not read it, or have not asked for it."""
        return self._was_paused or self.cycle.waiting_for_100_continue or self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._head_bytes += self._piece_bytes
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431, f"the request's head is over {HEAD_BYTES_MAX} bytes", code="head_too_large")
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.timeout_keep_alive, self._head_is_late)

    def _head_is_late(self) -> None:
        why = f"the request's head was not whole after {self.timeout_keep_alive} s"
        self._refuse(408, why, code="client_idle")

    def _refuse(self, status: int, why: str, *, code: str) -> None:
        """Answer what is no request, unless an answer has begun: then only end."""
        self._head_is_over()
        transport, serving = self.transport, self._serving
        is_free = serving is None or serving.response_complete or not serving.response_started
        if self._in_body and self.cycle.response_complete:
            is_free = False  # the request that this belongs to has its answer
        if is_free and not transport.is_closing():
            body = error_body(status, why, code=code, shape=error_shape("/v1/"))
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            transport.write(STATUS_LINE[status] + head % len(body) + body)
            self._linger()
        else:
            transport.close()

    def _hang_up(self) -> None:
        """Close behind an answer."""
        if self._in_body:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Say that we have said all, and take what still comes: closed at once, a connection is reset.

        A client that sends its whole request before it reads would never see why. Source: RFC 9112, 9.6.
        """
        if self._lingers_bytes is not None or self.transport.is_closing():
            return
        if not self.transport.can_write_eof():  # TLS
            self.transport.close()
            return
        self._lingers_bytes, self._in_body = LINGER_BYTES_MAX, False
        self._unset_keepalive_if_required()
        self.transport.write_eof()
        if self._serving is not None:
            self._serving.lost()  # what is still answered has nobody to go to
        if self.transport.get_write_buffer_size():
            self._watch_reader()  # closed too, a connection lasts until all has left
        self.flow.resume_reading()
        self.loop.call_later(LINGER_S, self.transport.close)

    def _head_is_over(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        self._unset_keepalive_if_required()  # blank lines and the rest of a body begin nothing
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Begin a request, or queue it behind the one that is answered."""
        if self._head_bytes + self._piece_bytes > HEAD_BYTES_MAX:
            self._check_head()
        self._head_is_over()
        self._unset_keepalive_if_required()  # it was set anew if an answer ended while this head came
        parser = cast("Any", self.parser)
        app = cast("Any", self).app
        version: str = parser.get_http_version()
        if version not in {"1.1", "1.0"} or _reads_in_two_ways(self.headers, version):
            raise _NotServed
        scope: Any = self.scope
        scope["method"] = parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        if scope["method"] == "CONNECT":
            raise _NotServed
        if parser.should_upgrade():
            return  # see `_parse`
        url = httptools.parse_url(self.url)
        raw_path = url.path
        path = raw_path.decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = url.query or b""
        # What is named from here on is a trailer: a header that was looked for must not come after the look.
        self.headers = []
        self._in_body, self._beside_bytes = True, 0
        before = self.cycle
        cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        scope[GONE] = cycle.tell_when_gone
        cycle.hang_up = self._hang_up
        self.cycle = cycle
        if before is None or before.response_complete:  # pyright: ignore[reportUnnecessaryComparison]
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._beside_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take note that the body is whole."""
        if cast("Any", self.parser).should_upgrade():
            return  # this is the end of a head that is parsed once more
        self._in_body = False
        self._was_paused = True  # of the next body this says nothing
        if self._pace_timer is not None and self._unread is None:
            self._pace_timer.cancel()
            self._pace_timer = None
        super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._serving = cycle
        turns = Front._turns
        if turns is None or turns.loop is not self.loop:
            turns = Front._turns = Turns(self.loop)
        if turns.has_room():
            super()._start_asgi_task(cycle, app)
        else:
            turns.waiting.append(functools.partial(super()._start_asgi_task, cycle, app))

    def _check_head(self) -> None:
        # What came with the head may be its body, or the next request.
        fields = sum(len(name) + len(value) + FIELD_BYTES for name, value in self.headers)
        if len(self.url) + fields > HEAD_BYTES_MAX:
            raise _HeadTooLarge

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is answered, even if another was read behind it."""
        self._head_is_over()
        self._unset_keepalive_if_required()
        if self._pace_timer is not None:
            self._pace_timer.cancel()
        super().connection_lost(exc)
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.lost()


def _reads_in_two_ways(headers: list[tuple[bytes, bytes]], version: str) -> bool:
    """Tell whether a proxy before us may have seen another request: other ends, or another host."""
    hosts = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings += 1
            if version == "1.0" or value.strip().lower() != b"chunked":
                return True
    return hosts > 1 or codings > 1
