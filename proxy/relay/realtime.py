"""One websocket under /v1, carried both ways: keys, limits and usage as for a request, messages as they came.

A session is not an answer, it has many: each `response.done` is one event, on the disk before the client gets
it. What was under way when a side went is read on for its usage as long as `drain_s`, and booked as cut. Its
text is not compared with works: what is spoken has left before its text is known to be whole, so the shares
are `not_attributed`, and the money is held. Websockets that are no realtime sessions pass, and count as
requests.

Each side is read only as fast as the other takes it. A session ends with its key, with silence, and with
SESSION_S_MAX; close codes are carried over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from proxy.access.keys import Action, Principal, may, presented
from proxy.errors import BadRequest, Forbidden, Problem, Unauthenticated
from proxy.metering.usage import Begun, Outcome, Used
from proxy.relay import sockets
from proxy.relay.actions import own_reply
from proxy.relay.credits import unscored
from proxy.relay.crossing import origin_asking
from proxy.relay.needs import Receive, Scope, Send
from proxy.relay.passing import backend_failed, model_not_found
from proxy.relay.router import Route
from proxy.relay.upstream import UpstreamFailed, check_path
from proxy.wire.errors import WireError, error_body
from proxy.wire.headers import downward, id_header, status_header
from proxy.wire.models import may_use
from proxy.wire.output import TokenCounts
from proxy.wire.realtime import (
    key_in,
    model_asked,
    models_chosen,
    read_message,
    renamed_query,
    without_key,
)

if TYPE_CHECKING:
    from proxy.relay.handler import Relay

IDLE_S = 600.0  # neither side says anything; a person thinks, and pages send audio all the time
SESSION_S_MAX = 7_200.0  # backends end theirs after one hour
LOOK_S = 1.0  # how soon a revoked key ends its sessions
OPEN_MAX = 64  # answers under way in one session; backends allow one, or a few out of band
CHARACTERS_PER_TOKEN = 4
REALTIME = b"/v1/realtime"
GOING_AWAY, POLICY, BROKEN, TOO_LATE = 1001, 1008, 1011, 1013
_UNSENDABLE = {1005: 1000, 1006: BROKEN, 1015: BROKEN}  # said of a connection, and never on it


@dataclass(slots=True)
class _Answer:
    """One answer under way."""

    event_id: str
    occurred_us: int
    characters: int = 0


class Closing(Exception):
    """Why a session ends."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason = _UNSENDABLE.get(code, code), reason[:100]


class Session:
    """One websocket with its two sides."""

    def __init__(self, relay: Relay, event_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._relay = relay
        self._id = event_id
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_realtime = scope["raw_path"].rstrip(b"/").lower() == REALTIME
        self._name = "realtime" if self._is_realtime else "websocket"
        self._model = ""
        self._backend = ""
        self._protocols: list[str] = scope.get("subprotocols") or []
        self._secret = ""
        self._hold = ""  # of the budget, while an answer may be given
        self._open: dict[str, _Answer] = {}  # by the backend's id; at most OPEN_MAX
        self._heard_s = relay.clock.monotonic_s()
        self._client_is_gone = False

    async def run(self) -> None:
        """Serve it. Raises nothing but cancellation."""
        relay = self._relay
        started_s = relay.clock.monotonic_s()
        outcome = "refused"
        if (await self._receive())["type"] != "websocket.connect":
            return
        try:
            async with self._opened() as (principal, up):
                outcome = "complete"
                await self._carry(principal, up)
        except Problem as problem:
            body = error_body(problem.status, str(problem), code=problem.code)
            extra = ((b"retry-after", b"%d" % problem.retry_after_s),) if problem.retry_after_s else ()
            reply = own_reply(self._id, problem.status, body, extra)
            await self._deny(reply.status, reply.headers, reply.body)
        except sockets.Refused as refused:
            headers = [*downward(refused.headers), id_header(self._id), status_header("off")]
            await self._deny(refused.status, headers, refused.body)
        finally:
            relay.metrics.requests.labels(self._name, outcome).inc()
            relay.metrics.request_seconds.labels(self._name).observe(relay.clock.monotonic_s() - started_s)

    async def _deny(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer the handshake with an error, which clients show; a bare close where the server cannot."""
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            await self._send({"type": "websocket.close", "code": POLICY})
            return
        start = {"type": "websocket.http.response.start", "status": status, "headers": headers}
        await self._send(start)
        await self._send({"type": "websocket.http.response.body", "body": body})

    # -- opening
    # -----------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncGenerator[tuple[Principal, ClientConnection]]:
        relay, scope = self._relay, self._scope
        check_path(scope["raw_path"])
        principal = await self._authenticated()
        relay.admission.admit(principal, is_known=self._is_realtime)
        try:
            model = model_asked(scope["query_string"])
        except WireError as error:
            raise BadRequest(error.cause, remedy=error.remedy, code=error.code) from error
        relay.admission.check_named_model(principal, model)
        if self._is_realtime:
            relay.admission.check_price(principal, [model or "", *relay.names_of(model)])
            await self._hold_account(principal)
        else:
            await relay.admission.reserve_unread(principal, self._id)
        routes = relay.routes_for(model, self._id)
        if not routes:
            raise model_not_found(str(model))
        up = await self._first(routes)
        try:
            await self._send(
                {
                    "type": "websocket.accept",
                    "subprotocol": up.subprotocol,
                    "headers": [id_header(self._id), status_header("off")],
                }
            )
            yield principal, up
        finally:
            await up.close()
            relay.admission.charge(principal, self._hold, 0, 0)

    async def _authenticated(self) -> Principal:
        headers, protocols = self._scope["headers"], self._protocols
        self._secret = presented(headers) or key_in(protocols)
        principal = await self._relay.keyring.find(self._secret) if self._secret else None
        if principal is None:
            cause = "this app key is not known" if self._secret else "no app key was sent"
            remedy = "send Authorization: Bearer ec_app_..., or it as openai-insecure-api-key.ec_app_..."
            raise Unauthenticated(cause, remedy=remedy)
        if not may(principal, Action.RELAY):
            raise Forbidden(f"a key of the role {principal.role} cannot use /v1", remedy="use an app's key")
        origin = origin_asking(self._scope)
        if origin and origin not in principal.limits.origins:
            raise Forbidden("this app does not list the page's origin", remedy="ask the operator to list it")
        return principal

    async def _first(self, routes: tuple[Route, ...]) -> ClientConnection:
        """Return a websocket to the first backend that can be connected to."""
        relay, scope = self._relay, self._scope
        protocols = without_key(self._protocols)
        failed: UpstreamFailed | None = None
        for route in routes:
            query: bytes = scope["query_string"]
            if route.is_alias and route.model is not None:
                query = renamed_query(query, route.model)
            try:
                up = await relay.open_socket(route.backend, scope, query, protocols)
            except UpstreamFailed as error:
                failed = error
                if error.kind != "connect":
                    break
                continue
            self._backend, self._model = route.backend.name, route.model or ""
            return up
        assert failed is not None  # there is at least one route
        raise backend_failed(failed) from failed

    # -- carrying
    # ----------------------------------------------------------------------------------------------

    async def _carry(self, principal: Principal, up: ClientConnection) -> None:
        """Carry both ways until one side ends; then end the other with its code."""
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(work)
            for work in (self._upward(principal, up), self._downward(principal, up), self._watch())
        ]
        why = Closing(BROKEN)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            error = next((task.exception() for task in done if task.exception() is not None), None)
            if error is not None and not isinstance(error, Closing):
                self._relay.log.error("task_failed", task=self._name, exc_info=error)
            why = error if isinstance(error, Closing) else why
            tasks[0].cancel()
            tasks[2].cancel()
            if self._client_is_gone and self._open and not tasks[1].done():
                self._relay.metrics.client_left.inc()
                await asyncio.wait({tasks[1]}, timeout=self._relay.drain_s)
        finally:
            for task in tasks:
                task.cancel()
            for answer in self._open.values():
                self._abandon(principal, answer)
            await asyncio.gather(*tasks, return_exceptions=True)
        await up.close(why.code, why.reason)
        if not self._client_is_gone:
            await self._send({"type": "websocket.close", "code": why.code, "reason": why.reason})

    async def _upward(self, principal: Principal, up: ClientConnection) -> None:
        allowed = principal.limits.models
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._client_is_gone = True
                raise Closing(message.get("code") or 1005, message.get("reason") or "")
            self._heard_s = self._relay.clock.monotonic_s()
            text: str | None = message.get("text")
            if allowed and text is not None and not all(may_use(m, allowed) for m in models_chosen(text)):
                raise Closing(POLICY, "this key may not use that model")
            try:
                await up.send(text if text is not None else message["bytes"])
            except ConnectionClosed:
                await asyncio.Event().wait()  # the other direction tells how it ended

    async def _downward(self, principal: Principal, up: ClientConnection) -> None:
        while True:
            try:
                message = await up.recv()
            except ConnectionClosed as closed:
                raise Closing(
                    closed.rcvd.code if closed.rcvd else 1006, closed.rcvd.reason if closed.rcvd else ""
                ) from closed
            self._heard_s = self._relay.clock.monotonic_s()
            text = message if isinstance(message, str) else None
            if text is not None and self._is_realtime:
                await self._meter(principal, text)
            if self._client_is_gone:
                if not self._open:
                    return
                continue
            kind = "bytes" if text is None else "text"
            try:
                await self._send({"type": "websocket.send", kind: message})
            except OSError:  # it went while we sent; its last word is on the way
                self._client_is_gone = True
            if self._is_realtime and not self._hold:  # an answer was paid for: may there be another?
                try:
                    await self._hold_account(principal)
                except Problem as problem:
                    raise Closing(POLICY, problem.cause) from problem

    async def _watch(self) -> None:
        """End the session with its key, with silence, and in the end."""
        clock = self._relay.clock
        ends_s = clock.monotonic_s() + SESSION_S_MAX
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = clock.monotonic_s()
            if now_s >= ends_s:
                raise Closing(GOING_AWAY, "the session has lasted its time")
            if now_s - self._heard_s >= IDLE_S:
                raise Closing(GOING_AWAY, "nobody has said anything for long")
            with contextlib.suppress(Problem):  # the store is away: what memory knows goes on
                if await self._relay.keyring.find(self._secret) is None:
                    raise Closing(POLICY, "the key has ended")

    # -- usage
    # -------------------------------------------------------------------------------------------------

    async def _meter(self, principal: Principal, message: str) -> None:
        """Record what a message reports, before it goes on. Raises Closing when that cannot be."""
        said = read_message(message)
        if said.kind == "told" and (answer := self._open.get(said.answer_id)) is not None:
            answer.characters += said.characters
        elif said.kind == "opened" and len(self._open) < OPEN_MAX:
            answer = self._answer()
            self._open[said.answer_id] = answer
            self._relay.journal.begin(self._begun(principal, answer))
        elif said.kind == "done":
            answer = self._open.get(said.answer_id) or self._answer()
            outcome: Outcome = "cut" if said.is_cancelled or self._client_is_gone else "complete"
            used = self._used(principal, answer, outcome, said.counts or TokenCounts())
            records = [
                used,
                unscored("not_attributed", method=self._relay.attributing.method).record(used.id),
            ]
            self._open.pop(said.answer_id, None)
            try:
                await self._relay.journal.append(*records)
            except Problem as problem:
                self._relay.log.error(  # noqa: TRY400  the cause is the disk's, and the journal has told it
                    "usage_not_recorded", id=used.id, cause=problem.cause, remedy=problem.remedy
                )
                for record in records:
                    self._relay.journal.offer(record)
                raise Closing(TOO_LATE, "usage cannot be recorded now") from problem
            self._relay.metrics.attributions.labels("not_attributed").inc()
            tokens, grains = used.input_tokens + used.output_tokens, used.price_grains or 0
            hold, self._hold = self._hold, ""
            await self._relay.admission.pay(principal, hold, tokens, grains)

    async def _hold_account(self, principal: Principal) -> None:
        """Ask whether another answer may be given; a budget that is used up ends the session."""
        hold = self._relay.new_id()  # not the event's: the sweep would take one for the other
        await self._relay.admission.open_account(principal, hold)
        self._hold = hold

    def _answer(self) -> _Answer:
        return _Answer(self._relay.new_id(), self._relay.clock.now_us())

    def _begun(self, principal: Principal, answer: _Answer) -> Begun:
        version, _, _ = self._relay.price_of(self._model, answer.occurred_us, 0, 0, 0, 0)
        return Begun(
            id=answer.event_id,
            occurred_us=answer.occurred_us,
            app=principal.app_id,
            model=self._model,
            endpoint=self._name,
            input_tokens=0,
            price_version=version,
            policy_seq=self._relay.policy_seq(),
        )

    def _used(self, principal: Principal, answer: _Answer, outcome: Outcome, counts: TokenCounts) -> Used:
        given, told = counts.input, counts.output
        if told is None:
            told = answer.characters // CHARACTERS_PER_TOKEN
        version, grains, currency = self._relay.price_of(
            self._model, answer.occurred_us, given or 0, told, 0, 0
        )
        return Used(
            id=answer.event_id,
            occurred_us=answer.occurred_us,
            app=principal.app_id,
            backend=self._backend,
            model=self._model,
            endpoint=self._name,
            outcome=outcome,
            input_tokens=given or 0,
            output_tokens=told,
            estimated=counts.input is None or counts.output is None,
            price_version=version,
            price_grains=grains,
            currency=currency,
            policy_seq=self._relay.policy_seq(),
        )

    def _abandon(self, principal: Principal, answer: _Answer) -> None:
        """Hand an answer that was cut to the journal's queue: nobody waits any more."""
        used = self._used(principal, answer, "cut", TokenCounts())
        self._relay.journal.offer(used)
        shares = unscored("not_attributed", method=self._relay.attributing.method)
        self._relay.journal.offer(shares.record(used.id))
        tokens, grains = used.input_tokens + used.output_tokens, used.price_grains or 0
        self._relay.admission.charge(principal, self._hold, tokens, grains)
