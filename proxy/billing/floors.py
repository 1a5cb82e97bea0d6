"""What a work asks for by itself: a floor price, a rate that was agreed, how much of it may be quoted.

A creator says so for one work or for all of theirs; what is said of the work holds before what is said of its
creator. Each word has the registry's number from which it holds, and an answer carries the number under which
it was credited: so what a work asked when it was used can be told at any later time.

A floor is the price of a whole answer, like a rate: a work whose share is a tenth asks for a tenth of it.
Nobody is charged a price they did not agree to: what a floor does is the policy's to say (schemes.py), and
one above the policy's `floor_max` only shuts the work out of being paid.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from proxy.billing.money import parse
from proxy.catalogue.works import EXCERPT_WORDS
from proxy.errors import BadRequest

Kind = Literal["floor", "rate", "excerpt_words"]
KINDS: Final[tuple[Kind, ...]] = ("floor", "rate", "excerpt_words")
# What a creator may set themselves; a rate is agreed, so an operator writes it down.
OWN_KINDS: Final[tuple[Kind, ...]] = ("floor", "excerpt_words")
History = Mapping[str, tuple[tuple[int, int | None], ...]]


def _nothing() -> History:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, by work or creator: (registry's number, grains or None for no more), oldest first.

    owners: whose a work is, of those creators who ask for something or are named by a rate.
    """

    floors: History = field(default_factory=_nothing)
    rates: History = field(default_factory=_nothing)
    owners: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def floor(self, work: str, seq: int) -> int:
        """Return the least that a whole answer from `work` may pay, at the registry's number `seq`."""
        return (self._said(self.floors, work, seq) or 0) if self.floors else 0

    def rate(self, work: str, seq: int) -> int | None:
        """Return the rate of a whole answer that was agreed for `work`, None where none was."""
        return self._said(self.rates, work, seq) if self.rates else None

    def _said(self, history: History, work: str, seq: int) -> int | None:
        own = last_said(history.get(work, ()), seq)
        return last_said(history.get(self.owners.get(work, ""), ()), seq) if own is None else own


NOTHING_ASKED: Final = Asked()


def last_said(changes: tuple[tuple[int, int | None], ...], seq: int) -> int | None:
    """Return what held at `seq`: the last value whose number is not above it."""
    place = bisect.bisect_right(changes, seq, key=lambda change: change[0])
    return changes[place - 1][1] if place else None


def read_value(kind: str, text: str, currency: str) -> int | None:
    """Return what `text` says of `kind`: grains, or words; None for "none", which ends it.

    Raises BadRequest for what is neither.
    """
    if kind not in KINDS:
        raise BadRequest(f"nothing is called '{kind}'", remedy=f"use one of {', '.join(KINDS)}", code="terms")
    if text == "none":
        return None
    if kind == "excerpt_words":
        if not (text.isascii() and text.isdigit() and int(text) in EXCERPT_WORDS):
            raise BadRequest(
                f"'{text[:40]}' is no limit of words",
                remedy=f"use one of {', '.join(map(str, EXCERPT_WORDS))}, or none",
                code="terms",
            )
        return int(text)
    try:
        grains = parse(text, currency)
    except (ValueError, OverflowError) as error:
        raise BadRequest(
            f"{kind}: {error}", remedy='write an amount like "0.02", or none', code="terms"
        ) from error
    if grains < 0:
        raise BadRequest(f"a {kind} is not negative", remedy="write 0 or more, or none", code="terms")
    return grains
