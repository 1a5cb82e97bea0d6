"""When the answers of a closed period may leave the store. Decided without one.

A period's statements, its transfers and its totals stay for ever. Its answers, with whose works each drew on,
are needed while somebody may still ask for the single line: through the comment window, while a dispute about
one of its statements is open, and for as many days more as the policy says. After that they only grow. They
leave as a whole, once the public log holds them all, and a digest of them stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from proxy.clock import iso_utc

DAY_US: Final = 86_400_000_000
State = Literal["trimmed", "due", "kept"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a closed period. until_us: its comment window, 0 for none; end_bounds: where it ends
    in each shard; disputes: open ones about its statements; trimmed_us: when its answers left, 0 before.
    """

    label: str
    closed_us: int
    until_us: int
    answers: int
    end_bounds: Mapping[str, int]
    disputes: int = 0
    trimmed_us: int = 0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a period's answers, and why. due_us: from when they may leave, 0 where never."""

    period: str
    state: State
    answers: int
    why: str
    due_us: int = 0


def standing(facts: Facts, *, days: int, logged: Mapping[str, int], now_us: int) -> Standing:
    """Return what becomes of a period's answers now.

    days: how long they stay after the period is final, 0 for ever. logged: {shard: up to which record the
    public log holds its answers}.
    """
    state, why, due_us = _decided(facts, days, logged, now_us)
    return Standing(period=facts.label, state=state, answers=facts.answers, why=why, due_us=due_us)


def _decided(facts: Facts, days: int, logged: Mapping[str, int], now_us: int) -> tuple[State, str, int]:
    final_us = max(facts.until_us, facts.closed_us)
    due_us = final_us + days * DAY_US if days else 0
    if facts.trimmed_us:
        return "trimmed", f"left on {iso_utc(facts.trimmed_us)[:10]}", due_us
    if now_us < final_us:
        return "kept", f"a draft until {iso_utc(final_us)[:16]}", due_us
    if not days:
        return "kept", "[retention] usage_days is 0", 0
    if now_us < due_us:
        return "kept", f"until {iso_utc(due_us)[:10]}", due_us
    if facts.disputes:
        some = "a dispute is" if facts.disputes == 1 else f"{facts.disputes} disputes are"
        return "kept", f"{some} open about its statements", due_us
    if any(logged.get(shard, 0) < end for shard, end in facts.end_bounds.items()):
        return "kept", "the public log does not hold all of its answers yet", due_us
    return "due", "", due_us
