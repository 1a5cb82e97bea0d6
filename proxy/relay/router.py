"""Which backends may serve a model, in what order, and when to ask another. Pure: values in, decision out.

Backends with a weight share their models' traffic: the draw is a hash of the answer's id, so the same id
always goes the same way and a test can say where. After them come the others as the file has them. A backend
that failed several times in a row is left alone (open circuit), then one request tries it (half open),
and the pause doubles while it fails. One that said Retry-After is asked last until then: it is busy.
Times come in; what is known of a backend is a value that each worker keeps for itself.
"""

from __future__ import annotations

import bisect
import datetime as dt
import email.utils
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal

from proxy.settings import Backend, Routing
from proxy.wire.headers import RawHeaders

REST_MS_MAX = 60_000  # a backend that asks for an hour is asked again in a minute, last
TRIAL_US_MAX = 60_000_000  # a trial that is not heard of for so long stands in nobody's way
State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one backend. Times are microseconds; 0 is never."""

    failures: int = 0  # in a row
    pauses: int = 0  # since it last worked
    open_until_us: int = 0
    trial_us: int = 0  # when the one request that tries it went up
    rests_until_us: int = 0

    def state(self, now_us: int) -> State:
        """Return whether requests may go there: all, none, or one to try it."""
        if not self.pauses:
            return "closed"
        is_trying = self.trial_us and now_us - self.trial_us < TRIAL_US_MAX
        return "open" if now_us < self.open_until_us or is_trying else "half_open"


WELL = Health()
HealthByName = Mapping[str, Health]
UNKNOWN: HealthByName = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Route:
    """A backend, and what it calls the model: None when the request names none that we could read."""

    backend: Backend
    model: str | None = None
    is_alias: bool = False  # the request's own bytes say another name


@dataclass(frozen=True, slots=True)
class Choice:
    """The routes to try in order. None of them, though some serve the model: all rest until `opens_us`."""

    routes: tuple[Route, ...]
    opens_us: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """How one attempt ended: `kind` is upstream's, or "refused" for a status that another may not give."""

    kind: str
    status: int = 0
    retry_after_ms: int | None = None


def choose(
    model: str | None,
    backends: Sequence[Backend],
    health: HealthByName = UNKNOWN,
    *,
    now_us: int = 0,
    draw: str = "",
) -> Choice:
    """Return the routes to backends that serve `model`; `draw` decides between weights.

    None stands for a request that names no model: every backend may have it.
    """
    able = [route for backend in backends if (route := route_to(backend, model)) is not None]
    routes: list[tuple[bool, Route]] = []
    opens_us = 0
    for route in _drawn(able, draw):
        known = health.get(route.backend.name, WELL)
        if known.state(now_us) == "open":
            again_us = max(known.open_until_us, now_us + 1_000_000)
            opens_us = min(opens_us or again_us, again_us)
        else:
            routes.append((now_us < known.rests_until_us, route))
    routes.sort(key=lambda entry: entry[0])  # stable: order is kept
    return Choice(tuple(route for _, route in routes), 0 if routes else opens_us)


def route_to(backend: Backend, model: str | None) -> Route | None:
    """Return the way to `model` at this backend, None when it does not serve it."""
    if model is None:
        return Route(backend)
    alias = backend.aliases.get(model)
    if alias is not None:
        return Route(backend, alias, is_alias=True)
    return Route(backend, model) if any(fnmatchcase(model, pattern) for pattern in backend.models) else None


def _drawn(routes: Sequence[Route], draw: str) -> list[Route]:
    """Return weighted routes in the order of repeated draws, then those without a weight."""
    weighted = [route for route in routes if route.backend.weight]
    drawn: list[Route] = []
    while len(weighted) > 1:
        digest = hashlib.sha256(f"{draw}|{len(drawn)}".encode()).digest()
        ends = list(itertools.accumulate(route.backend.weight for route in weighted))
        place = int.from_bytes(digest[:16]) % ends[-1]  # 128 bits: no weight gains by the remainder
        drawn.append(weighted.pop(bisect.bisect_right(ends, place)))
    return [*drawn, *weighted, *(route for route in routes if not route.backend.weight)]


def next_attempt(
    routes: Sequence[Route], failures: Sequence[Failure], policy: Routing
) -> tuple[Route, int] | None:
    """Return what to ask after `failures`, one an attempt, and the wait before it in ms; None: give up.

    Nothing is repeated but a connection that failed or a status of `retry_status`: whatever else happened may
    have cost. The same backend is asked again only when it said when, and that is soon.
    """
    if not failures:
        return routes[0], 0
    last = failures[-1]
    may_repeat = last.kind == "connect" or (last.kind == "refused" and last.status in policy.retry_status)
    if not may_repeat or len(failures) >= policy.attempts_max:
        return None
    if len(failures) < len(routes):
        return routes[len(failures)], 0
    # All were asked once; from here on only the one that refused last can be asked again.
    if last.retry_after_ms is None or last.retry_after_ms > policy.retry_after_ms:
        return None
    return routes[min(len(failures), len(routes)) - 1], last.retry_after_ms


def began(health: HealthByName, name: str, *, now_us: int) -> HealthByName:
    """Return what is known once a request goes up: one that tries a backend keeps the others away."""
    known = health.get(name)
    if known is None or known.state(now_us) != "half_open":
        return health
    return {**health, name: replace(known, trial_us=now_us)}


def unheard(health: HealthByName, name: str) -> HealthByName:
    """Return what is known when a request came to no end that says anything: its client left."""
    known = health.get(name)
    return health if known is None else {**health, name: replace(known, trial_us=0)}


def worked(health: HealthByName, name: str) -> HealthByName:
    """Return what is known after an answer began."""
    return health if name not in health else {key: value for key, value in health.items() if key != name}


def failed(
    health: HealthByName, name: str, failure: Failure, policy: Routing, *, now_us: int
) -> HealthByName:
    """Return what is known after an attempt without an answer."""
    known = health.get(name, WELL)
    if failure.retry_after_ms is not None:
        rest_us = min(failure.retry_after_ms, REST_MS_MAX) * 1_000
        known = replace(known, rests_until_us=now_us + rest_us)
    if failure.status == 429:  # busy is not broken
        known = replace(known, failures=0, pauses=0, open_until_us=0, trial_us=0)
        return {**health, name: known}
    was_trying = known.pauses > 0
    known = replace(known, failures=known.failures + 1, trial_us=0)
    is_broken = policy.circuit_failures and (was_trying or known.failures >= policy.circuit_failures)
    if is_broken and now_us >= known.open_until_us:  # several that failed together open it once
        pause_ms = min(policy.circuit_ms << min(known.pauses, 32), policy.circuit_ms_max)
        known = replace(known, pauses=known.pauses + 1, open_until_us=now_us + pause_ms * 1_000)
    return {**health, name: known}


def retry_after_ms(headers: RawHeaders, *, now_us: int) -> int | None:
    """Return how long a reply asks us to wait, None when it does not say so in a way that can be read."""
    found = {name.lower(): value.decode("latin-1").strip() for name, value in headers}
    exact = found.get(b"retry-after-ms", "")
    if exact.isascii() and exact.isdigit() and len(exact) <= 9:
        return int(exact)
    text = found.get(b"retry-after", "")
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text) * 1_000
    try:
        moment = email.utils.parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return max(0, int(moment.timestamp() * 1_000) - now_us // 1_000)
