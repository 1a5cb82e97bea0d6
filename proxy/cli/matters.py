"""`comments`, `adjustments` and `disputes`: what people say about closed periods, and what comes of it.

A closed period never changes: what was wrong is put right by transfers of their own, which the next
statements tell with their reason. What takes from a creator needs two people; every command may be run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from proxy.cli.desk import Desk, command, every, main
from proxy.cli.payees import by_option
from proxy.cli.registry import open_catalogue
from proxy.clock import SystemClock
from proxy.errors import BadRequest

if TYPE_CHECKING:
    from proxy.billing.adjustments_store import Adjustments
    from proxy.billing.disputes import Part
    from proxy.billing.disputes_store import Disputes
    from proxy.billing.periods_store import Comments

HOLDS = ("none", "own", "all")
reason_option = click.option(
    "--reason", required=True, help="Why; kept for ever, and told to who is concerned."
)


@main.group()
def comments() -> None:
    """What creators say about their statements while a period is a draft, and your answers."""


@main.group()
def adjustments() -> None:
    """Corrections of what a closed period booked, told by the next statement."""


@main.group()
def disputes() -> None:
    """Lines of statements that somebody says are wrong: their money waits until that is settled."""


# -- comments ----------------------------------------------------------------------------------------------


def _comments(desk: Desk, by: str = "operator") -> Comments:
    from proxy.billing.periods_store import Comments as Store

    return Store(desk.engine, clock=SystemClock(), by=by)


@command(comments, "list")
def list_comments(desk: Desk) -> None:
    """List the statements on which a creator had the last word, the longest waiting first."""
    from proxy.billing.matter_rows import comment_row

    found = _comments(desk)
    waiting = every(lambda after: found.waiting(after=after), lambda one: (one.at_us, one.statement))
    rows = (comment_row(one) for one in waiting)
    desk.table(rows, ("statement", "at", "by", "text"), empty="no comment waits for an answer")


@command(comments, "show")
@click.argument("statement")
def show_comments(desk: Desk, statement: str) -> None:
    """Show what was said about a STATEMENT."""
    from proxy.billing.matter_rows import comment_row

    rows = (comment_row(one) for one in _comments(desk).of(statement))
    desk.table(rows, ("at", "side", "by", "text"), empty="nothing was said")


@command(comments, "answer")
@click.argument("statement")
@click.option("--text", required=True, help="What you answer; the creator reads it.")
@by_option
def answer_comment(desk: Desk, statement: str, text: str, by: str) -> None:
    """Answer what a creator said about a STATEMENT."""
    from proxy.billing.matter_rows import comment_row

    said, is_new = _comments(desk, by).say(statement, text)
    desk.say(comment_row(said) | {"new": is_new}, f"{statement}: {'answered' if is_new else 'said already'}")


# -- adjustments -------------------------------------------------------------------------------------------


def _adjustments(desk: Desk, by: str) -> Adjustments:
    from proxy.billing.adjustments_store import Adjustments as Store

    return Store(desk.engine, clock=SystemClock(), by=by)


@command(adjustments)
@click.option("--creator", required=True, help="Whose account it is about (id or ref).")
@click.option("--give", metavar="AMOUNT", help="What the creator gets, like 1.25.")
@click.option("--take", metavar="AMOUNT", help="What is taken from them; a second person approves.")
@click.option(
    "--corrects", required=True, help="A statement (stm_...), a line of it (stm_.../3), or a transfer."
)
@click.option("--other", required=True, help="The other side: common:PERIOD:REASON, app:APP or platform.")
@reason_option
@by_option
def propose(
    desk: Desk,
    creator: str,
    give: str | None,
    take: str | None,
    corrects: str,
    other: str,
    reason: str,
    by: str,
) -> None:
    """Correct what a closed period booked. What gives is booked at once; what takes waits for approval."""
    from proxy.billing.adjustments_store import adjustment
    from proxy.billing.matter_rows import adjustment_row
    from proxy.billing.money import parse

    if (give is None) == (take is None):
        raise click.UsageError("say --give or --take")
    currency = desk.settings.billing.currency
    try:
        grains = parse(give or take or "", currency)
    except (ValueError, OverflowError) as error:
        raise BadRequest(str(error), remedy="write it like 1.25", code="adjustment_amount") from error
    if grains <= 0:
        raise BadRequest(
            f"{give or take} is no amount", remedy="write it like 1.25", code="adjustment_amount"
        )
    one, state = _adjustments(desk, by).propose(
        corrects=corrects,
        creator=open_catalogue(desk).creator(creator).id,
        currency=currency,
        grains=grains if take is None else -grains,
        other=other,
        reason=reason,
    )
    then = f"\nanother person now: endcredits adjustments approve {one.id} --by NAME"
    said = f"{one.id} is {state}{then if state == 'proposed' else ''}"
    desk.say(adjustment_row(*adjustment(desk.engine, one.id)), said)


@command(adjustments, "approve")
@click.argument("adjustment")
@by_option
def approve_adjustment(desk: Desk, adjustment: str, by: str) -> None:
    """Book an ADJUSTMENT that takes from a creator and that somebody else proposed."""
    _, changed = _adjustments(desk, by).approve(adjustment)
    said = "is booked" if changed else "was booked already"
    desk.say({"id": adjustment, "state": "booked", "changed": changed}, f"{adjustment} {said}")


@command(adjustments, "reject")
@click.argument("adjustment")
@reason_option
@by_option
def reject_adjustment(desk: Desk, adjustment: str, reason: str, by: str) -> None:
    """Say that an ADJUSTMENT is not booked."""
    changed = _adjustments(desk, by).reject(adjustment, reason)
    said = "is rejected" if changed else "was rejected already"
    desk.say({"id": adjustment, "state": "rejected", "changed": changed}, f"{adjustment} {said}")


@command(adjustments, "list")
@click.option("--creator", default="", help="Only of this creator (id or ref).")
def list_adjustments(desk: Desk, creator: str) -> None:
    """List adjustments, newest first."""
    from proxy.billing.adjustments_store import listed
    from proxy.billing.matter_rows import adjustment_row

    who = open_catalogue(desk).creator(creator).id if creator else ""
    found = every(
        lambda before: listed(desk.engine, creator=who, before=before),
        lambda one: (one[0].proposed_us, one[0].id),
    )
    rows = (adjustment_row(*one) for one in found)
    columns = ("id", "state", "creator", "amount", "currency", "corrects", "reason")
    desk.table(rows, columns, empty="nothing was corrected")


# -- disputes ----------------------------------------------------------------------------------------------


def _disputes(desk: Desk, by: str = "operator") -> Disputes:
    from proxy.billing.disputes_store import Disputes as Store

    return Store(desk.engine, clock=SystemClock(), by=by)


def _case_row(desk: Desk, case_id: str) -> dict[str, Any]:
    from proxy.billing.matter_rows import case_row

    return case_row(*_disputes(desk).case(case_id), SystemClock().now_us())


@command(disputes, "open")
@click.argument("statement")
@click.option("--work", default="", help="Only the lines of this work (id or ref).")
@click.option("--line", "lines", type=int, multiple=True, help="Only this line, counted from 1 [all].")
@click.option(
    "--hold", type=click.Choice(HOLDS), default="own", show_default=True,
    help="Whose money waits: nobody's, this creator's, or everybody's whom the same use paid.",
)  # fmt: skip
@reason_option
@by_option
def open_dispute(
    desk: Desk, statement: str, work: str, lines: tuple[int, ...], hold: Any, reason: str, by: str
) -> None:
    """Dispute lines of a STATEMENT: what they paid, and is still owed, waits until that is settled."""
    case, is_new = _disputes(desk, by).open(
        statement,
        reason,
        work=open_catalogue(desk).find_work(work).id if work else "",
        lines=lines,
        hold=hold,
        answer_days=desk.settings.billing.answer_days,
    )
    row = _case_row(desk, case.id)
    held = (
        f"{row['held']} {row['currency']} of {len(case.holds)} creators held, to be answered by {row['due']}"
    )
    desk.say(row | {"new": is_new}, f"{case.id} {'is open' if is_new else 'was opened already'}: {held}")


@command(disputes, "answer")
@click.argument("case")
@click.option("--text", required=True, help="What the other side says; kept for ever.")
@by_option
def answer_dispute(desk: Desk, case: str, text: str, by: str) -> None:
    """Answer a CASE, once."""
    _, is_new = _disputes(desk, by).answer(case, text)
    desk.say(_case_row(desk, case), f"{case} is answered{'' if is_new else ' already'}")


@command(disputes, "withdraw")
@click.argument("case")
@reason_option
@by_option
def withdraw_dispute(desk: Desk, case: str, reason: str, by: str) -> None:
    """Take back a CASE that an operator opened; all that it holds is owed again."""
    _, changed = _disputes(desk, by).withdraw(case, reason)
    desk.say(_case_row(desk, case), f"{case} is withdrawn{'' if changed else ' already'}")


@command(disputes, "settle")
@click.argument("case")
@click.option(
    "--to", "parts", multiple=True, required=True, metavar="WHERE[:PPM]",
    help="holder, common or a creator (id or ref), with its part of what is held [all of it].",
)  # fmt: skip
@reason_option
@by_option
def settle_dispute(desk: Desk, case: str, parts: tuple[str, ...], reason: str, by: str) -> None:
    """Divide what a CASE holds, once. What takes from a creator needs an answer and a second person."""
    _, changed = _disputes(desk, by).settle(case, [_part(desk, text) for text in parts], reason)
    desk.say(_case_row(desk, case), f"{case} is settled{'' if changed else ' already'}")


def _part(desk: Desk, text: str) -> Part:
    from proxy.billing.disputes import COMMON, HOLDER, Part, parse_part

    part = parse_part(text)
    named = part.to if part.to in {COMMON, HOLDER} else open_catalogue(desk).creator(part.to).id
    return Part(to=named, ppm=part.ppm)


@command(disputes, "list")
@click.option("--open", "open_only", is_flag=True, help="Only those that are not settled or withdrawn.")
def list_disputes(desk: Desk, *, open_only: bool) -> None:
    """List disputes, newest first."""
    from proxy.billing.matter_rows import case_row

    now_us, known = SystemClock().now_us(), _disputes(desk)
    found = every(
        lambda before: known.cases(open_only=open_only, before=before),
        lambda one: (one[0].opened_us, one[0].id),
    )
    rows = (case_row(*one, now_us) for one in found)
    columns = ("id", "state", "overdue", "period", "creator", "held", "currency", "due", "reason")
    desk.table(rows, columns, empty="nothing is disputed")


@command(disputes, "show")
@click.argument("case")
def show_dispute(desk: Desk, case: str) -> None:
    """Show one CASE with everything that was said."""
    row = _case_row(desk, case)
    lines = [
        f"{case}: {row['state']}{', overdue' if row['overdue'] else ''}",
        f"  statement {row['statement']}, period {row['period']}, {len(row['lines'])} lines",
        f"  held      {row['held']} {row['currency']} of {len(row['holds'])} creators",
        *(f"  {event['at']} {event['kind']} by {event['by']}: {event['said']}" for event in row["events"]),
    ]
    desk.say(row, "\n".join(lines))
