"""Asking the backends that the router names, one after the other, until an answer begins.

What is repeated, and when, is the router's to say; this does it and remembers how it went. A status that
another backend may not give is kept open until another has answered, so that the client hears the last
refusal as it was when there is nothing better. Each worker has its own memory: a broken backend costs each of
them its own few failures.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection

from proxy.clock import Clock
from proxy.errors import BadRequest, Problem
from proxy.observability import Metrics
from proxy.relay import router, sockets
from proxy.relay.needs import Scope
from proxy.relay.router import Failure, HealthByName, Route
from proxy.relay.upstream import Answer, BodyBroken, Upstream, UpstreamFailed
from proxy.settings import Backend, Settings, networks
from proxy.wire.errors import WireError
from proxy.wire.headers import kind_of
from proxy.wire.models import renamed

Body = bytes | AsyncIterator[bytes]
USUAL_MAX = 256  # models; clients name a few, and whoever makes up names fills no memory


class Resting(Problem):
    """Every backend that serves the model failed again and again and is left alone for a moment."""

    status, code = 503, "backends_resting"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            "every backend for this model failed again and again", remedy="try again in a moment"
        )
        self.retry_after_s = retry_after_s


class Backends:
    """Every backend with what is known of its health."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        metrics: Metrics,
        log: Any,
        transport: httpx.AsyncBaseTransport | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._backends = settings.backends
        self._policy = settings.routing
        self._trusted = networks(settings.server.trusted_proxies, "settings")
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._health: HealthByName = router.UNKNOWN
        # While every backend is well and no draw decides, a model's routes are always the same.
        self._is_drawn = sum(bool(backend.weight) for backend in settings.backends) > 1
        self._usual: dict[str | None, tuple[Route, ...]] = {}
        self._environ = os.environ if environ is None else environ
        named = {} if environ is None else {"environ": environ}
        self._upstream = Upstream(settings.backends, transport=transport, **named)

    @property
    def in_order(self) -> tuple[str, ...]:
        """The backends' names, as the file has them."""
        return tuple(backend.name for backend in self._backends)

    def routes(self, model: str | None, event_id: str, only: str = "") -> tuple[Route, ...]:
        """Return the routes to try for a request, empty when nobody serves the model. Raises Resting.

        only: the one backend to ask, if it is still there and serves the model.
        """
        if not only and not self._health and (usual := self._usual.get(model)) is not None:
            return usual
        now_us = self._clock.now_us()
        named = [b for b in self._backends if b.name == only and router.route_to(b, model) is not None]
        choice = router.choose(model, named or self._backends, self._health, now_us=now_us, draw=event_id)
        if choice.opens_us:
            raise Resting(-(-(choice.opens_us - now_us) // 1_000_000))
        if not (only or self._health or self._is_drawn) and len(self._usual) < USUAL_MAX:
            self._usual[model] = choice.routes
        return choice.routes

    def names(self, model: str | None) -> tuple[str, ...]:
        """Return what the backends that serve a model call it."""
        routes = (router.route_to(backend, model) for backend in self._backends)
        return tuple({route.model for route in routes if route is not None and route.model is not None})

    async def open(self, routes: Sequence[Route], scope: Scope, body: Body, *, identity: bool) -> Answer:
        """Return the first answer that nobody else could give better. Raises the last UpstreamFailed.

        A body that is a stream goes up once. Raises BadRequest when an alias cannot be put into the body.
        """
        started_s = self._clock.monotonic_s()
        failures: list[Failure] = []
        refusal: Answer | None = None
        failed: UpstreamFailed | None = None
        try:
            while (attempt := router.next_attempt(routes, failures, self._policy)) is not None:
                route, wait_ms = attempt
                if failures and not isinstance(body, bytes):
                    break
                if failures:
                    self._metrics.backend_retries.labels(route.backend.name).inc()
                if wait_ms:
                    await asyncio.sleep(wait_ms / 1_000)
                try:
                    answer = await self._ask(route, scope, body, identity=identity)
                except UpstreamFailed as error:
                    failed = error
                    failures.append(Failure(error.kind))
                    continue
                if answer.status not in self._policy.retry_status:
                    waited_s = self._clock.monotonic_s() - started_s
                    self._metrics.first_byte_seconds.labels(route.backend.name).observe(waited_s)
                    return answer
                refusal, before = answer, refusal
                failures.append(self._refused(answer))
                if before is not None:
                    await before.aclose()
            last, refusal = refusal, None
        finally:
            if refusal is not None:
                await refusal.aclose()
        if last is not None:
            return last
        assert failed is not None  # there is at least one route
        raise failed

    async def open_socket(
        self, backend: Backend, scope: Scope, query: bytes, protocols: Sequence[str]
    ) -> ClientConnection:
        """Return a websocket to this backend. Raises UpstreamFailed, and sockets.Refused with its answer."""
        self._health = router.began(self._health, backend.name, now_us=self._clock.now_us())
        try:
            made = await sockets.open_socket(
                backend,
                scope["raw_path"],
                query,
                scope["headers"],
                protocols,
                environ=self._environ,
                is_vouched=bool(self._trusted) and self._vouches(scope),
            )
        except UpstreamFailed as error:
            self.failed(error)
            self._learn(backend.name, Failure(error.kind))
            raise
        except BaseException:  # it refused the handshake, or the client left
            self._health = router.unheard(self._health, backend.name)
            raise
        self._health = router.worked(self._health, backend.name)
        return made

    async def lists(
        self, scope: Scope, *, bytes_max: int, within_s: float
    ) -> list[tuple[Backend, bytes | None]]:
        """Return what every backend answers to this request, None for those that give nothing in time."""
        asking = (self._body(backend, scope, bytes_max, within_s) for backend in self._backends)
        bodies = await asyncio.gather(*asking)
        return list(zip(self._backends, bodies, strict=True))

    async def _body(self, backend: Backend, scope: Scope, bytes_max: int, within_s: float) -> bytes | None:
        if self._health.get(backend.name, router.WELL).state(self._clock.now_us()) == "open":
            return None
        try:
            async with asyncio.timeout(within_s):
                answer = await self._ask(Route(backend), scope, b"", identity=True)
                async with contextlib.aclosing(answer):
                    body = b""
                    while (piece := await answer.read()) is not None:
                        body += piece
                        if len(body) > bytes_max:
                            return None
        except (UpstreamFailed, TimeoutError):
            return None
        return body if answer.status == 200 else None

    async def _ask(self, route: Route, scope: Scope, body: Body, *, identity: bool) -> Answer:
        name = route.backend.name
        if route.is_alias and route.model is not None and isinstance(body, bytes):
            try:
                body = renamed(body, route.model, kind_of(scope["headers"]))
            except WireError as error:
                raise BadRequest(error.cause, remedy=error.remedy, code=error.code) from error
        self._health = router.began(self._health, name, now_us=self._clock.now_us())
        try:
            answer = await self._upstream.open(
                route.backend,
                scope["method"],
                scope["raw_path"],
                scope["query_string"],
                scope["headers"],
                body,
                identity=identity,
                model=route.model,
                is_vouched=bool(self._trusted) and self._vouches(scope),
            )
        except UpstreamFailed as error:
            if isinstance(error, BodyBroken):
                self._health = router.unheard(self._health, name)
            else:
                self.failed(error)
                self._learn(name, Failure(error.kind))
            raise
        except BaseException:  # the client left, or took too long over its body
            self._health = router.unheard(self._health, name)
            raise
        if answer.status not in self._policy.retry_status:
            if self._health.get(name, router.WELL).pauses:
                self._metrics.backend_circuit_open.labels(name).set(0)
                self._log.info("backend_circuit_closed", backend=name)
            self._health = router.worked(self._health, name)
        return answer

    def _vouches(self, scope: Scope) -> bool:
        """Tell whether the peer is a proxy whose word on its own client counts."""
        peer = scope.get("client")
        try:
            address = ipaddress.ip_address(peer[0]) if peer else None
        except ValueError:
            return False  # a Unix socket has a path
        return address is not None and any(address in network for network in self._trusted)

    def _refused(self, answer: Answer) -> Failure:
        name = answer.backend.name
        wait_ms = router.retry_after_ms(answer.headers, now_us=self._clock.now_us())
        failure = Failure("refused", answer.status, wait_ms)
        self._metrics.backend_errors.labels(name, "refused").inc()
        self._log.warning("backend_failed", backend=name, kind="refused", http_status=answer.status)
        self._learn(name, failure)
        return failure

    def failed(self, error: UpstreamFailed) -> None:
        """Count and tell a failure, before an answer or in the middle of one."""
        self._metrics.backend_errors.labels(error.backend, error.kind).inc()
        self._log.warning("backend_failed", backend=error.backend, kind=error.kind)

    def _learn(self, name: str, failure: Failure) -> None:
        before = self._health.get(name, router.WELL)
        now_us = self._clock.now_us()
        self._health = router.failed(self._health, name, failure, self._policy, now_us=now_us)
        after = self._health[name]
        if after.pauses > before.pauses:
            pause_ms = (after.open_until_us - now_us) // 1_000
            self._metrics.backend_circuit_open.labels(name).set(1)
            self._log.warning("backend_circuit_opened", backend=name, pause_ms=pause_ms)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._upstream.aclose()
