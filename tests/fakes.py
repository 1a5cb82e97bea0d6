"""Small real objects that stand in for the world: time, ids, a journal in memory, a scripted backend.

They are handed to the code under test, never patched into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import uvicorn

from proxy.access.keys import Principal
from proxy.clock import base32
from proxy.errors import Unavailable
from proxy.metering.usage import Attributed, Begun, MeteredEvent, Record, Used
from proxy.receipts.receipt import Secrets
from proxy.relay.scored import Copied, Evidence, Failed, Scored, ScoredWork

START_US = 1_700_000_000_000_000


class FrozenClock:
    """Stands still until told to move."""

    def __init__(self, now_us: int = START_US) -> None:
        self.time_us = now_us

    def now_us(self) -> int:
        return self.time_us

    def monotonic_s(self) -> float:
        return self.time_us / 1_000_000

    def advance(self, seconds: float) -> None:
        self.time_us += int(seconds * 1_000_000)


class StillIssuer:
    """Signs nothing; what it says is the answer's id."""

    def secrets_of(self, _occurred_us: int) -> Secrets:
        return Secrets(b"s" * 32)

    def receipt(self, event: MeteredEvent) -> str:
        return f"signed {event.id}"


class CountingIds:
    """rct_aaa...b, rct_aaa...c: unique, and the same in every run."""

    def __init__(self) -> None:
        self.count = 0

    def new(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_{base32(self.count)}"


class MemoryJournal:
    """Keeps records in a list; can be told to refuse, or to wait until `gate` is set."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_refusing = False
        self.gate: asyncio.Event | None = None
        self.is_waiting = asyncio.Event()
        self.on_attributed: Callable[[], None] = lambda: None

    def begin(self, begun: Begun) -> None:
        self.records.append(begun)

    async def append(self, *records: Record) -> int:
        self.is_waiting.set()
        try:
            # The real one's caller waits for the disk, and the loop turns meanwhile.
            await (asyncio.sleep(0) if self.gate is None else self.gate.wait())
        except asyncio.CancelledError:
            self.records += records  # as they stay in the queue of the real one
            raise
        if self.is_refusing:
            raise Unavailable("the disk is full", remedy="make room", code="journal_unavailable")
        for record in records:
            self.records.append(record)
            if isinstance(record, Attributed):
                self.on_attributed()
        return len(self.records) - 1

    def offer(self, record: Record) -> None:
        self.records.append(record)

    @property
    def used(self) -> list[Used]:
        return [record for record in self.records if isinstance(record, Used)]

    @property
    def attributed(self) -> list[Attributed]:
        return [record for record in self.records if isinstance(record, Attributed)]

    @property
    def begun(self) -> list[Begun]:
        return [record for record in self.records if isinstance(record, Begun)]


class MemoryPending:
    """Keeps waiting texts in a dictionary."""

    def __init__(self) -> None:
        self.texts: dict[str, tuple[str, dict[int, str]]] = {}
        self.grounded: dict[str, tuple[str, ...]] = {}
        self.cited: dict[str, tuple[str, ...]] = {}
        self.erased: list[str] = []

    def put(
        self,
        event_id: str,
        app: str,
        texts: Mapping[int, str],
        grounded: Sequence[str] = (),
        cited: Sequence[str] = (),
    ) -> None:
        self.grounded[event_id], self.cited[event_id] = tuple(grounded), tuple(cited)
        self.texts[event_id] = (app, dict(texts))

    def put_together(self, app: str, texts: Mapping[str, Mapping[int, str]]) -> None:
        for event_id, by_choice in texts.items():
            self.put(event_id, app, by_choice)

    def erase(self, event_id: str) -> None:
        self.texts.pop(event_id, None)
        self.erased.append(event_id)


@dataclass(frozen=True)
class Credit:
    """What the catalogue says of one work."""

    work: str
    title: str = "The Lighthouse Keeper's Almanac"
    creators: tuple[str, ...] = ("Ada Example",)
    licence: str = "CC-BY-4.0"
    url: str = "https://works.example/almanac"
    verdict: Any = "paid"
    excerpt_words: int | None = None


WORK = "w_" + "a" * 26


def scored(ppm: int = 400_000, work: str = WORK, choice: int = 0) -> Scored:
    """One work with one stretch of evidence."""
    evidence = (Evidence("verbatim", choice, 0, 5, 0.97, 10, 15),)
    return Scored(
        unattributed_ppm=1_000_000 - ppm,
        works=(ScoredWork(work, ppm, evidence),) if ppm else (),
        method="endcredits/1 0123456789ab",
        words=9,
    )


class ScriptedAttributing:
    """Answers `result` at once; None means late. Remembers what it was offered."""

    method = "endcredits/1 0123456789ab"

    def __init__(self, result: Scored | Failed | None = None) -> None:
        self.result = result
        self.offered: dict[str, list[tuple[int, str]]] = {}
        self.requests: dict[str, str] = {}
        self.works_asked: tuple[str, ...] = ()
        self.cited: dict[str, tuple[str, ...]] = {}
        self.copies: tuple[Copied, ...] = ()
        self.deadlines_ms: list[int] = []
        self.forgotten: list[str] = []
        self.is_full = False

    def backlog_is_full(self) -> bool:
        return self.is_full

    def asked(self, event_id: str, text: str) -> None:
        self.requests[event_id] = text

    def grounded(self, event_id: str) -> tuple[str, ...]:
        return self.works_asked if event_id in self.requests else ()

    def copied(self, event_id: str) -> tuple[Copied, ...]:
        return self.copies if event_id in self.offered else ()

    def offer(self, event_id: str, choice: int, text: str) -> None:
        self.offered.setdefault(event_id, []).append((choice, text))

    async def settle(
        self, event_id: str, *, deadline_ms: int, cited: Sequence[str] = ()
    ) -> Scored | Failed | None:
        self.cited[event_id] = tuple(cited)
        self.deadlines_ms.append(deadline_ms)
        return self.result if deadline_ms else None

    def forget(self, event_id: str) -> None:
        self.forgotten.append(event_id)

    async def count_tokens(self, text: str) -> int:
        return len(text.split())


class MemoryKeys:
    """`key` belongs to one app; `other` to a creator."""

    app_key = "ec_app_" + "a" * 32
    creator_key = "ec_creator_" + "b" * 32

    def lists(self, origin: str) -> bool:
        return False

    async def find(self, secret: str) -> Principal | None:
        return {
            self.app_key: Principal("app", "key_1", app_id="app_1", name="test"),
            self.creator_key: Principal("creator", "key_2", creator_id="c_1", name="Ada"),
        }.get(secret)


class QuietLog:
    """Keeps events for tests that read them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._awaited: dict[str, asyncio.Event] = {}

    def heard(self, event: str) -> asyncio.Event:
        """Set once this event has been logged."""
        return self._awaited.setdefault(event, asyncio.Event())

    def _keep(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))
        self.heard(event).set()

    debug = info = warning = error = exception = _keep


@dataclass
class FakeBackend:
    """A backend behind httpx's transport interface: `pieces` is the body as the network would cut it."""

    pieces: Iterable[bytes] | Callable[[], AsyncIterator[bytes]] = (b"{}",)
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(
        default_factory=lambda: [(b"Content-Type", b"application/json")]
    )
    error: Exception | None = None
    requests: list[httpx.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(await request.aread())
        if self.error is not None:
            raise self.error
        stream = _Pieces(self.pieces() if callable(self.pieces) else _each(self.pieces))
        return httpx.Response(self.status, headers=self.headers, stream=stream)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        closing = getattr(self._pieces, "aclose", None)
        if closing is not None:
            await closing()


async def _each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class AsgiClient:
    """Calls an ASGI application as a server would, message by message; `leave()` is the client hanging up."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.messages: list[dict[str, Any]] = []
        self._gone = asyncio.Event()

    async def call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        key: str | None = MemoryKeys.app_key,
        query: str = "",
    ) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        if key is not None:
            raw.append((b"authorization", b"Bearer " + key.encode()))
        if body:
            raw.append((b"content-length", str(len(body)).encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": "/rewritten/",
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": raw,
            "http_version": "1.1",
        }
        first = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if first:
                return first.pop()
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            self.messages.append(message)
            await self.sent.put(message)

        await self.app(scope, receive, send)

    def leave(self) -> None:
        self._gone.set()

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode().lower(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def is_complete(self) -> bool:
        return (
            bool(self.messages)
            and self.messages[-1].get("more_body", False) is False
            and len(self.messages) > 1
        )


def in_chunks(app: Any) -> Any:
    """Let an application see a request whose length nobody said."""

    async def chunked(scope: Any, receive: Any, send: Any) -> None:
        headers = [header for header in scope["headers"] if header[0] != b"content-length"]
        await app({**scope, "headers": headers}, receive, send)

    return chunked


class LoopbackBackend:
    """A real HTTP/1.1 server on loopback that does exactly what its script says, byte for byte.

    script(request, write) is called for each request; what it writes goes out raw, and the connection closes when
    it returns. Requests are kept with the body as received.
    """

    def __init__(self, script: Callable[[RawRequest, Callable[[bytes], Any]], Any]) -> None:
        self.script = script
        self.requests: list[RawRequest] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()  # a script that hangs on purpose
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            method, target, _ = first.split(b" ")
            headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
            request = RawRequest(method.decode(), target.decode(), headers)
            self.requests.append(request)
            await request.read_body(reader)

            async def write(data: bytes) -> None:
                writer.write(data)
                await writer.drain()

            await self.script(request, write)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the proxy went away, as some tests want
        finally:
            writer.close()


@dataclass
class RawRequest:
    """A request as it came: raw target, headers in order, body counted and hashed as it arrives."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    body_bytes: int = 0

    async def read_body(self, reader: asyncio.StreamReader) -> None:
        named = {name.lower(): value for name, value in self.headers}
        kept = bytearray()
        if named.get(b"transfer-encoding") == b"chunked":
            while size := int(await reader.readline(), 16):
                kept += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
            self.body_bytes = len(kept)
        else:
            left = self.body_bytes = int(named.get(b"content-length", b"0"))
            while left:
                piece = await reader.read(min(left, 1 << 16))
                if not piece:
                    raise ConnectionError
                left -= len(piece)
                if len(kept) < 1 << 20:
                    kept += piece
        self.body = bytes(kept)


def http_reply(
    body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = ""
) -> bytes:
    """Raw bytes of a whole HTTP/1.1 reply."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
    return head.encode() + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def http_chunk(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an ASGI application with uvicorn on a loopback port; yield its base URL. options: uvicorn's."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", server_header=False,
                            date_header=False, timeout_graceful_shutdown=2, **options)  # fmt: skip
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
    started = asyncio.Event()
    startup = server.startup

    async def telling(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = telling
    task = asyncio.get_running_loop().create_task(server._serve())
    await started.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
