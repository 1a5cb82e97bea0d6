"""Whether a text stands in a registered work: what anybody may ask about their own, and nothing beside it.

A yes or a no, so that whoever asks learns of no title, name or number; and only about a text that is long
enough to be somebody's, so that nobody can feel their way through a work word by word. It is found as the
credits of an answer are, behind everybody's whose shares are waited for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Final, Protocol

from proxy.errors import BadRequest, Unavailable
from proxy.relay.scored import Evidence, Failed, Scored

WORDS_MIN: Final = 40  # a verse or a paragraph: what many people write by chance is shorter
CHARACTERS_MAX: Final = 20_000  # some three thousand words; the beginning of a book is enough
MOST_PPM: Final = 500_000  # of the text, word for word in one work
AT_ONCE: Final = 2  # looked at together; others wait for their turn
WITHIN_S: Final = 10.0


class Attributes(Protocol):
    """The part of relay.attributing that is asked here."""

    async def attribute(self, answer_id: str, texts: Mapping[int, str], /) -> Scored | Failed:
        """Return what a text owes, after all for whom somebody waits."""
        ...


class Recognising:
    """Asks the scorer about texts that are nobody's answers."""

    def __init__(self, attributes: Attributes, *, within_s: float = WITHIN_S) -> None:
        self._attributes = attributes
        self._within_s = within_s
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._numbers = itertools.count(1)

    async def __call__(self, text: str) -> bool:
        """Tell whether most of a text stands word for word in one registered work.

        Raises BadRequest for one that is too short to tell by, Unavailable where it cannot be told now.
        """
        text = text.strip()[:CHARACTERS_MAX]
        if len(text.split()) < WORDS_MIN:
            raise BadRequest(
                "this is too short to tell whose it is",
                remedy=f"give at least {WORDS_MIN} words of your text, a verse or a paragraph",
                code="too_short",
            )
        try:
            async with asyncio.timeout(self._within_s), self._turns:
                found = await self._attributes.attribute(f"look-up/{next(self._numbers)}", {0: text})
        except TimeoutError as error:
            raise Unavailable("texts cannot be compared right now", remedy="try again shortly") from error
        if isinstance(found, Failed):
            raise Unavailable("this text cannot be compared", remedy="try another passage of your work")
        return any(_copied(work.evidence) * 1_000_000 >= len(text) * MOST_PPM for work in found.works)


def _copied(evidence: tuple[Evidence, ...]) -> int:
    return sum(piece.end - piece.start for piece in evidence if piece.kind == "verbatim")
