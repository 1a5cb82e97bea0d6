"""`store`: how much the store holds, and letting go of answers whose periods are long over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from proxy.cli.desk import Desk, command, main
from proxy.clock import SystemClock, iso_utc
from proxy.errors import Problem

if TYPE_CHECKING:
    from proxy.billing.retention_store import Left

KIB: Final = 1_024
# What grows in the data folder beside the store, and what it is.
FOLDERS: Final = ("journal", "pending", "audit", "index", "archive")


@main.group()
def store() -> None:
    """How much the store holds, and what may leave it."""


@command(store)
def info(desk: Desk) -> None:
    """Show what each table takes, with its indexes, and what lies beside the store in the data folder."""
    from proxy.database import free_bytes, table_sizes

    sizes = table_sizes(desk.engine)
    data_dir = desk.settings.data_dir
    beside = {name: _folder_bytes(data_dir / name) for name in FOLDERS}
    if desk.as_json:
        for one in sizes:
            size = one.size_bytes if one.size_bytes >= 0 else None
            desk.say({"table": one.name, "rows": one.rows, "bytes": size}, "")
        desk.say({"folders": beside, "free_bytes": free_bytes(desk.engine)}, "")
        return
    shown = [
        {"table": one.name, "rows": f"{one.rows:,}", "size": _size(one.size_bytes)}
        for one in sizes
        if one.rows
    ]
    desk.table(shown, ("table", "rows", "size"), empty="the store holds no row yet")
    click.echo("")
    for name, size in beside.items():
        click.echo(f"{name + '/':<12} {_size(size)}")
    if unused := free_bytes(desk.engine):
        click.echo(f"{'unused':<12} {_size(unused)} of the store's file, to be used again")


@command(store)
@click.option("--dry-run", is_flag=True, help="Say what would leave and what stays, and change nothing.")
@click.option("--by", default="operator", show_default=True, help="Who asks for it; it is written down.")
def retain(desk: Desk, *, dry_run: bool, by: str) -> None:
    """Let go of answers whose period has been final for [retention] usage_days; their sums stay.

    Statements, transfers and the public log stay as they are. A server does the same once a day.
    """
    from proxy.billing import retention_store
    from proxy.receipts.issuing import Issuer

    settings, clock = desk.settings, SystemClock()
    issuer = Issuer(settings.data_dir, settings.receipts.origin, clock)
    if not dry_run:
        from proxy.receipts.appending import drain

        drain(desk.engine, issuer.secrets_of)  # what the log does not hold does not leave
        left = retention_store.retain(
            desk.engine,
            settings.retention,
            settings.data_dir,
            seal=lambda digest: issuer.signer.jws(digest, retention_store.SEAL_TYPE),
            by=by,
            now_us=clock.now_us(),
        )
        try:
            for one in left:
                desk.say(_left_row(one), _left_text(one))
        except OSError as error:
            raise Problem(
                f"{settings.data_dir / retention_store.FOLDER}: an archive cannot be written "
                f"({error.strerror or error})",
                remedy="free space on its disk; what is not archived stays in the store",
                code="archive_unwritable",
            ) from error
    rows = [
        {
            "period": one.period,
            "state": one.state,
            "answers": one.answers,
            "due": iso_utc(one.due_us)[:10] if one.due_us else "",
            "why": one.why,
        }
        for one in retention_store.standings(desk.engine, settings.retention, clock.now_us())
    ]
    desk.table(rows, ("period", "state", "answers", "due", "why"), empty="no period is closed yet")


def _left_row(left: Left) -> dict[str, object]:
    return {
        "left": left.standing.period,
        "answers": left.deleted,
        "archive": left.archive,
        "sha256": left.digest.sha256,
        "longest_us": left.longest_us,
    }


def _left_text(left: Left) -> str:
    where = f"archive/{left.archive}" if left.archive else "no archive was wanted"
    head = f"{left.standing.period}: {left.deleted:,} answers left the store ({where})"
    return f"{head}; sha256 {left.digest.sha256}"


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # a server is at work here
            continue
    return total


def _size(size: int) -> str:
    if size < 0:
        return "?"
    amount, units = size, ["GiB", "MiB", "KiB", "B"]
    while amount >= 10 * KIB and len(units) > 1:
        amount //= KIB
        units.pop()
    return f"{amount:,} {units[-1]}"
