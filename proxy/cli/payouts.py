"""`payouts`: from what creators are owed to a file for the bank, and the bank's answer back into the books.

Nothing here moves money: one person creates a batch, another approves it, `export` writes the file that a
person gives to the bank, and what the bank did is booked with `settle` and `return`. Each may be run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from proxy.cli.desk import Desk, command, every, main
from proxy.cli.payees import RAILS, by_option, open_paying
from proxy.errors import Problem

if TYPE_CHECKING:
    from proxy.billing.payees import Rail
    from proxy.billing.payouts import Batch, Event

SHOWN_MAX: Final = 1_000  # rows for eyes; --json has them all


@main.group()
def payouts() -> None:
    """Pay creators what they are owed, by files that you give to a bank; nothing is sent from here."""


@command(payouts)
@click.option(
    "--rail", "rails", type=click.Choice(RAILS), multiple=True, help="Only by this rail [all that can pay]."
)
@click.option("--dry-run", is_flag=True, help="Say who would be paid, and who not and why; keep nothing.")
@by_option
def create(desk: Desk, rails: tuple[str, ...], by: str, *, dry_run: bool) -> None:
    """Propose to pay everybody who can be paid today: a batch a rail, which another person approves."""
    from proxy.billing.payout_rows import batch_row, unpaid_rows
    from proxy.billing.payouts_store import batch as find

    ways = open_paying(desk)
    paid: set[str] = set()
    unpaid: dict[tuple[str, str], dict[str, Any]] = {}
    for rail in cast("tuple[Rail, ...]", rails) or _in_use(desk):
        batch, is_new = ways.propose(rail, by=by, dry_run=dry_run)
        paid |= {one.creator for one in batch.payments}
        for row in unpaid_rows(batch):
            key = (row["creator"], row["currency"])
            if key not in unpaid or unpaid[key]["reason"] == "other_rail":
                unpaid[key] = row
        if batch.payments:
            events = [] if dry_run else find(desk.engine, batch.id)[1]
            row = batch_row(batch, events) | {"new": is_new, "dry_run": dry_run}
            desk.say(row, _created(row))
    left = [row for row in unpaid.values() if not (row["reason"] == "other_rail" and row["creator"] in paid)]
    if left:
        desk.note(f"{len(left)} are owed something and not paid:")
        for reason in sorted({row["why"] for row in left}):
            desk.note(f"  {sum(row['why'] == reason for row in left)}: {reason}")
    if not paid:
        desk.note("nobody is paid")


def _in_use(desk: Desk) -> tuple[Rail, ...]:
    ways = open_paying(desk)
    used = {account.rail for account in ways.payees("operator").newest()}
    return tuple(rail for rail in ways.rails() if rail in used) or ("manual",)


def _created(row: dict[str, Any]) -> str:
    amount = f"{row['payments']} payments, {row['net']} {row['currency']} by {row['rail']}"
    kept = f", {row['withheld']} withheld" if row["withheld_minor"] else ""
    if row["dry_run"]:
        return f"would pay {amount}{kept}; nothing is kept"
    state = "created" if row["new"] else f"is {row['state']} already"
    then = f"\nanother person now: endcredits payouts approve {row['id']} --by NAME"
    return f"{row['id']} {state}: {amount}{kept}{then if row['state'] == 'created' else ''}"


@command(payouts)
@click.argument("batch")
@by_option
def approve(desk: Desk, batch: str, by: str) -> None:
    """Approve a BATCH that somebody else created: its payments leave what creators are owed."""
    found, changed = open_paying(desk).payouts(by).approve(batch)
    said = (
        f"is approved: {len(found.payments)} payments; now: endcredits payouts export {batch} --out FILE"
        if changed
        else "was approved already"
    )
    desk.say({"id": batch, "state": "approved", "changed": changed}, f"{batch} {said}")


@command(payouts)
@click.argument("batch")
@click.option("--reason", required=True, help="Why; kept with it.")
@by_option
def cancel(desk: Desk, batch: str, reason: str, by: str) -> None:
    """Take back a BATCH of which no file was written; all of it is owed to its creators again."""
    changed = open_paying(desk).payouts(by).cancel(batch, reason)
    said = "is cancelled" if changed else "was cancelled already"
    desk.say({"id": batch, "state": "cancelled", "changed": changed}, f"{batch} {said}")


@command(payouts)
@click.argument("batch")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The file to write; else standard output."
)
@by_option
def export(desk: Desk, batch: str, out: Path | None, by: str) -> None:
    """Write an approved BATCH as the file for a bank or Stripe; again, the same bytes.

    It holds account numbers in plain text: it is written for its owner's eyes only (0600); remove it when the
    bank has it.
    """
    found, content = open_paying(desk).export(batch, by=by)
    answer = {
        "id": found.id,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "payments": len(found.payments),
    }
    if out is None:
        if desk.as_json:
            desk.say(answer | {"content": content.decode()}, "")
        else:
            click.echo(content, nl=False)
        return
    _write_private(out, content)
    desk.say(answer | {"file": str(out)}, f"{out}: {len(found.payments)} payments, sha256 {answer['sha256']}")


def _write_private(target: Path, content: bytes) -> None:
    """Write the whole file or nothing, for its owner only."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # made 0600
    except OSError as error:
        raise _unwritten(target, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise _unwritten(target, error) from error


def _unwritten(target: Path, error: OSError) -> Problem:
    return Problem(
        f"{target}: cannot be written ({error.strerror})",
        remedy="pass another --out and export again: it is the same file",
        code="out",
    )


@command(payouts)
@click.argument("batch")
@click.option("--payment", "wanted", multiple=True, help="Only this payment [all that are on their way].")
@click.option(
    "--answers",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The bank's report (pain.002), or a table: payment, answer (paid or returned), detail.",
)
@click.option("--ref", default="", help="The bank's own reference; kept with each.")
@by_option
def settle(desk: Desk, batch: str, wanted: tuple[str, ...], answers: Path | None, ref: str, by: str) -> None:
    """Book what the bank did with a BATCH: all that is on its way is paid, or what --answers says.

    Without --answers, book what the bank refused first: `payouts return`.
    """
    if answers is not None and wanted:
        raise click.UsageError("--answers names the payments: leave --payment out")
    acts, waiting = open_paying(desk).payouts(by), 0
    if answers is None:
        paid, back = acts.settle(batch, wanted, ref=ref), []
    else:
        from proxy.billing import payout_answers, payouts_store

        found = payout_answers.read(_bounded(answers, payout_answers.ANSWERS_BYTES_MAX))
        done, returned = found.of(*payouts_store.batch(desk.engine, batch))
        paid, back = acts.answer(batch, paid=done, returned=returned, ref=ref)
        waiting = found.waiting
    answer = {"id": batch, "settled": [one.id for one in paid], "returned": [one.id for one in back]}
    said = f"{len(paid)} payments of {batch} are settled, {len(back)} returned"
    said += f"; of {waiting} the bank has not decided" if waiting else ""
    desk.say(answer | {"waiting": waiting}, said if paid or back or waiting else "nothing new: it is booked")


def _bounded(file: Path, bytes_max: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(bytes_max + 1)
    except OSError as error:
        raise Problem(f"{file}: cannot be read ({error.strerror})", code="answers") from error


@command(payouts, "return")
@click.argument("payment")
@click.option("--reason", default="", help="What the bank said; the creator reads it.")
@click.option("--code", default="", help="The bank's code, like AC04; told in words where they are known.")
@click.option("--amount", default="", help="What came back; refused where the payment was another.")
@by_option
def give_back(desk: Desk, payment: str, reason: str, code: str, amount: str, by: str) -> None:
    """Book that a PAYMENT was refused or came back: its creator is owed all of it again, the tax too."""
    changed = open_paying(desk).give_back(payment, by=by, reason=reason, code=code, amount=amount)
    said = "is returned: the next batch can pay it" if changed else "was returned already"
    desk.say({"payment": payment, "state": "returned", "changed": changed}, f"{payment} {said}")


@command(payouts, "list")
def list_batches(desk: Desk) -> None:
    """List batches, newest first."""
    from proxy.billing.payout_rows import batch_row
    from proxy.billing.payouts_store import batches

    found = every(
        lambda before: batches(desk.engine, before=before), lambda one: (one[0].created_us, one[0].id)
    )
    rows = (batch_row(batch, events) for batch, events in found)
    columns = ("id", "state", "rail", "payments", "net", "currency", "created_by", "approved_by", "created")
    desk.table(rows, columns, empty="no batches; `endcredits payouts create` proposes one")


@command(payouts)
@click.argument("batch")
def show(desk: Desk, batch: str) -> None:
    """Show a BATCH: its payments, who is not paid and why, and everything that happened to it."""
    from proxy.billing.payout_rows import batch_row, event_rows, payment_rows, unpaid_rows
    from proxy.billing.payouts_store import batch as find

    found, events = find(desk.engine, batch)
    row = batch_row(found, events)
    lists = {
        "payment_rows": payment_rows(found, events, open_paying(desk).accounts(found)),
        "unpaid_rows": unpaid_rows(found),
        "events": event_rows(events),
    }
    if desk.as_json:
        desk.say(row | lists, "")
        return
    click.echo(_head(row, found, events))
    columns = ("payment", "creator", "state", "gross", "withheld", "net", "account", "account_entered_by")
    desk.table(lists["payment_rows"][:SHOWN_MAX], columns, empty="")
    desk.table(lists["unpaid_rows"][:SHOWN_MAX], ("creator", "owed", "currency", "why"), empty="")
    desk.table(lists["events"][:SHOWN_MAX], ("at", "what", "by", "payment", "detail"), empty="")


def _head(row: dict[str, Any], batch: Batch, events: list[Event]) -> str:
    states = ", ".join(f"{count} {state}" for state, count in row["payment_states"].items())
    return (
        f"{batch.id} is {row['state']}: {row['net']} {row['currency']} by {row['rail']} ({states}), "
        f"{len(batch.unpaid)} not paid, {len(events)} events"
    )
