"""What contracts and rights signals say of a work's uses, and what holds when they say different things.

Signals (RSL, AIPREF, TDMRep and their kin) were made for crawlers, each with its own words; none has a word
for "this work may influence outputs, paid by measured influence". They are read into our own uses, a superset
(`works.Use`): a prohibition broadly and a permission narrowly, because a wrong no costs a fee and a wrong yes
costs a right. What was said stays beside each term, and the file itself is kept.

What holds for a use is decided by the first of these that says anything about it: a contract, a signal for
the work, one for its collection, one for its creator. There any denial wins; terms under conditions hold when
all conditions of one of the ways offered are met, and deny when none is. What nobody speaks of is left to the
default of that use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from proxy.catalogue.works import Given, Use

Effect = Literal["allow", "deny", "constrained"]
Source = Literal["contract", "rsl", "aipref", "content-signal", "tdmrep", "cawg", "iptc"]
Scope = Literal["work", "collection", "creator"]
SCOPES: Final[tuple[Scope, ...]] = ("work", "collection", "creator")  # the most specific first

# What nobody has allowed or denied: finding a work is open, making things out of it is not.
DEFAULTS: Final[Mapping[Use, Literal["allow", "deny"]]] = MappingProxyType(
    {use: "allow" if use in {Use.INDEX, Use.SEARCH} else "deny" for use in Use}
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must be so: ("payment", "use"), ("user", "education"), ("see", an address)."""

    kind: str
    value: str


FREE: Final = Condition("payment", "free")


@dataclass(frozen=True, slots=True)
class Term:
    """What one source says of one use. said: its own words.

    ways: of a constrained term, the sets of conditions offered; any one of them is enough, and none means
    that nothing we know of would be.
    """

    use: Use
    effect: Effect
    said: str
    ways: tuple[tuple[Condition, ...], ...] = ()

    def __post_init__(self) -> None:
        """Refuse conditions on what is not constrained: nobody would look at them."""
        if self.ways and self.effect != "constrained":
            raise ValueError(f"'{self.effect}' has no conditions: {self.said}")


@dataclass(frozen=True, slots=True)
class Licence:
    """Terms in force for a work, a collection or all works of a creator, from one source."""

    id: str
    source: Source
    scope: Scope
    terms: tuple[Term, ...]
    valid_from_us: int = 0
    valid_to_us: int | None = None  # the first microsecond at which it holds no more
    revoked_us: int | None = None

    def holds_at(self, at_us: int) -> bool:
        """Tell whether it is in force."""
        ends = [end for end in (self.valid_to_us, self.revoked_us) if end is not None]
        return self.valid_from_us <= at_us and all(at_us < end for end in ends)


@dataclass(frozen=True, slots=True)
class Decision:
    """What holds for one use. licence: whose terms decided, "" for the default. way: the conditions met."""

    effect: Literal["allow", "deny"]
    why: str
    licence: str = ""
    way: tuple[Condition, ...] = ()

    @property
    def given(self) -> Given:
        """What this is as a consent: free only where somebody said that nothing is asked for."""
        if self.effect == "deny":
            return "denied"
        return "free" if FREE in self.way else "paid"


def met_by_metering(condition: Condition) -> bool:
    """Tell whether paying by measured use and naming the source, as this product does, meets a condition."""
    return condition.kind == "payment" and condition.value in {"use", "attribution", "free"}


def decide(
    use: Use,
    licences: Iterable[Licence],
    *,
    at_us: int,
    is_met: Callable[[Condition], bool] = met_by_metering,
    defaults: Mapping[Use, Literal["allow", "deny"]] = DEFAULTS,
) -> Decision:
    """Return what holds for a use at a time, by all licences that concern the work, in any order."""
    speaking = [
        (_rank(licence), licence, term)
        for licence in licences
        if licence.holds_at(at_us)
        for term in licence.terms
        if term.use is use
    ]
    if not speaking:
        return Decision(defaults[use], "nobody has said anything about it")
    first = min(rank for rank, _, _ in speaking)
    said = sorted(
        ((licence, term) for rank, licence, term in speaking if rank == first), key=lambda pair: pair[0].id
    )
    for licence, term in said:
        if term.effect == "deny":
            return Decision("deny", f"{licence.source}: {term.said}", licence.id)
    for licence, term in said:
        if term.effect == "constrained" and _way_met(term, is_met) is None:
            return Decision("deny", f"{licence.source}: {term.said}; its conditions are not met", licence.id)
    # All of them allow it now. Where one asks to be paid, a free one beside it takes nothing away.
    ways = [(licence, term, _way_met(term, is_met) or ()) for licence, term in said]
    licence, term, way = min(ways, key=lambda one: _is_free(one[2]))
    return Decision("allow", f"{licence.source}: {term.said}", licence.id, way)


def _rank(licence: Licence) -> tuple[bool, int]:
    return licence.source != "contract", SCOPES.index(licence.scope)


def _way_met(term: Term, is_met: Callable[[Condition], bool]) -> tuple[Condition, ...] | None:
    """Return the first way whose conditions are all met, one that pays before one that is free."""
    return min((way for way in term.ways if all(map(is_met, way))), key=_is_free, default=None)


def _is_free(way: tuple[Condition, ...]) -> bool:
    return FREE in way
