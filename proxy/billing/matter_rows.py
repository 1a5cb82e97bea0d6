"""Comments, corrections and disputes as people and scripts read them: one shape for commands and /api.

Amounts stand twice, grains for machines and exact decimal text for eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.billing import adjustments, disputes
from proxy.billing.adjustments import Adjustment
from proxy.billing.disputes import Case
from proxy.billing.money import decimal_text
from proxy.billing.periods import Comment
from proxy.clock import iso_utc

Row = dict[str, Any]


def comment_row(one: Comment) -> Row:
    """Return one comment."""
    return {
        "statement": one.statement,
        "seq": one.seq,
        "side": one.side,
        "by": one.by,
        "at": iso_utc(one.at_us),
        "text": one.text,
    }


def adjustment_row(one: Adjustment, events: Sequence[adjustments.Event]) -> Row:
    """Return one adjustment with its state and all that happened to it."""
    return {
        "id": one.id,
        "state": adjustments.state_of(events),
        "creator": one.creator,
        "amount_grains": one.grains,
        "amount": decimal_text(one.grains, one.currency),
        "currency": one.currency,
        "corrects": one.corrects,
        "account": one.account,
        "reason": one.reason,
        "proposed_by": one.proposed_by,
        "proposed": iso_utc(one.proposed_us),
        "events": [_event_row(event, event.reason) for event in events],
    }


def case_row(case: Case, events: Sequence[disputes.Event], now_us: int) -> Row:
    """Return one dispute with its state and all that happened to it, as `Disputes.case` shows it."""
    return {
        "id": case.id,
        "state": disputes.state_of(events),
        "overdue": disputes.is_overdue(case, events, now_us),
        "statement": case.statement,
        "period": case.period,
        "creator": case.creator,
        "lines": list(case.lines),
        "reason": case.basis,
        "hold": case.hold,
        "opened_by": case.opened_by,
        "opened": iso_utc(case.opened_us),
        "due": iso_utc(case.due_us),
        "currency": case.currency,
        "held_grains": case.held_grains,
        "held": decimal_text(case.held_grains, case.currency),
        "holds": msgspec.to_builtins(case.holds),
        "events": [
            _event_row(event, event.said) | {"side": event.side, "parts": msgspec.to_builtins(event.parts)}
            for event in events
        ],
    }


def _event_row(event: adjustments.Event | disputes.Event, said: str) -> Row:
    return {"kind": event.kind, "by": event.by, "at": iso_utc(event.at_us), "said": said}
