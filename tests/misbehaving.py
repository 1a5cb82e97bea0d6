"""Backends that misbehave in ways that have names, each a script for one raw connection on loopback.

A script gets a Connection and writes what it likes; when it returns, the connection is closed unless it says to
keep it. The server counts its open connections, so that a test can tell a leak.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.builders import DONE, chat_reply, chat_stream, chunk, frame, usage_chunk

Script = Callable[["Connection"], Awaitable[None]]


@dataclass
class Connection:
    """One accepted connection: the requests it was asked, and the ways to answer badly."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int  # of this server's connections, from 1
    heads: list[bytes] = field(default_factory=list)

    async def request(self) -> bytes:
        """Read one request, head and body; return its head. Raises IncompleteReadError at the end."""
        head = await self.head()
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                await self.reader.readexactly(int(value))
        return head

    async def head(self) -> bytes:
        self.heads.append(await self.reader.readuntil(b"\r\n\r\n"))
        return self.heads[-1]

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, body: bytes, *, status: str = "200 OK", more: str = "", kind: str = "application/json"
    ) -> None:
        """Write a whole, well-formed reply that keeps the connection open."""
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        await self.write(head.encode() + body)

    async def stream(self, *pieces: bytes, end: bool = True) -> None:
        """Write a chunked event stream."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        await self.write(head)
        for piece in pieces:
            await self.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if end:
            await self.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """Close by a RST instead of a FIN."""
        raw: Any = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


class Misbehaving:
    """A server of one script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections: list[Connection] = []
        self.open = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._all_closed = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self) -> int:
        return sum(len(connection.heads) for connection in self.connections)

    async def __aenter__(self) -> Self:
        # The limit is what a script may wait for in one go: heads of ten thousand lines come the other way only.
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def everything_closed(self) -> None:
        """Return when every client's end of every connection is closed."""
        while self.open:
            self._all_closed.clear()
            await self._all_closed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection = Connection(reader, writer, len(self.connections) + 1)
        self.connections.append(connection)
        self.open += 1
        try:
            await self.script(connection)
            if not writer.is_closing():
                writer.write_eof()
            while await reader.read(1 << 16):  # until the client has closed its end too
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the relay went away, or the test is over
        finally:
            self.open -= 1
            self._all_closed.set()
            writer.close()


def replies(raw: bytes) -> Script:
    """Read a request, write these bytes, and close."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(raw)

    return script


def streams(*pieces: bytes, end: bool = True) -> Script:
    """Read a request, stream these pieces, and close."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.stream(*pieces, end=end)

    return script


def silent_after(raw: bytes) -> Script:
    """Read a request, write these bytes, then nothing for ever."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(raw)
        await connection.reader.read()

    return script


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


JSON_HEAD = "Content-Type: application/json"
SSE_HEAD = ("Content-Type: text/event-stream", "Transfer-Encoding: chunked")
REPLY = chat_reply()
TOLD, FINISH, USAGE = chunk("The lamp burned."), chunk(finish="stop"), usage_chunk()


def whole(body: bytes, *lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return head(JSON_HEAD, f"Content-Length: {len(body)}", *lines, status=status) + body


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def trickles(begun: bytes, more: bytes) -> Script:
    """Read a request, write `begun`, then `more` again and again, for ever."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(begun)
        while True:
            await connection.write(more)
            await asyncio.sleep(0.005)

    return script


async def resets_the_second_request(connection: Connection) -> None:
    await connection.request()
    await connection.answer(REPLY)
    await connection.request()
    connection.reset()


async def says_more_than_it_was_asked(connection: Connection) -> None:
    await connection.request()
    await connection.write(whole(REPLY) + whole(b'{"choices":[{"message":{"content":"another user"}}]}'))
    await connection.request()
    await connection.answer(REPLY)


async def says_more_than_its_length(connection: Connection) -> None:
    await connection.request()
    await connection.write(whole(REPLY) + b"GARBAGE")
    await connection.request()
    await connection.answer(REPLY)


async def refuses_while_the_body_still_comes(connection: Connection) -> None:
    await connection.head()
    await connection.write(
        whole(b'{"error":{"message":"too long"}}', "Connection: close", status="HTTP/1.1 400 No")
    )


async def closes_at_once(connection: Connection) -> None:
    connection.writer.close()


async def is_busy_once(connection: Connection) -> None:
    while True:
        await connection.request()
        if connection.number == 1 and len(connection.heads) == 1:
            await connection.answer(
                b'{"error":{"message":"loading"}}', status="503 Loading", more="Retry-After: 0\r\n"
            )
        else:
            await connection.answer(REPLY)


TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"'
FRAMES = chat_stream()
LETTER = (
    TEXT + "caf\u00e9".encode() + b'"}}]}\n\n'
)  # the cut below falls between the two bytes of its last letter
FAULT = whole(b'{"error":{"message":"out of memory"}}', status="HTTP/1.1 500 Internal Server Error")
BOMB = gzip.compress(b"[" + b" " * (80 << 20) + b"]", 1)
NAMED_JSON: dict[str, Script] = {
    "closes_at_once": closes_at_once,
    "says_nothing": silent_after(b""),
    "closes_before_a_head": replies(b""),
    "closes_inside_the_head": replies(b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "speaks_another_protocol": replies(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "has_a_header_of_a_megabyte": replies(
        head("X-Long: " + "x" * (1 << 20), JSON_HEAD, f"Content-Length: {len(REPLY)}") + REPLY
    ),
    "has_ten_thousand_headers": replies(
        head(*(f"X-{n}: y" for n in range(10_000)), JSON_HEAD, f"Content-Length: {len(REPLY)}") + REPLY
    ),
    "has_a_header_without_a_colon": replies(
        head("nonsense", JSON_HEAD, f"Content-Length: {len(REPLY)}") + REPLY
    ),
    "has_a_nul_in_a_header": replies(head("X-A: a\0b", JSON_HEAD, f"Content-Length: {len(REPLY)}") + REPLY),
    "says_two_lengths": replies(
        head(JSON_HEAD, "Content-Length: 5", f"Content-Length: {len(REPLY)}") + REPLY
    ),
    "says_a_length_and_chunked": replies(
        head(JSON_HEAD, "Content-Length: 5", "Transfer-Encoding: chunked") + chunked(REPLY) + b"0\r\n\r\n"
    ),
    "says_a_negative_length": replies(head(JSON_HEAD, "Content-Length: -1") + REPLY),
    "closes_after_the_head": replies(head(JSON_HEAD, "Content-Length: 100")),
    "closes_in_the_body": replies(whole(REPLY)[:-20]),
    "says_too_long_a_length": replies(head(JSON_HEAD, f"Content-Length: {len(REPLY) + 9}") + REPLY),
    "says_too_short_a_length": replies(head(JSON_HEAD, f"Content-Length: {len(REPLY) - 9}") + REPLY),
    "falls_silent_in_the_body": silent_after(whole(REPLY)[:-20]),
    "lies_about_gzip": replies(whole(REPLY, "Content-Encoding: gzip")),
    "cuts_its_gzip_short": replies(whole(gzip.compress(REPLY)[:-20], "Content-Encoding: gzip")),
    "sends_a_gzip_bomb": replies(whole(BOMB, "Content-Encoding: gzip")),
    "refuses_at_length": replies(whole(b"x" * (3 << 20), status="HTTP/1.1 500 Internal Server Error")),
    "trickles_its_head": trickles(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "trickles_its_body": trickles(head(JSON_HEAD, "Content-Length: 100000") + b"[", b" "),
    "fails_behind_its_reply": replies(whole(REPLY) + FAULT),
    "compresses_unasked": replies(whole(gzip.compress(REPLY), "Content-Encoding: gzip")),
    "sends_html_with_200": replies(
        head("Content-Type: text/html", "Content-Length: 20") + b"<html>Sorry!</html>\n"
    ),
    "sends_html_as_json": replies(whole(b"<html>Sorry!</html>")),
    "is_busy": replies(
        whole(b'{"error":{"message":"slow down"}}', "Retry-After: 40", status="HTTP/1.1 429 Busy")
    ),
    "is_busy_once": is_busy_once,
    "redirects_elsewhere": replies(
        head("Location: http://127.0.0.1:9/steal", "Content-Length: 0", status="HTTP/1.1 307 Go")
    ),
    "sends_garbage_after_its_json": replies(whole(REPLY + b"}}garbage")),
    "sends_an_empty_body": replies(whole(b"")),
    "has_no_content": replies(head(status="HTTP/1.1 204 No Content")),
    "says_not_modified": replies(head(status="HTTP/1.1 304 Not Modified")),
    "speaks_http_1_0": replies(head(JSON_HEAD, status="HTTP/1.0 200 OK") + REPLY),
    "gives_no_reason_phrase": replies(whole(REPLY, status="HTTP/1.1 200")),
    "continues_unasked": replies(b"HTTP/1.1 100 Continue\r\n\r\n" + whole(REPLY)),
    "hints_early": replies(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + whole(REPLY)),
    "switches_protocols_unasked": replies(
        head("Upgrade: x", "Connection: Upgrade", status="HTTP/1.1 101 Switching Protocols")
    ),
    "invents_a_status": replies(whole(b"{}", status="HTTP/1.1 799 Odd")),
    "nests_ten_thousand_deep": replies(whole(b"[" * 10_000 + b"]" * 10_000)),
    "reports_absurd_usage": replies(
        whole(chat_reply(usage={"prompt_tokens": -5, "completion_tokens": 1e300}))
    ),
    "sends_broken_utf8": replies(whole(REPLY.replace(b"lamp", b"l\xffmp"))),
}
NAMED_STREAMS: dict[str, Script] = {
    "closes_after_the_streams_head": replies(head(*SSE_HEAD)),
    "closes_in_mid_stream": streams(TOLD, end=False),
    "closes_inside_an_event": streams(TOLD, FINISH[:20], end=False),
    "falls_silent_in_mid_stream": silent_after(head(*SSE_HEAD) + chunked(TOLD)),
    "pings_and_falls_silent": silent_after(head(*SSE_HEAD) + chunked(b": ping\n\n", b": ping\n\n")),
    "never_ends": trickles(head(*SSE_HEAD) + chunked(TOLD), chunked(b": still here\n\n")),
    "breaks_its_chunks": replies(head(*SSE_HEAD) + chunked(TOLD) + b"zz\r\nnonsense\r\n"),
    "says_a_chunk_without_end": replies(head(*SSE_HEAD) + chunked(TOLD) + b"ffffffffffffffffffff\r\n"),
    "sends_an_event_without_end": streams(b"data: " + b"x" * (5 << 20)),
    "never_finishes": streams(TOLD, USAGE, DONE),
    "never_says_done": streams(TOLD, FINISH, USAGE),
    "forgets_the_last_blank_line": streams(TOLD, FINISH, USAGE, b"data: [DONE]"),
    "ends_lines_with_crlf": streams(
        *(piece.replace(b"\n", b"\r\n") for piece in (TOLD, FINISH, USAGE, DONE))
    ),
    "spreads_its_events_over_lines": streams(
        *(piece.replace(b',"', b',\ndata:"') for piece in (TOLD, FINISH, USAGE)), DONE
    ),
    "ends_lines_with_cr": streams(*(piece.replace(b"\n", b"\r") for piece in (TOLD, FINISH, USAGE, DONE))),
    "begins_with_a_byte_order_mark": streams(b"\xef\xbb\xbf" + TOLD, FINISH, USAGE, DONE),
    "sends_only_comments": streams(b": ping\n\n", b": ping\n\n", DONE),
    "sends_nothing_in_its_stream": streams(),
    "sends_broken_utf8_in_an_event": streams(TEXT + b'\xff\xfe"}}]}\n\n', FINISH, USAGE, DONE),
    "cuts_a_letter_in_two": streams(LETTER[:-8], LETTER[-8:], FINISH, USAGE, DONE),
    "ends_inside_a_letter": streams(TOLD, TEXT + b"caf\xc3", end=True),
    "says_done_twice": streams(TOLD, FINISH, USAGE, DONE, DONE),
    "goes_on_after_done": streams(TOLD, FINISH, USAGE, DONE, chunk("more"), usage_chunk(99, 99)),
    "reports_usage_twice": streams(TOLD, FINISH, usage_chunk(11, 3), usage_chunk(11, 7), DONE),
    "never_reports_usage": streams(TOLD, FINISH, DONE),
    "finishes_twice": streams(TOLD, FINISH, chunk("late"), FINISH, USAGE, DONE),
    "sends_an_error_in_the_stream": streams(TOLD, frame({"error": {"message": "overloaded"}}), DONE),
    "fails_inside_its_stream": replies(head(*SSE_HEAD) + chunked(TOLD) + FAULT),
    "reports_a_fault_in_its_last_event": streams(
        TOLD, frame({"error": {"message": "no memory", "code": 500}})
    ),
    "sends_a_gzip_bomb_as_events": replies(
        head("Content-Encoding: gzip", *SSE_HEAD) + chunked(BOMB) + b"0\r\n\r\n"
    ),
    "trickles_its_events": trickles(head(*SSE_HEAD) + chunked(TOLD), chunked(b"x")),
    "sends_json_for_a_stream": replies(whole(REPLY)),
    "sends_nonsense_between_events": streams(
        TOLD, b"data: {nonsense\n\n", b"data: 7\n\n", b'data: {"choices":null}\n\n', FINISH, USAGE, DONE
    ),
    "gives_a_stream_a_length": replies(
        head("Content-Type: text/event-stream", f"Content-Length: {sum(map(len, FRAMES))}") + b"".join(FRAMES)
    ),
    "streams_until_it_closes": replies(
        head("Content-Type: text/event-stream", status="HTTP/1.0 200 OK") + b"".join(FRAMES)
    ),
}
