"""What people may ask for: another name in credits, what is held of them, and to be forgotten.

`creators name|export|erase`, `works erase`, `users export|erase` for end users of apps, and `secrets`, which
open receipts. Erasing says what it will do and asks, unless told --yes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from proxy.cli.desk import Desk, command, main
from proxy.cli.registry import build_index, creators, open_catalogue, works
from proxy.clock import SystemClock, iso_utc
from proxy.errors import BadRequest

yes_option = click.option("--yes", is_flag=True, help="Do it without asking.")
by_option = click.option("--by", default="operator", show_default=True, help="Who does it.")


@main.group()
def users() -> None:
    """End users of apps, as far as anything is held of them."""


@command(creators, "name")
@click.argument("creator")
@click.option("--as", "shown", required=True, help='The name or pseudonym; "" for their own name again.')
def name_creator(desk: Desk, creator: str, shown: str) -> None:
    """Credit CREATOR by another name from now on; it is in replies within a second."""
    from proxy.catalogue.erasing_store import show_as

    person = open_catalogue(desk).creator(creator)
    name = show_as(desk.engine, person.id, shown, clock=SystemClock())
    desk.say({"creator": person.id, "shown": name}, f"{person.id} is credited as {name}")


@command(creators, "export")
@click.argument("creator")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A .json or .zip file."
)
def export_creator(desk: Desk, creator: str, out: Path) -> None:
    """Write everything that is held on CREATOR into a file, accounts and tax numbers in plain."""
    from proxy.billing.held import document
    from proxy.billing.held_store import held_of
    from proxy.billing.paying import KEY_FILE
    from proxy.keyfile import secret_file

    person = open_catalogue(desk).creator(creator)
    key_file = desk.settings.data_dir / KEY_FILE
    held = held_of(desk.engine, person.id, key=lambda: secret_file(key_file))
    _write_private(out, document(held, zipped=out.suffix == ".zip"))
    tables = {name: len(rows) for name, rows in held.tables.items() if rows}
    said = f"{out}: {sum(tables.values())} rows of {len(tables)} tables, {len(held.texts)} texts"
    desk.say({"creator": person.id, "file": str(out), "rows": tables}, said)


@command(creators, "erase")
@click.argument("creator")
@click.option(
    "--no-index", is_flag=True, help="Leave the index as it is; its texts stay until the next build."
)
@yes_option
@by_option
def erase_creator_command(desk: Desk, creator: str, by: str, *, no_index: bool, yes: bool) -> None:
    """Erase CREATOR: names, accounts, words and texts. What is owed stays owed; no amount changes."""
    from proxy.billing.erasing_store import erase_creator

    person = open_catalogue(desk).creator(creator)
    _agreed(f"Erase {person.name} ({person.id}) and the works that are theirs alone, for ever?", yes=yes)
    done = erase_creator(desk.engine, person.id, clock=SystemClock(), by=by)
    if done.works and not no_index:
        build_index(desk, keep_old=False)
    row: dict[str, Any] = {"creator": done.creator, "changed": done.changed, "works": list(done.works)}
    row |= {"kept": list(done.kept), "owed": done.owed}
    lines = [f"{done.creator} {'is erased' if done.changed else 'was erased before'}"]
    lines += [f"  text      of {work} is erased" for work in done.works]
    lines += [
        f"  kept      {work}, in which others have a part: `works erase` erases it" for work in done.kept
    ]
    lines += [f"  owed      {grains} grains {currency} stay theirs" for currency, grains in done.owed.items()]
    desk.say(row, "\n".join(lines))


@command(works, "erase")
@click.argument("work")
@click.option(
    "--no-index", is_flag=True, help="Leave the index as it is; the text stays until the next build."
)
@yes_option
@by_option
def erase_work_command(desk: Desk, work: str, by: str, *, no_index: bool, yes: bool) -> None:
    """Erase WORK's text: it leaves the index and is credited to nobody. What it earned stays earned."""
    from proxy.billing.erasing_store import scrub
    from proxy.catalogue.erasing_store import erase_work

    entry = open_catalogue(desk).find_work(work)
    _agreed(f"Erase the text of {entry.title} ({entry.id}) for ever?", yes=yes)
    changed = erase_work(desk.engine, entry.id, clock=SystemClock(), by=by)
    scrub(desk.engine)
    if changed and not no_index:
        build_index(desk, keep_old=False)
    said = f"{entry.id} {'is erased' if changed else 'was erased before'}"
    desk.say({"work": entry.id, "erased": True, "changed": changed}, said)


@command(users, "export")
@click.argument("subject")
@click.option("--app", required=True, help="The app (id or name) whose user it is.")
def export_user(desk: Desk, subject: str, app: str) -> None:
    """List what is held of an end user. SUBJECT: what the app sends as x-attribution-subject; - reads it."""
    from proxy.access.subjects import SubjectKeys
    from proxy.billing.subjects_store import answers_of, app_named

    app_id, said = app_named(desk.engine, app), _subject(subject)
    found = answers_of(desk.engine, SubjectKeys(desk.settings.data_dir), app_id, said)
    rows = (
        {
            "id": one.id, "occurred": iso_utc(one.occurred_us), "model": one.model, "endpoint": one.endpoint,
            "outcome": one.outcome, "input_tokens": one.input_tokens, "output_tokens": one.output_tokens,
            "images": one.images, "milliseconds": one.milliseconds,
        }
        for one in found
    )  # fmt: skip
    columns = ("id", "occurred", "model", "endpoint", "outcome", "input_tokens", "output_tokens")
    desk.table(rows, columns, empty="nothing that could still be found")


@command(users, "erase")
@click.argument("subject")
@click.option("--app", required=True, help="The app (id or name) whose user it is.")
@yes_option
@by_option
def erase_user(desk: Desk, subject: str, app: str, by: str, *, yes: bool) -> None:
    """Make the answers of an end user nobody's: SUBJECT is what the app sends (- reads it)."""
    from proxy.access.subjects import SubjectKeys
    from proxy.billing.erasing_store import scrub
    from proxy.billing.subjects_store import app_named, erase_subject
    from proxy.metering.audited import AuditedExchanges

    app_id, said = app_named(desk.engine, app), _subject(subject)
    _agreed(f"Forget whose answers this user of {app} got, for ever?", yes=yes)
    settings = desk.settings
    ids = erase_subject(desk.engine, SubjectKeys(settings.data_dir), app_id, said, clock=SystemClock(), by=by)
    scrub(desk.engine)
    rules = settings.audit
    kept = AuditedExchanges(settings.data_dir, exchanges_max=rules.exchanges_max, days=rules.days)
    texts = sum(kept.erase(app_id, one) for one in ids)
    answer = {"app": app_id, "answers": len(ids), "exchanges": texts}
    desk.say(answer, f"{len(ids)} answers are nobody's in particular now; {texts} kept exchanges are erased")


@main.group()
def secrets() -> None:
    """What opens receipts, month by month, until you destroy it."""


@command(secrets, "list")
def list_secrets(desk: Desk) -> None:
    """List the months whose receipts can still be opened."""
    rows = ({"month": path.stem} for path in _months(desk))
    desk.table(rows, ("month",), empty="no month's secret is kept")


@command(secrets)
@click.option("--before", required=True, metavar="YYYY-MM", help="The first month that is kept.")
@yes_option
def destroy(desk: Desk, before: str, *, yes: bool) -> None:
    """Destroy what opens receipts of the months before: no line and no output of theirs can be shown then."""
    import os

    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", before, re.ASCII):
        raise BadRequest(f"'{before[:20]}' is not a month", remedy="write it like 2026-01")
    if before > iso_utc(SystemClock().now_us())[:7]:
        raise BadRequest("this month's receipts are being made", remedy="name it, or a month before it")
    gone = [path for path in _months(desk) if path.stem < before]
    _agreed(f"Destroy what opens receipts of {len(gone)} months, for ever?", yes=yes or not gone)
    for path in gone:
        path.unlink(missing_ok=True)
    if gone:
        descriptor = os.open(gone[0].parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    months = [path.stem for path in gone]
    desk.say({"destroyed": months}, f"{len(months)} destroyed: {', '.join(months)}" if months else "nothing")


def _months(desk: Desk) -> list[Path]:
    from proxy.receipts.issuing import SECRETS_DIR

    folder = desk.settings.data_dir / SECRETS_DIR
    return sorted(path for path in folder.glob("*.key") if re.fullmatch(r"[0-9]{4}-[0-9]{2}", path.stem))


def _subject(said: str) -> str:
    return sys.stdin.readline().rstrip("\r\n") if said == "-" else said


def _agreed(question: str, *, yes: bool) -> None:
    """Ask, where somebody can answer. Raises BadRequest where nobody can, or the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty() or not click.confirm(question, err=True):
        raise BadRequest("nothing was erased", remedy="say --yes when you are sure", code="not_agreed")


def _write_private(path: Path, content: bytes) -> None:
    import os

    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
