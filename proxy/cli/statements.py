"""`statements export`: one document, or a folder of a whole period's.

A folder is written one file at a time, each complete under its name or not there at all, so that an export
that was interrupted goes on where it stopped when it is asked for again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.desk import Desk, command
from proxy.cli.money import creator_id, statements
from proxy.clock import SystemClock
from proxy.errors import BadRequest, NotFound, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.billing.statements import Statement

FORMATS = ("json", "csv", "tsv", "distributor", "html", "pdf")


@command(statements)
@click.option("--period", default="", help="Only of this period [all].")
@click.option("--creator", help="Only of this creator (id or ref) [all].")
@click.option("--format", "form", type=click.Choice(FORMATS), default="json", show_default=True)
@click.option("--locale", default="", metavar="TAG", help="Numbers, money and dates of html and pdf: de-DE.")
@click.option("--fonts", type=click.Path(exists=True, file_okay=False), help="A folder of fonts for pdf.")
@click.option("--again", is_flag=True, help="Write files that a folder has already, too.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A file for one statement, or a folder; else standard output.",
)
def export(
    desk: Desk,
    period: str,
    creator: str | None,
    form: str,
    locale: str,
    fonts: str | None,
    out: Path | None,
    *,
    again: bool,
) -> None:
    """Write statements as documents: one file each in a folder, or a single one to a file.

    A folder that holds some of them already gets the others: an export that stopped goes on.
    """
    from proxy.billing import documents, export_store, periods_store
    from proxy.billing.periods import state_at

    asked = {"label": period, "creator": creator_id(desk, creator)}
    count = export_store.count(desk.engine, **asked)
    if not count:
        raise NotFound("no statement matches", remedy="`endcredits statements list` shows what there is")
    folder = out is not None and (out.is_dir() or not out.suffix)
    if count > 1 and not folder:
        raise BadRequest(
            f"{count} statements match",
            remedy="give --out a folder, or narrow it with --period and --creator",
            code="several_statements",
        )
    until_us, now_us = periods_store.windows(desk.engine), SystemClock().now_us()
    documents.dressed(form, locale)  # what it refuses is refused before anything is written

    def rendered(statement: Statement) -> bytes:
        until = until_us.get(statement.period, 0)
        state = state_at(until, now_us)
        dress = documents.dressed(form, locale, state=state, until_us=until, fonts=fonts or "")
        return documents.render(statement, form, dress)

    with desk.progress("statements") as told:
        for number, statement in enumerate(export_store.each(desk.engine, **asked), 1):
            if out is None:
                click.echo(rendered(statement), nl=False)
                return
            target = out / documents.file_name(statement, form) if folder else out
            if again or not folder or not target.exists():
                write(target, lambda statement=statement: rendered(statement))
            if folder or desk.as_json:
                desk.say({"id": statement.id, "creator": statement.creator, "file": str(target)}, str(target))
            told(number, count)


def write(target: Path, content: Callable[[], bytes]) -> None:
    """Write a file whole, under its name only when it is. Raises Problem where it cannot be written."""
    part = target.with_name(f"{target.name}.part")
    made = content()
    try:
        try:
            part.write_bytes(made)
        except FileNotFoundError:  # the first of a folder, and not asked for each of a hundred thousand
            target.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(made)
        part.replace(target)
    except OSError as error:
        raise Problem(
            f"{target}: cannot be written ({error.strerror})", remedy="pass another --out", code="out"
        ) from error
