"""Every /v1 route that is not metered: up and down byte for byte, never held in memory.

Files of hundreds of megabytes go through here, so a body is a stream both ways. It is counted as a request,
and its reply carries an attribution id like any other, with the status `off`: nothing was attributed.

What is fetched by its id is asked of the backend that made it, and is given to the app that made it and to no
other. An id that nobody here knows is asked for in the order of the file, and where one says that it has no
such thing, the next is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from proxy.access.keys import Principal
from proxy.errors import NotFound, Problem
from proxy.relay.batches import BatchOutput
from proxy.relay.needs import Receive, Scope, Send
from proxy.relay.owned import asks_for_list, is_list, narrowed
from proxy.relay.upstream import Answer, UpstreamFailed
from proxy.wire.batches import file_in, is_output
from proxy.wire.headers import downward, field_of, id_header, sized, status_header
from proxy.wire.ids import PEEKED_BYTES_MAX, ids_in_body, ids_in_path, made_in
from proxy.wire.models import model_in

if TYPE_CHECKING:
    from proxy.relay.handler import Relay

READ_BYTES_MAX = 1 << 20  # a JSON request this short is read for its model and for what it refers to
SAFE = frozenset({"GET", "HEAD"})  # asked of another backend, nothing happens twice
_OF_A_PART = frozenset({b"range", b"if-range", b"if-none-match", b"if-modified-since"})
FREE = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})  # nothing is generated: no budget is asked


class PassThrough:
    """One request that is carried and not read."""

    def __init__(
        self, relay: Relay, event_id: str, principal: Principal, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._relay = relay
        self._principal = principal
        self._id = event_id
        self._scope = scope
        self._receive = receive
        self._send = send
        self._bytes_max = relay.settings.server.passthrough_bytes_max
        self._body_is_over = False
        self._client_is_gone = False
        self._is_too_long = False
        self._output: BatchOutput | None = None  # this is the file of a batch, whose answers are metered
        self._is_list = asks_for_list(scope)  # of things, as far as the request says
        self._peeked: bytearray | None = None  # the beginning of a reply that may say what was made

    async def run(self) -> None:
        """Carry it. Raises a Problem when nothing was answered yet; later, breaks the connection."""
        relay = self._relay
        started_s = relay.clock.monotonic_s()
        relay.check_length(self._scope, self._bytes_max)
        outcome = "failed"
        try:
            answer = await self._opened()
            if answer is None:
                outcome = "cut"
                return
            try:
                is_narrowed = self._is_list and is_list(answer)
                outcome = await (self._list_down(answer) if is_narrowed else self._carry_down(answer))
            finally:
                await answer.aclose()
        finally:
            if self._output is not None:
                output = self._output
                relay.admission.charge(self._principal, self._id, output.tokens, output.grains)
            relay.metrics.requests.labels("passed_through", outcome).inc()
            relay.metrics.request_seconds.labels("passed_through").observe(
                relay.clock.monotonic_s() - started_s
            )

    async def _opened(self) -> Answer | None:
        """Return the backend's answer, None when the client left while sending."""
        relay = self._relay
        model: str | None = None
        body: bytes | AsyncIterator[bytes] = b""
        named = ids_in_path(self._scope["raw_path"])
        if not _has_body(self._scope):
            self._body_is_over = True
        elif _is_short_json(self._scope):
            read = await relay.read_body(self._scope, self._receive, READ_BYTES_MAX)
            if read is None:
                return None
            self._body_is_over = True
            body, model = read, model_in(read)
            named += ids_in_body(read)
        else:
            body = self._pieces()
        if body != b"":
            relay.admission.check_model(self._principal, body if isinstance(body, bytes) else None)
        if self._scope["method"] not in FREE:
            await relay.admission.reserve_unread(self._principal, self._id)
        maker = await relay.makers.backend_of(named, self._principal.app_id) if named else ""
        try:
            file_id, told_at = (
                file_in(self._scope["raw_path"]) if self._scope["method"] == "GET" else ("", b"")
            )
            if file_id:
                return await self._file_opened(file_id, told_at, maker)
            if named and not maker and model is None and body == b"" and self._scope["method"] in SAFE:
                return await self._found(self._scope)
            routes = relay.routes_for(model, self._id, maker or (relay.first_backend if named else ""))
            if not routes:
                raise model_not_found(str(model))
            return await relay.open(routes, self._scope, body, identity=self._is_list)
        except UpstreamFailed as error:
            if self._is_too_long:
                raise relay.too_large(self._bytes_max) from error
            if self._client_is_gone:
                return None
            raise backend_failed(error) from error

    async def _file_opened(self, file_id: str, told_at: bytes, maker: str) -> Answer:
        """Open a file's content, having asked its backend whether it is the output of a batch."""
        relay, scope = self._relay, self._scope
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _OF_A_PART]
        about = {**scope, "raw_path": told_at, "headers": headers}
        answer = await (
            self._asked(maker, about, identity=True) if maker else self._found(about, identity=True)
        )
        said = b""
        async with contextlib.aclosing(answer):
            while (piece := await answer.read()) is not None and len(said) <= PEEKED_BYTES_MAX:
                said += piece
        is_batch, made_s = is_output(said) if answer.status == 200 else (None, None)
        backend = answer.backend.name
        if is_batch is not False:  # a part of it would be metered as another file
            await relay.admission.open_account(self._principal, self._id)
            self._output = BatchOutput(relay, self._principal.app_id, backend, file_id, made_s)
            scope = {**scope, "headers": headers}
        return await self._asked(backend, scope, identity=self._output is not None)

    async def _found(self, scope: Scope, *, identity: bool = False) -> Answer:
        """Return the answer of the first backend that has a thing nobody here knows; else the last one's."""
        *others, last = self._relay.backends_in_order
        for name in others:
            answer = await self._asked(name, scope, identity=identity)
            if answer.status != 404:
                return answer
            await answer.aclose()
        return await self._asked(last, scope, identity=identity)

    async def _asked(self, backend: str, scope: Scope, *, identity: bool = False) -> Answer:
        routes = self._relay.routes_for(None, self._id, backend)
        return await self._relay.open(routes, scope, b"", identity=identity)

    async def _pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; one piece is in memory at a time.

        Ends by an error when the client leaves or sends too much, so that the backend never takes a part for
        the whole.
        """
        length = 0
        while True:
            message = await self._relay.next_message(self._receive)
            if message["type"] == "http.disconnect":
                self._client_is_gone = True
                raise ConnectionAbortedError("the client left while sending")
            piece: bytes = message.get("body", b"")
            length += len(piece)
            if length > self._bytes_max:
                self._is_too_long = True
                raise ConnectionAbortedError("the body is too long")
            if piece:
                yield piece
            if not message.get("more_body", False):
                self._body_is_over = True
                return

    async def _carry_down(self, answer: Answer) -> str:
        """Return the outcome; a body left unfinished tells the client that it was broken off."""
        head = [*downward(answer.headers), id_header(self._id), status_header("off")]
        self._peeked = bytearray() if self._may_tell_of_things(answer) else None
        output = self._output if answer.status == 200 else None
        if output is not None:
            output.began(answer.headers)
        held = b""
        await self._send({"type": "http.response.start", "status": answer.status, "headers": head})
        try:
            async with asyncio.timeout_at(answer.ends_s) as limit:
                watch = asyncio.get_running_loop().create_task(self._watch(limit))
                try:
                    while (piece := await answer.read()) is not None:
                        if self._peeked is not None:
                            self._peek(piece)
                        if output is not None:  # one piece behind: the last line may end with the last byte
                            await output.take(piece)
                            piece, held = held, piece
                        await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                    if output is not None:
                        await output.finish()
                        await self._send({"type": "http.response.body", "body": held, "more_body": True})
                finally:
                    watch.cancel()
        except TimeoutError:
            if self._client_is_gone:
                self._relay.metrics.client_left.inc()
            else:
                self._relay.failed(UpstreamFailed("timeout", answer.backend.name, "whole_ms"))
            return "cut"
        except UpstreamFailed as error:
            self._relay.failed(error)
            return "cut"
        except Problem as problem:  # what is not recorded is not given
            self._relay.log.error(  # noqa: TRY400  the cause is the disk's, and the journal has told it
                "usage_not_recorded", id=self._id, cause=problem.cause, remedy=problem.remedy
            )
            return "cut"
        if self._peeked:
            made = made_in(bytes(self._peeked))
            self._relay.makers.note(made, self._principal.app_id, answer.backend.name)
        await self._send({"type": "http.response.body", "body": b""})
        return "complete"

    async def _list_down(self, answer: Answer) -> str:
        """Send a list without what other apps made."""
        relay, name = self._relay, answer.backend.name
        try:
            async with asyncio.timeout_at(answer.ends_s):
                body = await narrowed(
                    answer,
                    self._scope,
                    relay.makers,
                    self._principal.app_id,
                    lambda scope: self._asked(name, scope, identity=True),
                )
        except (UpstreamFailed, TimeoutError) as error:
            failed = (
                error if isinstance(error, UpstreamFailed) else UpstreamFailed("timeout", name, "whole_ms")
            )
            relay.failed(failed)
            raise backend_failed(failed) from error
        plain = [header for header in downward(answer.headers) if header[0].lower() != b"content-encoding"]
        head = sized(plain, len(body), [id_header(self._id), status_header("off")])
        await self._send({"type": "http.response.start", "status": answer.status, "headers": head})
        await self._send({"type": "http.response.body", "body": body})
        return "complete"

    def _may_tell_of_things(self, answer: Answer) -> bool:
        """Whether this makes something, or tells of a batch, whose output is a file that nobody uploaded."""
        is_asked = self._scope["method"] == "POST" or self._scope["raw_path"].startswith(b"/v1/batches/")
        is_json = field_of(answer.headers, b"content-type") == b"application/json"
        return is_asked and is_json and 200 <= answer.status < 300

    def _peek(self, piece: bytes) -> None:
        assert self._peeked is not None
        self._peeked += piece
        if len(self._peeked) > PEEKED_BYTES_MAX:
            self._peeked = None

    async def _watch(self, limit: asyncio.Timeout) -> None:
        """End the wait for the backend when the client leaves; while a body is sent, its reader notices."""
        if not self._body_is_over:
            return
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_is_gone = True
        limit.reschedule(0)


def model_not_found(model: str) -> NotFound:
    """Return the refusal of a model that no backend serves."""
    return NotFound(
        f"no backend serves the model '{model[:128]}'",
        remedy="GET /v1/models lists what there is; `models` under [[backends]] says who serves what",
        code="model_not_found",
    )


def backend_failed(error: UpstreamFailed) -> Problem:
    """Return what a client hears of a backend that gave no answer."""
    status = 504 if error.kind == "timeout" else 502
    code = {"connect": "backend_unreachable"}.get(error.kind, f"backend_{error.kind}")
    return Problem(
        f"the backend gave no answer ({error.kind})", remedy="try again shortly", code=code, status=status
    )


def _has_body(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0"):
            return True
    return False


def _is_short_json(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    is_json = headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower() == b"application/json"
    return is_json and length.isdigit() and int(length) <= READ_BYTES_MAX
