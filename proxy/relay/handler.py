"""The edge of one request: moves bytes between client, Exchange, backend and scorer, and decides nothing.

Raw ASGI, because a proxy must see what really came: the path with its escapes, the headers in their order, a
body that is never parsed twice. Everything this needs is handed in. A client that leaves is noticed by a task
that listens for it (no send ever fails); a shutdown that cancels us hands the event to the journal's queue
without waiting, so that what was generated is metered all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection

from proxy.access.keys import Action as May
from proxy.access.keys import Principal, may, presented
from proxy.asking import on_disk
from proxy.clock import Clock, Ids
from proxy.errors import Forbidden, Problem, TooLarge, Unauthenticated
from proxy.metering.usage import Attributed, MeteredEvent, Used
from proxy.metering.usage import Record as JournalRecord
from proxy.observability import Metrics
from proxy.relay import crossing, listing
from proxy.relay.actions import own_reply
from proxy.relay.admission import UNREAD, Admission, BudgetsLike, asked_in
from proxy.relay.auditing import Auditing
from proxy.relay.backends import Backends
from proxy.relay.batches import Batches, Known
from proxy.relay.citing import WorksAt, cited, nobody_is_there
from proxy.relay.credits import Credited, CreditOf, credited, unscored
from proxy.relay.exchange import Exchange
from proxy.relay.guard import replications
from proxy.relay.journey import Journey
from proxy.relay.makers import MadeLike, Makers
from proxy.relay.needs import (
    PRINCIPAL,
    AttributingLike,
    IssuerLike,
    JournalLike,
    KeyRing,
    PendingLike,
    PriceOf,
    Receive,
    Scope,
    Send,
    SubjectOf,
)
from proxy.relay.passing import PassThrough
from proxy.relay.patience import Patience
from proxy.relay.promises import Promises
from proxy.relay.realtime import Session
from proxy.relay.router import Route
from proxy.relay.scored import Failed, Scored
from proxy.relay.told import Told
from proxy.relay.upstream import Answer, UpstreamFailed, check_path
from proxy.settings import Backend, Settings
from proxy.wire import METERED_PATHS, Endpoint, endpoint_for
from proxy.wire.errors import error_body, error_shape
from proxy.wire.headers import Wishes, kind_of
from proxy.wire.ids import ids_in_body, ids_in_path
from proxy.wire.models import is_model_list, model_in


class Relay:
    """The ASGI application behind /v1: one request, one exchange, one event."""

    def __init__(
        self,
        *,
        settings: Settings,
        keyring: KeyRing,
        journal: JournalLike,
        pending: PendingLike,
        attributing: AttributingLike,
        credit_of: CreditOf,
        works_at: WorksAt = nobody_is_there,
        registry_seq: Callable[[], int],
        policy_seq: Callable[[], int] = lambda: 0,
        price_of: PriceOf,
        issuer: IssuerLike,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        log: Any,
        budgets: BudgetsLike | None = None,
        made: MadeLike | None = None,
        metered: Known | None = None,
        auditing: Auditing | None = None,
        drew: Callable[[str, Mapping[str, Sequence[tuple[int, int]]]], None] | None = None,
        subject_of: SubjectOf | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        environ: Mapping[str, str] | None = None,
        drain_s: float | None = None,
        promise_wait_s: float | None = None,
    ) -> None:
        self.settings = settings
        self.journal = journal
        self.pending = pending
        self.attributing = attributing
        self.price_of = price_of
        self.policy_seq = policy_seq
        self.clock = clock
        self.metrics = metrics
        self.log = log
        read_on_s = settings.routing.drain_ms / 1_000 if settings.routing.client_left == "drain" else 0.0
        self.drain_s = read_on_s if drain_s is None else drain_s
        waited_s = settings.routing.promise_wait_ms / 1_000
        self.promises = Promises(self, wait_s=waited_s if promise_wait_s is None else promise_wait_s)
        self.keyring = keyring
        self._credit_of = credit_of
        self._works_at = works_at
        self._registry_seq = registry_seq
        self._issuer = issuer
        self._subject_of = subject_of
        self._ids = ids
        self._backends = Backends(
            settings, clock=clock, metrics=metrics, log=log, transport=transport, environ=environ
        )
        self.admission = Admission(settings, clock=clock, price_of=price_of, log=log, budgets=budgets)
        # Whether the model of a passed-through request must be read: who serves it, and how it is called.
        self.must_know_model = len(settings.backends) > 1 or any(
            b.aliases or b.api_version or b.models != ("*",) for b in settings.backends
        )
        wanted = settings.attribution
        self._defaults = Wishes(wanted.view, wanted.works_top, wanted.mode, wanted.deadline_ms)
        self.makers = Makers(made, clock=clock, log=log)
        self.batches = Batches(metered, log=log)
        self._auditing = auditing
        self._drew = drew
        self._unrecorded: set[str] = set()  # answers whose shares are late and whose usage is being recorded
        self._early: dict[str, Scored | Failed] = {}  # late shares that came before that was done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises nothing but cancellation: every refusal is an answer."""
        event_id = self._ids.new("rct")
        if scope["type"] == "websocket":
            await Session(self, event_id, scope, receive, send).run()
            return
        if origin := crossing.origin_asking(scope):
            is_listed = self.keyring.lists(origin)
            allowed = crossing.preflight(scope, origin) if is_listed else None
            if allowed is not None:
                await send({"type": "http.response.start", "status": 204, "headers": allowed})
                await send({"type": "http.response.body", "body": b""})
                return
            send = crossing.CrossSend(send, origin, is_open=is_listed)
        try:
            await self._serve(event_id, scope, receive, send)
        except Problem as problem:
            self.metrics.requests.labels("any", "refused").inc()
            await self._reply(event_id, problem, scope, send)

    async def settle_late(self, event_id: str, scored: Scored | Failed) -> None:
        """Book shares that came after the answer left, and erase the text that waited for them.

        Raises Unavailable when the journal refuses; the text then still waits, to be settled after a restart.
        """
        if event_id in self._unrecorded:
            self._early[event_id] = scored
            return
        credits_ = self.credits(scored)
        await self.journal.append(credits_.record(event_id))
        self.drew(event_id, credits_)
        self.metrics.attributions.labels("late").inc()
        await on_disk(self.pending.erase, event_id)

    async def aclose(self) -> None:
        """Wait for what is being booked and close the connections to backends."""
        await self.admission.aclose()
        await self.makers.aclose()
        if self._auditing is not None:
            await self._auditing.aclose()
        await self._backends.aclose()

    # -- for one journey
    # ---------------------------------------------------------------------------------------

    def credits(self, scored: Scored | Failed) -> Credited:
        """Return the score with the registry's word on each work."""
        seq = self._registry_seq()
        if isinstance(scored, Failed):
            return unscored(scored.reason, method=self.attributing.method, registry_seq=seq)
        found = credited(scored, self._credit_of, registry_seq=seq)
        replication = replications(scored.copied, self._credit_of, self.settings.guard)
        return msgspec.structs.replace(found, replication=replication) if replication else found

    def drew(self, event_id: str, credits_: Credited) -> None:
        """Tell which stretches of which works an answer drew on; they are counted when its usage is there."""
        found = {work.work: stretches for work in credits_.works if (stretches := work.stretches)}
        if self._drew is not None and found:
            self._drew(event_id, found)

    def audit(self, app: str, exchange: Exchange) -> None:
        """Let an opted-in app's exchange be kept for the causal audit."""
        if self._auditing is not None:
            self._auditing.take(app, exchange)

    def cited(self, exchange: Exchange) -> tuple[str, ...]:
        """Return the registered works whose address the answer names."""
        return cited(exchange.told, self._works_at)

    def must_cut(self, event_id: str) -> bool:
        """Whether the guard ends this answer, by what the scorer has seen of it."""
        copied = self.attributing.copied(event_id)
        return bool(copied) and bool(replications(copied, self._credit_of, self.settings.guard))

    def subject(self, app: str, model: str, endpoint: str, occurred_us: int, subject: str) -> str:
        """Return what is kept of an end user's id: a keyed digest, or nothing where none is needed."""
        if self._subject_of is None:
            return ""
        return self._subject_of(app, model, endpoint, occurred_us, subject)

    def digest_of(self, told: Told, event_id: str, occurred_us: int) -> str:
        """Return the digest of all that an answer told, under a key that is given to its app alone."""
        try:
            secrets = self._issuer.secrets_of(occurred_us)
        except (Problem, OSError) as error:  # a receipt is worth less than the answer and its metering
            self.log.warning("receipt_not_salted", receipt_id=event_id, why=str(error))
            return ""
        return told.digest(secrets.nonce(event_id))

    def receipt(self, exchange: Exchange, records: Sequence[JournalRecord]) -> str:
        """Return the signed receipt of an answer that is settled and shown with it, else ""."""
        match records:
            case [Used() as used, Attributed() as shares] if exchange.wishes.view not in {"off", "headers"}:
                try:
                    return self._issuer.receipt(MeteredEvent.of(used, shares))
                except (Problem, OSError) as error:
                    self.log.warning("receipt_not_signed", receipt_id=used.id, why=str(error))
                    return ""
            case _:
                return ""

    async def open(
        self,
        routes: Sequence[Route],
        scope: Scope,
        body: bytes | AsyncIterator[bytes],
        *,
        identity: bool,
    ) -> Answer:
        """Open the request at the first route that answers. Raises the last UpstreamFailed."""
        return await self._backends.open(routes, scope, body, identity=identity)

    async def lists(
        self, scope: Scope, *, bytes_max: int, within_s: float
    ) -> list[tuple[Backend, bytes | None]]:
        """Return what every backend answers, None for those that give nothing in time."""
        return await self._backends.lists(scope, bytes_max=bytes_max, within_s=within_s)

    def failed(self, error: UpstreamFailed) -> None:
        """Count a failure in the middle of an answer."""
        self._backends.failed(error)

    def late(self, event_id: str) -> None:
        """Note that shares of this answer may come before its usage is recorded."""
        self._unrecorded.add(event_id)

    async def late_is_recorded(self, event_id: str) -> None:
        """Note that they may now be booked, and book those that came."""
        self._unrecorded.discard(event_id)
        scored = self._early.pop(event_id, None)
        if scored is None:
            return
        try:
            await self.settle_late(event_id, scored)
        except Problem:
            # The disk refuses: shares are tried again from the queue, the text is erased at the next start.
            self.journal.offer(self.credits(scored).record(event_id))

    def forget_late(self, event_id: str) -> None:
        """Stop waiting for a record; a text that is left waiting is settled after a restart."""
        self._unrecorded.discard(event_id)
        self._early.pop(event_id, None)

    # -- serving
    # -----------------------------------------------------------------------------------------------

    async def _serve(self, event_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        raw_path: bytes = scope["raw_path"]
        if raw_path not in METERED_PATHS:
            check_path(raw_path)
        principal = await self._authenticated(scope)
        endpoint = endpoint_for(scope["method"], raw_path.decode("latin-1"))
        if isinstance(send, crossing.CrossSend):
            send.only_for(principal.limits.origins)
        self.admission.admit(principal, is_known=endpoint is not None or is_model_list(raw_path))
        if listing.is_merged(self, principal, scope):
            await listing.answer(self, event_id, principal, scope, send)
        elif endpoint is None:
            await PassThrough(self, event_id, principal, scope, receive, send).run()
        else:
            await self._meter(event_id, endpoint, principal, scope, receive, send)

    async def _authenticated(self, scope: Scope) -> Principal:
        secret = presented(scope["headers"])
        principal: Principal | None = scope.get(PRINCIPAL)
        if principal is None and secret:
            principal = await self.keyring.find(secret)
        if principal is None:
            cause = "this app key is not known" if secret else "no app key was sent"
            raise Unauthenticated(cause, remedy="send Authorization: Bearer ec_app_...")
        if not may(principal, May.RELAY):
            raise Forbidden(f"a key of the role {principal.role} cannot use /v1", remedy="use an app's key")
        return principal

    async def _meter(
        self,
        event_id: str,
        endpoint: Endpoint,
        principal: Principal,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        patience = Patience()
        try:
            body = await self.read_body(scope, receive, self.settings.server.body_bytes_max, patience)
            if body is not None:  # or the client left before it had asked
                await self._meter_read(event_id, endpoint, principal, scope, receive, send, body, patience)
        finally:
            patience.close()

    async def _meter_read(
        self,
        event_id: str,
        endpoint: Endpoint,
        principal: Principal,
        scope: Scope,
        receive: Receive,
        send: Send,
        body: bytes,
        patience: Patience,
    ) -> None:
        exchange = Exchange(
            event_id,
            endpoint,
            self._defaults,
            method=self.attributing.method,
            text_characters_max=self.settings.attribution.text_bytes_max,
        )
        limits, kind = principal.limits, kind_of(scope["headers"])
        self.admission.check_model(principal, body, kind)
        names = self._backends.names(model_in(body, kind)) if limits.budget_grains is not None else ()
        is_limited = limits.tokens_per_min or limits.budget_grains is not None
        asked = asked_in(endpoint, body, kind) if is_limited else UNREAD
        reserved = await self.admission.reserve(
            principal, event_id, body, names, content_type=kind, asked=asked
        )
        journey = Journey(self, exchange, principal, scope, receive, send, patience)
        try:
            path: bytes = scope["raw_path"]
            if named := [*(() if path in METERED_PATHS else ids_in_path(path)), *ids_in_body(body)]:
                journey.only = await self.makers.backend_of(named, principal.app_id)
            await journey.run(body)
        finally:
            self.admission.settle(reserved, journey.used)

    def routes_for(self, model: str | None, event_id: str, only: str = "") -> tuple[Route, ...]:
        """Return the routes to try, in order; empty when no backend serves the model. Raises Resting.

        only: the backend that made what the request refers to; one that is there no more is passed over.
        """
        return self._backends.routes(model, event_id, only)

    def names_of(self, model: str | None) -> tuple[str, ...]:
        """Return what the backends that serve a model call it."""
        return self._backends.names(model) if model else ()

    def new_id(self) -> str:
        """Return an attribution id for an answer that is one of many."""
        return self._ids.new("rct")

    async def open_socket(
        self, backend: Backend, scope: Scope, query: bytes, protocols: Sequence[str]
    ) -> ClientConnection:
        """Return a websocket to this backend. Raises UpstreamFailed, and sockets.Refused with its answer."""
        return await self._backends.open_socket(backend, scope, query, protocols)

    @property
    def backends_in_order(self) -> tuple[str, ...]:
        """The backends' names, as the file has them."""
        return self._backends.in_order

    @property
    def first_backend(self) -> str:
        """The one that is asked for what nobody knows."""
        return self._backends.in_order[0]

    async def read_body(
        self, scope: Scope, receive: Receive, bytes_max: int, patience: Patience | None = None
    ) -> bytes | None:
        self.check_length(scope, bytes_max)
        pieces: list[bytes] = []
        length = 0
        while True:
            message = await self.next_message(receive, patience)
            if message["type"] == "http.disconnect":
                return None
            piece: bytes = message.get("body", b"")
            length += len(piece)
            if length > bytes_max:
                raise self.too_large(bytes_max)
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces) if len(pieces) > 1 else piece

    async def next_message(self, receive: Receive, patience: Patience | None = None) -> dict[str, Any]:
        idle_s = self.settings.server.client_idle_s
        try:
            if patience is not None:
                with patience.until(asyncio.get_running_loop().time() + idle_s):
                    return await receive()
            async with asyncio.timeout(idle_s):
                return await receive()
        except TimeoutError as error:
            raise Problem(
                f"the request's body stopped for {idle_s} s",
                remedy="send it again",
                code="client_idle",
                status=408,
            ) from error

    def check_length(self, scope: Scope, bytes_max: int) -> None:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > bytes_max:
                raise self.too_large(bytes_max)

    async def _reply(self, event_id: str, problem: Problem, scope: Scope, send: Send) -> None:
        extra: list[tuple[bytes, bytes]] = []
        if problem.status in {408, 413}:
            extra.append((b"connection", b"close"))  # the rest of the body is not read
        if problem.retry_after_s:
            extra.append((b"retry-after", b"%d" % problem.retry_after_s))
        shape = error_shape(scope["raw_path"].decode("latin-1"))
        body = error_body(problem.status, str(problem), code=problem.code, shape=shape)
        reply = own_reply(event_id, problem.status, body, extra)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})

    def too_large(self, bytes_max: int) -> TooLarge:
        """Return the refusal of a body over its limit."""
        return TooLarge(
            f"the request's body is longer than {bytes_max} bytes", remedy="send less, or in parts"
        )
