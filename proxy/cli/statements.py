"""`statements export`: one document, or a folder of a whole period's.

A folder is written one file at a time, each complete under its name or not there at all, so that an export
that was interrupted goes on where it stopped when it is asked for again.
"""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli.desk import Desk, command
from proxy.cli.money import creator_id, statements
from proxy.clock import SystemClock
from proxy.errors import BadRequest, NotFound

FORMATS = ("json", "csv", "tsv", "distributor", "html", "pdf")


@command(statements)
@click.option("--period", default="", help="Only of this period [all].")
@click.option("--creator", help="Only of this creator (id or ref) [all].")
@click.option(
    "--format", "forms", type=click.Choice(FORMATS), multiple=True, help="May be given several times [json]."
)
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
    forms: tuple[str, ...],
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
    from proxy.cli import exporting

    ids = export_store.ids_of(desk.engine, label=period, creator=creator_id(desk, creator))
    if not ids:
        raise NotFound("no statement matches", remedy="`endcredits statements list` shows what there is")
    folder = out if out is not None and (out.is_dir() or not out.suffix) else None
    forms = tuple(dict.fromkeys(forms)) or ("json",)
    if len(ids) * len(forms) > 1 and folder is None:
        raise BadRequest(
            f"{len(ids)} statements match" if len(ids) > 1 else f"{len(forms)} formats are asked for",
            remedy="give --out a folder, or narrow it with --period, --creator and one --format",
            code="several_statements",
        )
    for form in forms:
        documents.dressed(form, locale)  # what it refuses is refused before anything is written
    export = exporting.Export(
        store_url=desk.settings.store_url,
        folder=folder,
        forms=forms,
        locale=locale,
        fonts=fonts or "",
        again=again,
        until_us=periods_store.windows(desk.engine),
        now_us=SystemClock().now_us(),
    )
    if folder is None:
        (statement,) = export_store.some(desk.engine, ids)
        (content,) = export.documents(statement, forms)
        if out is None:
            click.echo(content, nl=False)
            return
        exporting.write(out, content)
        if desk.as_json:
            desk.say({"id": statement.id, "creator": statement.creator, "file": str(out)}, "")
        return
    with desk.progress("statements") as told:
        for number, made in enumerate(exporting.written(export, desk.engine, ids), 1):
            for file in made.files:
                desk.say({"id": made.statement, "creator": made.creator, "file": str(file)}, str(file))
            told(number, len(ids))
