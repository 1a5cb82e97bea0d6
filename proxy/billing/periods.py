"""What a closed period is: a draft that creators may comment on, then final. Decided without a store.

A closed period never changes, so its state is no column that somebody sets: the close writes until when the
comment window lasts, and the state is that time against the clock's. Nobody can cut the window short, nothing
has to run for it to end, and a final period is never a draft again, whatever the settings say later. A
period closed before there were windows promised none, and is final.

What comes of a comment is not a change of the statement but an adjustment or a dispute, told by a later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from proxy.catalogue.ownership import checked_words
from proxy.errors import Conflict

DAY_US: Final = 86_400_000_000
COMMENT_CHARACTERS_MAX: Final = 2_000  # a page: what does not fit belongs into a dispute, with its evidence
COMMENTS_MAX: Final = 50  # of one statement, both sides together: more is no conversation about a statement
PeriodState = Literal["draft", "final"]
Side = Literal["creator", "operator"]


class Comment(msgspec.Struct, frozen=True, kw_only=True):
    """What was said about a statement. seq: its place, from 1; by: the creator's id or an operator's name."""

    statement: str
    seq: int
    side: Side
    text: str
    by: str
    at_us: int


def window_end(closed_us: int, comment_days: int) -> int:
    """Return until when creators may comment on a period closed then."""
    return closed_us + comment_days * DAY_US


def state_at(until_us: int, now_us: int) -> PeriodState:
    """Return the state of a period whose window lasts until then."""
    return "draft" if now_us < until_us else "final"


def next_comment(
    before: Sequence[Comment], *, statement: str, side: Side, text: str, by: str, now_us: int, until_us: int
) -> Comment | None:
    """Return what is to be kept, or None where the same side said the same last.

    Raises Conflict for a creator when the period is final ("period_final"), for an operator when there is
    nothing to answer ("nothing_to_answer"), and when too much was said ("comments_full").
    """
    said = checked_words(text, "comment", COMMENT_CHARACTERS_MAX)
    if before and (before[-1].side, before[-1].text) == (side, said):
        return None
    if side == "creator" and state_at(until_us, now_us) == "final":
        raise Conflict(
            f"the period of {statement} is final",
            remedy="open a dispute about the lines that are wrong",
            code="period_final",
        )
    if side == "operator" and not before:
        raise Conflict(
            f"nobody has commented on {statement}",
            remedy="an operator answers: wait for a comment",
            code="nothing_to_answer",
        )
    if len(before) >= COMMENTS_MAX:
        raise Conflict(
            f"{statement} has {len(before)} comments", remedy="open a dispute", code="comments_full"
        )
    return Comment(statement=statement, seq=len(before) + 1, side=side, text=said, by=by, at_us=now_us)
