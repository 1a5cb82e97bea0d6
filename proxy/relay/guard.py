"""The replication guard: how much of a work an answer may repeat, and what is done when it repeats more.

The scorer counts, word for word, while the answer is written (attribution.copying); whose words they are and
what their creator allows is the catalogue's to say at that moment. A reply names what went beyond; where the
operator says `action = "cut"`, a stream ends there with finish_reason "content_filter" and a whole reply is
shortened to the limit. That word is OpenAI's own for text that was left out, and the one that clients know:
a new one would be refused by their type checks.

The guard never waits. When the scorer is late or away, the answer goes on as it is and is counted as
`unseen`: an operator's outage must not become everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from proxy.catalogue.works import EXCERPT_WORDS
from proxy.relay.scored import Copied
from proxy.settings import Guard

EXCERPT, PROHIBITED, OWN = 0, 1, 2  # places of the limits that the scorer is told


class Allowed(Protocol):
    """What the guard asks of a work (catalogue.works.WorkCredit)."""

    @property
    def work(self) -> str:
        """The public id."""
        ...

    @property
    def verdict(self) -> str:
        """What this use is today."""
        ...

    @property
    def excerpt_words(self) -> int | None:
        """How many words its creator lets an answer repeat, None where they leave it to the operator."""
        ...


class Replication(msgspec.Struct, frozen=True):
    """A work of which more words stand in one choice than may: `words` of them, in [start, end) of its text.

    at: the code point where the limit was reached. is_cut: the choice's text ends there.
    """

    work: str
    words: int
    limit: int
    choice: int
    start: int
    end: int
    at: int
    is_cut: bool = False


def limits(guard: Guard) -> tuple[int, ...]:
    """Return what the scorer is to look for, nothing when the guard is off.

    Creators' own limits come behind the operator's two, all that there can be.
    """
    if guard.action == "off":
        return ()
    return (guard.excerpt_words, guard.prohibited_words, *EXCERPT_WORDS)


def limit_of(work: Allowed, guard: Guard) -> tuple[int, int]:
    """Return (place among `limits`, words): a creator's own limit, or the operator's."""
    if work.verdict == "prohibited":
        return PROHIBITED, guard.prohibited_words
    if work.excerpt_words in EXCERPT_WORDS:
        return OWN + EXCERPT_WORDS.index(work.excerpt_words), work.excerpt_words
    return EXCERPT, guard.excerpt_words


def replications(
    copied: Sequence[Copied], allowed: Callable[[str], Allowed | None], guard: Guard
) -> tuple[Replication, ...]:
    """Return what goes beyond its limit. An erased work has none any more."""
    found: list[Replication] = []
    for one in copied:
        work = allowed(one.work)
        if work is None or guard.action == "off":
            continue
        place, limit = limit_of(work, guard)
        if len(one.crossed) > place and one.crossed[place] >= 0:
            is_cut = guard.action == "cut"
            found.append(
                Replication(
                    work.work, one.words, limit, one.choice, one.start, one.end, one.crossed[place], is_cut
                )
            )
    return tuple(found)


def ends(found: Sequence[Replication]) -> dict[int, int]:
    """Return where each choice that is to be cut ends."""
    result: dict[int, int] = {}
    for one in found:
        if one.is_cut:
            result[one.choice] = min(one.at, result.get(one.choice, one.at))
    return result
