"""An answer that somebody watches: between the backend's events, what it would owe had it ended there.

A page that shows credits while they come asks for its answers here and not at /v1, whose bytes are never
touched. The same relay serves it, meters it and settles it; events of our own, named `endcredits`, stand
between the backend's. Each is a whole attribution of the sentences so far, found behind everybody's whose
shares are waited for, so it says what would be owed and is no guess. The last one comes after the end, with
the passages of the works whose creators let them be shown. What counts is the field in the answer itself.

A reply goes to a page of ours, so its headers are ours: a backend sets no cookie there and sends no markup.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from proxy.access.keys import Principal
from proxy.relay.credits import Credited, CreditedWork
from proxy.relay.needs import GONE, PRINCIPAL, Receive, Scope, Send
from proxy.relay.scored import Failed, Scored
from proxy.wire import Endpoint, endpoint_for
from proxy.wire.errors import WireError
from proxy.wire.headers import field_of
from proxy.wire.sse import SseDecoder

ANSWERS: Final = b"/v1/chat/completions"
MODELS: Final = b"/v1/models"
TEXT_CHARACTERS_MAX: Final = 24_000  # some 4,000 words; a longer answer is coloured when it is over
WATCHED_MAX: Final = 8  # answers of one worker that are looked at while they come; others when they are over
REST_S: Final = 0.12  # between two looks at one answer, and
RESTS: Final = 2  # so many times as long as the last one took
FINAL_S: Final = 5.0  # the last look; where it takes longer, the page goes by the field alone
PASSAGE_CHARACTERS_MAX: Final = 600  # of a work, for one stretch of an answer
WORKS_MAX: Final = 50  # as many as a reply lists
_SENTENCE_END: Final = re.compile(r"[.!?…。！？]['\"”’)\]]*\s|\n")
_KEPT: Final = frozenset({b"content-type", b"accept", b"content-length", b"user-agent"})
_CARRIED: Final = ("type", "asgi", "http_version", "scheme", "client", "server", GONE)
_TOLD: Final = frozenset({b"retry-after"})
_KINDS: Final = frozenset({b"application/json", b"text/event-stream"})
_encode = msgspec.json.Encoder().encode

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
# (work, [(from, to) in its text]) -> its words there, or "" where its creator does not let them be shown.
Passages = Callable[[str, Sequence[tuple[int, int]]], list[str]]


class Looks(Protocol):
    """The part of relay.attributing that looks at texts."""

    def backlog_is_full(self) -> bool:
        """Whether no more texts may wait."""
        ...

    def grounded(self, event_id: str, /) -> tuple[str, ...]:
        """Return the works that stand in the request, as far as is known."""
        ...

    async def attribute(
        self, answer_id: str, texts: Mapping[int, str], grounded: Sequence[str] = ()
    ) -> Scored | Failed:
        """Return what a text owes, after all for whom somebody waits."""
        ...


class Watching:
    """Serves chat completions to pages of ours."""

    def __init__(
        self,
        serve: Asgi,
        looks: Looks,
        *,
        credited: Callable[[Scored | Failed], Credited],
        passages: Passages,
        final_s: float = FINAL_S,
    ) -> None:
        """`serve` is the relay; `credited` adds the registry's word; `passages` may block."""
        self._final_s = final_s
        self._serve = serve
        self._looks = looks
        self._credited = credited
        self._passages = passages
        self._watched = 0

    async def __call__(self, principal: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request for an answer, as its app's own key would have asked for it."""
        inner = inner_scope(principal, scope, "POST", ANSWERS)
        wants = next((value for name, value in inner["headers"] if name == b"x-attribution"), b"")
        has_room = self._watched < WATCHED_MAX and not self._looks.backlog_is_full()
        is_hidden = wants.strip() == b"off"
        grounded = self._looks.grounded
        answer = _Watched(send, self._look, grounded, is_hidden=is_hidden, looks_early=has_room)
        self._watched += 1
        try:
            await self._serve(inner, receive, answer.send)
            await answer.finish(self._final_s)
        finally:
            self._watched -= 1
            answer.close()

    async def models(self, principal: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the list of models that the key may use."""

        async def told(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": outer_headers(message["headers"])}
            await send(message)

        await self._serve(inner_scope(principal, scope, "GET", MODELS), receive, told)

    async def _look(self, name: str, text: str, grounded: Sequence[str]) -> dict[str, Any]:
        """Return what a text would owe, as pages read it."""
        scored = await self._looks.attribute(name, {0: text}, grounded)
        found = self._credited(scored)
        return {
            "characters": len(text),
            "unattributed_ppm": found.unattributed_ppm,
            "works": await asyncio.to_thread(self._shown, found.works[:WORKS_MAX]),
        }

    def _shown(self, works: Sequence[CreditedWork]) -> list[dict[str, Any]]:
        return [_shown(work, self._passages) for work in works]


def inner_scope(principal: Principal, scope: Scope, method: str, path: bytes) -> Scope:
    """Return the request as the relay is to see it: no cookie, no origin, the wishes and the holder."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name in _KEPT or name.startswith(b"x-attribution")
    ]
    given = {name: scope[name] for name in _CARRIED if name in scope}
    asked = {"method": method, "path": path.decode(), "raw_path": path, "query_string": b"", "root_path": ""}
    return {**given, **asked, "headers": headers, PRINCIPAL: principal}


def outer_headers(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return what a page of ours is told of a reply's headers."""
    kind = field_of(headers, b"content-type")
    told = [
        (name, value)
        for name, value in headers
        if (lower := name.lower()) in _TOLD or lower.startswith(b"x-attribution")
    ]
    shown = kind if kind in _KINDS else b"text/plain"
    return [
        *told,
        (b"content-type", shown + b"; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ]


class _Watched:
    """One answer on its way to a page."""

    def __init__(
        self,
        send: Send,
        look: Callable[[str, str, Sequence[str]], Awaitable[dict[str, Any]]],
        grounded: Callable[[str], tuple[str, ...]],
        *,
        is_hidden: bool,
        looks_early: bool,
    ) -> None:
        self._send = send
        self._look = look
        self._grounded_of = grounded
        self._grounded: tuple[str, ...] = ()  # as was known last; the relay forgets it with the answer
        self._looks_at_all = not is_hidden
        self._looks_early = looks_early
        self._turn = asyncio.Lock()  # of writing: events of ours stand between two of the backend's
        self._id = ""
        self._endpoint: Endpoint | None = endpoint_for("POST", ANSWERS.decode())
        self._decoder: SseDecoder | None = None  # of a stream that can be followed
        self._beside = 0  # bytes of an event that has not ended yet
        self._text = ""
        self._is_whole = True  # all of the text so far is in _text
        self._looked = 0  # characters that were looked at last, and how often that was
        self._number = 0
        self._ready = b""  # what waits for the end of an event
        self._is_over = False
        self._has_more = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Stop looking: the answer is over."""
        if self._looking is not None:
            self._looking.cancel()

    async def finish(self, within_s: float) -> None:
        """Look once more at all of it, and end a reply whose end was kept back for that."""
        self.close()
        if not self._is_over:
            return
        if self._text and self._is_whole:
            try:
                async with asyncio.timeout(within_s):
                    found = await self._look(f"{self._id}/end", self._text, self._grounded)
            except TimeoutError:
                pass
            else:
                # An end that forgot its blank line gets one: our event is not a part of theirs.
                event = (b"\n\n" if self._beside else b"") + _event({**found, "final": True})
                await self._send({"type": "http.response.body", "body": event, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def send(self, message: dict[str, Any]) -> None:
        """Take what the relay sends."""
        if message["type"] == "http.response.start":
            await self._begin(message["status"], message["headers"])
            return
        data, more = message.get("body", b""), message.get("more_body", False)
        if self._decoder is None:
            await self._send(message)
            return
        async with self._turn:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            self._heard(data)
            await self._flush()
        self._is_over = not more

    async def _begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._id = next((value.decode() for name, value in headers if name == b"x-attribution-id"), "")
        is_stream = status == 200 and field_of(headers, b"content-type") == b"text/event-stream"
        if is_stream and self._looks_at_all:
            self._decoder = SseDecoder()
            if self._looks_early:
                # Held here and cancelled by close().
                self._looking = asyncio.get_running_loop().create_task(self._watch())
        head = {"type": "http.response.start", "status": status, "headers": outer_headers(headers)}
        await self._send(head)

    def _heard(self, data: bytes) -> None:
        """Follow the stream: its text, and whether an event has just ended."""
        if self._decoder is None or self._endpoint is None:
            return
        self._beside += len(data)
        try:
            frames = self._decoder.feed(data)
        except WireError:
            self._decoder, self._is_whole = None, False
            return
        for frame in frames:
            self._beside -= len(frame.raw)
            for said in self._endpoint.read_chunk(frame.data).texts if frame.data else ():
                if said.choice == 0 and self._is_whole:
                    self._text += said.text
                    self._is_whole = len(self._text) <= TEXT_CHARACTERS_MAX
        self._grounded = self._grounded_of(self._id) or self._grounded
        self._has_more.set()

    async def _watch(self) -> None:
        """Look at the sentences so far, again and again."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_more.wait()
            self._has_more.clear()
            ends = [match.end() for match in _SENTENCE_END.finditer(self._text, self._looked)]
            if not ends or not self._is_whole:
                continue
            self._looked = ends[-1]
            began_s = loop.time()
            self._number += 1
            name = f"{self._id}/{self._number}"
            found = await self._look(name, self._text[: ends[-1]], self._grounded)
            async with self._turn:
                self._ready = _event(found)
                await self._flush()
            await asyncio.sleep(REST_S + RESTS * (loop.time() - began_s))

    async def _flush(self) -> None:
        if self._ready and not self._beside and self._decoder is not None:
            ready, self._ready = self._ready, b""
            await self._send({"type": "http.response.body", "body": ready, "more_body": True})


def _event(found: Mapping[str, Any]) -> bytes:
    return b"event: endcredits\ndata: " + _encode(found) + b"\n\n"


def _shown(work: CreditedWork, passages: Passages) -> dict[str, Any]:
    words = passages(work.work, [(piece.work_start, piece.work_end) for piece in work.evidence])
    return {
        "work": work.work,
        "title": work.title,
        "creators": work.creators,
        "licence": work.licence,
        "url": work.url,
        "share_ppm": work.ppm,
        "verdict": work.verdict,
        "evidence": [
            {
                "kind": piece.kind,
                "output": (piece.start, piece.end),
                "score": piece.score,
                "passage": shown
                if len(shown) <= PASSAGE_CHARACTERS_MAX
                else shown[:PASSAGE_CHARACTERS_MAX] + "…",
            }
            for piece, shown in zip(work.evidence, words, strict=True)
        ],
    }
