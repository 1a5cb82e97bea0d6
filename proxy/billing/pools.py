"""Revenue pools: what an app earned by subscriptions or ads, divided by what its users' answers drew on.

An app that charges its users by the month has no price for an answer. It declares what a period brought in,
creators' part of that is the pool, and the pool is divided at the close. By default it is *user-centric*:
each end user's equal part goes to what that user's own answers drew on, so nobody can move more than one
user's money, however many requests they send (measured: one subscriber of a thousand who sends half of all
requests moves $500 of a pro-rata pool of $5,000, and never more than $5 of a user-centric one). *pro_rata*
divides the pool by all use alike.

End users are known by a keyed digest only. What came without one counts as one user together. Paying users
who used nothing that pays keep their part out of it: it goes where the policy says.

Everything is exact: `allocate` divides, and what creators, the common account and the platform get sums to
the pool. docs/money.md, "Revenue pools", is the normative text.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from proxy.billing.money import GRAINS_PER_MINOR, PPM, allocate, apportion, checked
from proxy.billing.schemes import Terms
from proxy.errors import Conflict
from proxy.settings import PoolRule

WITHOUT_USE: Final = "without_use"  # the reason in the common account; no user's digest looks like it
UNNAMED: Final = "~unnamed"
APPS_NAMED_MAX: Final = 50  # in a refusal that a person reads
# What was never scored (not_attributed, cut_by_crash) is not among them: it is held, whatever a policy says.
_UNEXPLAINED: Final = frozenset({"unattributed", "no_text"})

# A line of use (work, app, model, day, ...), or the reason why a part of an answer pays no work.
Line = tuple[str | int, ...]
Key = Line | str


def name_of(key: Key) -> str:
    """Return what names a line in a division: its values joined by bars, an empty last one left out."""
    if isinstance(key, str):
        return f"~{key}"
    return "|".join(map(str, key if key[-1] else key[:-1]))


class PoolUse:
    """One app's use that is paid from a pool: how much each user's answers drew on each line.

    Three numbers of four bytes for each line of an answer, so ten million lines are 120 MB.
    """

    def __init__(self) -> None:
        self.first_us = 0
        self._users: dict[str, int] = {}
        self._keys: dict[Key, int] = {}
        self._user, self._key, self._ppm = array("I"), array("I"), array("I")

    def add(self, user: str, occurred_us: int, shares: Iterable[tuple[Key, int]]) -> None:
        """Count one answer. user: the end user's digest, "" for none; shares: (line or reason, ppm)."""
        self.first_us = min(self.first_us or occurred_us, occurred_us)
        number = self._users.setdefault(user or UNNAMED, len(self._users))
        for key, ppm in shares:
            self._user.append(number)
            self._key.append(self._keys.setdefault(key, len(self._keys)))
            self._ppm.append(ppm)

    @property
    def users(self) -> list[str]:
        """Every user who was seen, those who are not named as one."""
        return sorted(self._users)

    def total(self) -> list[tuple[Key, int]]:
        """Return every line with the sum of ppm over all users."""
        import numpy as np  # noqa: PLC0415  a server that closes nothing has no use for it

        sums = np.zeros(len(self._keys), np.int64)
        np.add.at(sums, np.asarray(self._key), np.asarray(self._ppm, np.int64))
        return list(zip(self._keys, sums.tolist(), strict=True))

    def masses(self) -> Iterator[tuple[str, list[tuple[Key, int]]]]:
        """Yield (user, their lines with sums of ppm), each user once."""
        import numpy as np  # noqa: PLC0415  likewise

        if not len(self._ppm):
            yield from ((user, []) for user in self._users)
            return
        keys, count = list(self._keys), len(self._keys)
        pairs = np.asarray(self._user, np.int64) * count + np.asarray(self._key, np.int64)
        order = np.argsort(pairs, kind="stable")
        pairs = pairs[order]
        first = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1]))
        sums: list[int] = np.add.reduceat(np.asarray(self._ppm, np.int64)[order], first).tolist()
        users, places = pairs[first] // count, (pairs[first] % count).tolist()
        bounds = np.searchsorted(users, np.arange(len(self._users) + 1)).tolist()
        for user, number in self._users.items():
            mine = range(bounds[number], bounds[number + 1])
            yield user, [(keys[places[at]], sums[at]) for at in mine]


class Revenue(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody declared of an app's revenue for a period, and somebody else approved.

    users: how many paid, None where nobody counted them. amount_grains may be negative: a correction.
    """

    id: str
    app: str
    period: str
    kind: str
    amount_grains: int
    currency: str
    users: int | None
    why: str
    by: str
    at_us: int
    outcome: str = ""
    decided_by: str = ""


@dataclass(frozen=True, slots=True)
class Divided:
    """A pool that was divided: grains by line, by reason in the common account, and to the platform."""

    lines: Mapping[Line, int]
    common: Mapping[str, int]
    platform: int
    users_seen: int
    users_counted: int


class PoolTold(msgspec.Struct, frozen=True, kw_only=True):
    """One app's pool as every statement of the period tells of it.

    pool_grains = works_grains + sum(common_grains) + platform_grains. users_counted: by how many the pool
    was divided: those declared, or seen where that is more; 0 under pro_rata.
    """

    app: str
    policy: str
    revenue_grains: int
    creators_ppm: int
    pool_grains: int
    division: str
    users_seen: int
    users_counted: int
    works_grains: int
    common_grains: dict[str, int]
    platform_grains: int
    declared: tuple[str, ...]


@dataclass(slots=True)
class _Sums:
    """Where the grains of one pool go."""

    rule: PoolRule
    lines: dict[Line, int] = field(default_factory=dict[Line, int])
    common: dict[str, int] = field(default_factory=dict[str, int])
    platform: int = 0

    def weights(self, masses: Sequence[tuple[Key, int]]) -> list[tuple[Key, int]]:
        """Return what counts: under `spread` the part that no work explains does not."""
        if self.rule.unattributed != "spread":
            return list(masses)
        return [(key, ppm) for key, ppm in masses if not (isinstance(key, str) and key in _UNEXPLAINED)]

    def divide(self, grains: int, masses: Sequence[tuple[Key, int]], seed: str) -> None:
        """Divide by what counts, or let it be without use where nothing does."""
        weights = self.weights(masses)
        if not weights:
            self.give(WITHOUT_USE, grains)
            return
        parts = apportion(grains, [ppm for _, ppm in weights], seed, lambda at: name_of(weights[at][0]))
        for (key, _), part in zip(weights, parts, strict=True):
            self.give(key, part)

    def give(self, key: Key, grains: int) -> None:
        if not grains:
            return
        if not isinstance(key, str):
            self.lines[key] = self.lines.get(key, 0) + grains
        elif (key in _UNEXPLAINED and self.rule.unattributed == "platform") or (
            key == WITHOUT_USE and self.rule.without_use == "platform"
        ):
            self.platform += grains
        else:
            self.common[key] = self.common.get(key, 0) + grains


def creators_part(revenue_grains: int, creators_ppm: int) -> int:
    """Return creators' part of a revenue, rounded up to a whole minor unit: the odd one is theirs."""
    exact = revenue_grains * creators_ppm
    whole = PPM * GRAINS_PER_MINOR
    return min(checked(-(-exact // whole) * GRAINS_PER_MINOR), revenue_grains)


def divide(
    grains: int, use: PoolUse, rule: PoolRule, seed: str, *, users_declared: int | None = None
) -> Divided:
    """Return `grains` divided by `use`: the same for the same answers in any order.

    seed: names the pool ("period|app|pool"). users_declared: how many users paid; the parts of those who
    were not seen go where parts of users without use go.
    """
    sums = _Sums(rule)
    seen = use.users
    if rule.division == "pro_rata":
        sums.divide(grains, use.total(), seed)
        return Divided(sums.lines, sums.common, sums.platform, len(seen), 0)
    counted = max(users_declared or 0, len(seen))
    absent = counted - len(seen)
    if not counted:
        sums.give(WITHOUT_USE, grains)
        return Divided(sums.lines, sums.common, sums.platform, 0, 0)
    parts = allocate(grains, [*((user, 1) for user in seen), (f"~{WITHOUT_USE}", absent)], seed)
    sums.give(WITHOUT_USE, parts[f"~{WITHOUT_USE}"])
    for user, masses in use.masses():
        sums.divide(parts[user], masses, f"{seed}|{user}")
    return Divided(sums.lines, sums.common, sums.platform, len(seen), counted)


def settle(
    label: str, used: Mapping[str, PoolUse], revenues: Sequence[Revenue], terms: Terms
) -> Iterator[tuple[PoolTold, Divided]]:
    """Yield every app's pool, divided, by the policy of the app's first use of the period that a pool pays.

    So a change of policy acts on the pool of the next period, and none can be made once the use is known. An
    app without such use has the policy of the day on which its revenue was declared first.
    Raises Conflict as `refuse_undeclared` does.
    """
    refuse_undeclared(label, used, revenues)
    approved = [one for one in revenues if one.outcome == "approved"]
    for app in sorted({one.app for one in approved}):
        mine = [one for one in approved if one.app == app]
        use = used.get(app) or PoolUse()
        held = terms.at(use.first_us or min(one.at_us for one in mine))
        rule = held.pool_of(app)
        revenue = checked(sum(one.amount_grains for one in mine))
        grains = creators_part(revenue, rule.creators_ppm)
        counted = [one.users for one in mine if one.users is not None]
        divided = divide(
            grains, use, rule, f"{label}|{app}|pool", users_declared=max(counted) if counted else None
        )
        yield (
            PoolTold(
                app=app,
                policy=held.policy,
                revenue_grains=revenue,
                creators_ppm=rule.creators_ppm,
                pool_grains=grains,
                division=rule.division,
                users_seen=divided.users_seen,
                users_counted=divided.users_counted,
                works_grains=sum(divided.lines.values()),
                common_grains=dict(sorted(divided.common.items())),
                platform_grains=divided.platform,
                declared=tuple(one.id for one in mine),
            ),
            divided,
        )


def refuse_undeclared(label: str, used: Iterable[str], declared: Iterable[Revenue]) -> None:
    """Raise Conflict where a pool cannot be divided yet: nothing declared, nobody approved, or below zero."""
    known = list(declared)
    waiting = sorted({one.app for one in known if not one.outcome})
    if waiting:
        raise Conflict(
            f"period {label}: declared revenue of {', '.join(waiting[:APPS_NAMED_MAX])} waits for approval",
            remedy="a second person approves it (`pools approve`), or it is withdrawn",
            code="pool_unapproved",
        )
    approved = [one for one in known if one.outcome == "approved"]
    missing = sorted(set(used) - {one.app for one in approved})
    if missing:
        raise Conflict(
            f"period {label}: {', '.join(missing[:APPS_NAMED_MAX])} pays from a pool and declared no revenue",
            remedy="`endcredits pools declare APP PERIOD AMOUNT`, 0 where there was none",
            code="pool_undeclared",
        )
    for app in sorted({one.app for one in approved}):
        if sum(one.amount_grains for one in approved if one.app == app) < 0:
            raise Conflict(
                f"period {label}: the revenue declared for {app} sums to less than nothing",
                remedy="correct it with another declaration",
                code="pool_negative",
            )
