"""Answers that a backend only promised: looked for until they are there, so that they are metered once.

A background response is answered at once by an id, and its text and usage exist only later. The app may fetch
it never, or often, so fetching cannot be what meters it: the exchange that asked stays open and looks for
itself, ever more rarely. A crash meanwhile books it like any answer in flight. What does not come within
FOLLOWED_S_MAX is metered as cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from proxy.errors import Problem
from proxy.relay.needs import Scope
from proxy.relay.router import Route
from proxy.relay.upstream import UpstreamFailed
from proxy.wire.coding import INFLATABLE, Inflater
from proxy.wire.errors import WireError
from proxy.wire.headers import field_of

if TYPE_CHECKING:
    from proxy.relay.handler import Relay

FOLLOWED_MAX = 1_000  # a task and a request's text each; every one asks its backend twice a minute
FOLLOWED_S_MAX = 3_600.0  # the longest research runs take half of that
WAIT_S_MAX = 30.0
GROWTH = 1.5  # each look waits so much longer than the one before
REPLY_BYTES_MAX = 64 << 20  # as for a whole reply that is not promised
_OF_A_BODY = frozenset({b"content-length", b"content-type", b"transfer-encoding", b"accept-encoding"})


class Promises:
    """Looks for promised answers. `wait_s`: before the first look."""

    def __init__(self, relay: Relay, *, wait_s: float) -> None:
        self._relay = relay
        self._wait_s = wait_s
        self.open = 0

    @property
    def are_too_many(self) -> bool:
        """Whether no more can be followed now."""
        return self.open >= FOLLOWED_MAX

    async def looks(self, routes: Sequence[Route], scope: Scope, answer_id: str) -> AsyncGenerator[bytes]:
        """Yield what stands under the id, look by look; ends when it has been too long.

        scope: of the request that asked; routes: to the backend that promised. A backend that is away for a
        while is asked again. Raises UpstreamFailed when it says that there is no such answer.
        """
        clock = self._relay.clock
        ends_s = clock.monotonic_s() + FOLLOWED_S_MAX
        wait_s = self._wait_s
        asking = _asking_for(scope, answer_id)
        self.open += 1
        metrics = self._relay.metrics
        metrics.promises_open.inc()
        result = "given_up"  # until it is known better: overdue, or the server stops
        try:
            while clock.monotonic_s() < ends_s:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * GROWTH, WAIT_S_MAX)
                try:
                    status, body = await self._look(routes, asking)
                except (UpstreamFailed, Problem):
                    continue
                if status in {404, 410}:
                    result = "withdrawn"
                    raise UpstreamFailed("cut", routes[0].backend.name, "the promised answer is gone")
                if status == 200:
                    result = "kept"  # if this is the last look: whoever is content with it closes us
                    yield body
                    result = "given_up"
        finally:
            self.open -= 1
            metrics.promises_open.dec()
            metrics.promises.labels(result).inc()

    async def _look(self, routes: Sequence[Route], asking: Scope) -> tuple[int, bytes]:
        answer = await self._relay.open(routes, asking, b"", identity=True)
        body = bytearray()
        inflate = Inflater(REPLY_BYTES_MAX) if _is_packed(answer.headers) else None
        try:
            async with asyncio.timeout_at(answer.ends_s):
                while (piece := await answer.read()) is not None:
                    body += piece if inflate is None else inflate.feed(piece)
                    if len(body) > REPLY_BYTES_MAX:
                        return 0, b""
        except (TimeoutError, WireError):
            return 0, b""
        finally:
            await answer.aclose()
        return answer.status, bytes(body)


def _asking_for(scope: Scope, answer_id: str) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _OF_A_BODY]
    path = scope["raw_path"].rstrip(b"/") + b"/" + answer_id.encode("ascii")
    return {**scope, "method": "GET", "raw_path": path, "headers": headers}


def _is_packed(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    return field_of(headers, b"content-encoding") in INFLATABLE
