"""Which backends may serve a model, in the order to try them. Pure: health comes in as values.

The first backend whose patterns match gets the request; the others that match are there for when it cannot be
reached. One that failed several times in a row is tried last for a while, and then again in its turn: that is
enough to keep a dead machine out of everybody's way, and it needs no probes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from proxy.settings import Backend

FAILURES_MAX = 3  # one refused connection may be a restart
SHUNNED_US = 30_000_000


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one backend: connections that failed in a row, and when the last one did."""

    failures: int = 0
    failed_us: int = 0

    def is_shunned(self, now_us: int) -> bool:
        """Whether it should be tried after the others."""
        return self.failures >= FAILURES_MAX and now_us - self.failed_us < SHUNNED_US


HealthByName = Mapping[str, Health]
UNKNOWN: HealthByName = MappingProxyType({})


def choose(
    model: str | None, backends: Sequence[Backend], health: HealthByName = UNKNOWN, *, now_us: int = 0
) -> tuple[Backend, ...]:
    """Return the backends that serve `model`, first choice first; empty when none does.

    None stands for a request that names no model: every backend may have it.
    """
    able = [
        backend for backend in backends if model is None or any(fnmatchcase(model, p) for p in backend.models)
    ]
    able.sort(
        key=lambda backend: health.get(backend.name, Health()).is_shunned(now_us)
    )  # stable: order is kept
    return tuple(able)


def observe(health: HealthByName, name: str, *, connected: bool, now_us: int) -> HealthByName:
    """Return what is known after one more attempt to reach `name`."""
    before = health.get(name)
    if connected:
        return health if before is None else {key: value for key, value in health.items() if key != name}
    return {**health, name: Health((before.failures if before else 0) + 1, now_us)}
