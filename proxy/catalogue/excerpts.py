"""A work's own words as evidence, where its creator lets them be shown.

Consent to be credited is none to be quoted: without a consent to `excerpt_display` nothing is shown, and
never more words than a creator lets an answer repeat. Who looks at an answer sees the passage it was held
against and no more of the work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sqlalchemy.exc import SQLAlchemyError

from proxy.catalogue.works import WorkCredit
from proxy.errors import Problem

WORDS_MAX = 100  # of one work, where its creator says nothing: enough to recognise a passage by
_WORD = re.compile(r"\S+")


class Excerpts:
    """Looks passages up; blocks on the store."""

    def __init__(self, credit_of: Callable[[str], WorkCredit | None], text_of: Callable[[str], str]) -> None:
        """`text_of` is Catalogue.text."""
        self._credit_of = credit_of
        self._text_of = text_of

    def __call__(self, work: str, spans: Sequence[tuple[int, int]]) -> list[str]:
        """Return the words at each span of code points; "" for what may not be shown or is not there now.

        The spans share one allowance of words, the first come first; one that it cuts ends in an ellipsis.
        """
        credit = self._credit_of(work)
        if credit is None or not credit.excerpts or credit.verdict == "prohibited" or not spans:
            return [""] * len(spans)
        try:
            text = self._text_of(work)
        except (Problem, SQLAlchemyError):  # erased meanwhile, or the store is away: an answer needs neither
            return [""] * len(spans)
        left = WORDS_MAX if credit.excerpt_words is None else min(credit.excerpt_words, WORDS_MAX)
        shown: list[str] = []
        for start, end in spans:
            passage, left = _some(text[max(start, 0) : end], left)
            shown.append(passage)
        return shown


def _some(passage: str, words_max: int) -> tuple[str, int]:
    """Return as much of a passage as is allowed, and how many words are left."""
    ends = [match.end() for match in _WORD.finditer(passage)]
    if len(ends) <= words_max:
        return passage, words_max - len(ends)
    return (passage[: ends[words_max - 1]] + "…" if words_max else ""), 0
