"""`verify`, `signing`, and the files that show a period: what is checked offline, and who signed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.desk import Desk, command, main
from proxy.cli.money import periods, statements
from proxy.cli.registry import open_catalogue, works
from proxy.clock import SystemClock, iso_utc
from proxy.errors import BadRequest

if TYPE_CHECKING:
    from proxy.billing.proving import Prover
    from proxy.receipts.issuing import Issuer
    from proxy.receipts.verify import Keys

KEYS_BYTES_MAX = 1_048_576  # a hundred keys
FILE_BYTES_MAX = 536_870_912  # a receipt is some kB; a signed statement of a million lines 500 MB
DAY_US = 86_400_000_000


KEYS = click.option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The operator's /.well-known/endcredits.json, saved (default: the keys in this data folder).",
)
OUT = click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A file [standard output].")


@command(main)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@KEYS
@click.option(
    "--after",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The signed statement, charge or manifest of the period before: nothing lies between the two.",
)
def verify(desk: Desk, file: Path, keys: Path | None, after: Path | None) -> int:
    """Check offline what was signed: that it is whole, adds up, and stands in the log.

    FILE: a receipt as a reply carries it, the JSON of /api/receipts/{id}/proof, a signed statement or charge,
    a period's manifest, or a change of the registry. Nothing is fetched. `python verify.py FILE KEYS` does it
    with nothing but that file and `cryptography`.
    """
    from proxy.catalogue.reading import read_bounded
    from proxy.receipts.verify import Invalid, check_file, check_files_in_row

    raw = read_bounded(file, FILE_BYTES_MAX)
    try:
        known = known_keys(desk, keys)
        proven = check_file(raw, known)
        if after is not None:
            proven += check_files_in_row(read_bounded(after, FILE_BYTES_MAX), raw, known)
    except Invalid as error:
        desk.say({"file": str(file), "holds": False, "why": str(error)}, f"does not hold: {error}")
        return 1
    desk.say({"file": str(file), "holds": True, "proven": proven}, "\n".join(proven))
    return 0


@command(periods)
@click.argument("label")
@OUT
def manifest(desk: Desk, label: str, out: Path | None) -> None:
    """Write a closed period's signed manifest with its place in the log."""
    _write(out, _prover(desk).manifest_file(label))


@command(periods)
@click.argument("label")
@click.option("--app", required=True, help="Whose charge.")
@OUT
def charge(desk: Desk, label: str, app: str, out: Path | None) -> None:
    """Write what an app was charged in a closed period, as one file that it checks offline."""
    from proxy.portal.proven import charged

    _write(out, charged(desk.engine, _prover(desk), label, app))


@command(statements)
@click.argument("statement_id")
@OUT
def uses(desk: Desk, statement_id: str, out: Path | None) -> None:
    """Write the receipts of all answers that a statement counts, with its creator's lines of them opened.

    `recompute` checks with them that the statement counts what was given, no less and no more.
    """
    from proxy.billing.store import statement

    rows = _prover(desk).uses_file(statement(desk.engine, statement_id))
    with (
        desk.progress("uses") as told,
        click.open_file(str(out or "-"), "wb", atomic=out is not None) as file,
    ):
        for number, row in enumerate(rows):
            file.write(row)
            told(number, number)


@command(main)
@click.argument("statement", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--uses", "rows", type=click.Path(path_type=Path, dir_okay=False, exists=True), required=True)
@KEYS
@click.option(
    "--after",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A signed file of the period before: none of its answers is counted here.",
)
def recompute(desk: Desk, statement: Path, rows: Path, keys: Path | None, after: Path | None) -> int:
    """Count a signed statement anew, offline, from the receipts of the answers behind it.

    STATEMENT: as `statements signed` or /api/statements/{id}/signed wrote it; --uses: the receipts, as
    `statements uses` or /api/statements/{id}/uses wrote them.
    """
    from proxy.catalogue.reading import read_bounded
    from proxy.receipts.verify import Invalid, check_file, check_uses

    raw = read_bounded(statement, FILE_BYTES_MAX)
    try:
        known = known_keys(desk, keys)
        with rows.open("rb") as file:
            older = read_bounded(after, FILE_BYTES_MAX) if after else b""
            proven = check_file(raw, known) + check_uses(file, raw, known, older)
    except Invalid as error:
        desk.say({"file": str(statement), "holds": False, "why": str(error)}, f"does not hold: {error}")
        return 1
    desk.say({"file": str(statement), "holds": True, "proven": proven}, "\n".join(proven))
    return 0


@command(statements)
@click.argument("statement_id")
@OUT
def signed(desk: Desk, statement_id: str, out: Path | None) -> None:
    """Write a statement with all that shows it, as one file that its creator checks offline."""
    from proxy.billing.store import statement

    _write(out, _prover(desk).statement_file(statement(desk.engine, statement_id)))


@command(works)
@click.argument("work")
def changes(desk: Desk, work: str) -> None:
    """List the changes of the registry that are of a WORK (id or ref), by the numbers that receipts quote."""
    from proxy.receipts import history_store

    found = history_store.changes_of(desk.engine, open_catalogue(desk).find_work(work).id)
    upto = history_store.logged_upto(desk.engine)
    for one in found:
        said = {"seq": one.seq, "kind": one.kind, "at_us": one.at_us, "logged": one.seq <= upto}
        desk.say(
            said,
            f"{one.seq:>8}  {iso_utc(one.at_us)}  {one.kind}{'' if said['logged'] else '  (not logged yet)'}",
        )


@command(works)
@click.argument("change", type=click.IntRange(min=1))
@OUT
def proof(desk: Desk, change: int, out: Path | None) -> None:
    """Write a CHANGE of the registry with its place in the log, as one file that is checked offline.

    CHANGE: its number, as `works changes` lists them. Where no server runs, it is put into the log first.
    """
    prover = _prover(desk)
    prover.log()
    _write(out, prover.change_file(change))


def _prover(desk: Desk) -> Prover:
    from proxy.billing.proving import Prover

    return Prover(desk.engine, issuer_of(desk))


def _write(out: Path | None, content: bytes) -> None:
    from proxy.cli.exporting import write

    if out is None:
        click.echo(content, nl=False)
    else:
        write(out, content)


@main.group()
def signing() -> None:
    """The keys that sign receipts and the log's checkpoints."""


@command(signing, "list")
def list_keys(desk: Desk) -> None:
    """List the public keys, and from when to when each signs."""
    for key in _own_keys(desk)["keys"]:
        until = iso_utc(key["until_us"]) if key["until_us"] else "open"
        desk.say(key, f"{key['kid']}  from {iso_utc(key['from_us'])} until {until}  {key['verifier']}")


@command(signing)
@click.option(
    "--overlap-days",
    type=click.IntRange(0, 3_650),
    default=30,
    show_default=True,
    help="How long the older keys go on signing checkpoints, for those who know only them.",
)
def rotate(desk: Desk, overlap_days: int) -> None:
    """Sign with a new key from now on. What older keys signed stays valid; running servers follow at once."""
    from proxy.receipts.issuing import KEYS_DIR
    from proxy.receipts.signing import rotate as rotated

    new = rotated(desk.settings.data_dir / KEYS_DIR, SystemClock().now_us(), overlap_days * DAY_US)
    desk.say({"kid": new.kid, "from_us": new.from_us}, f"{new.kid} signs from now on")


def _own_keys(desk: Desk) -> dict[str, Any]:
    from proxy.receipts.issuing import KEYS_DIR
    from proxy.receipts.signing import read_keys

    data_dir = desk.settings.data_dir
    if not read_keys(data_dir / KEYS_DIR):
        raise BadRequest(
            f"there are no signing keys in {data_dir}",
            remedy="pass --keys with the operator's /.well-known/endcredits.json, saved",
            code="no_signing_keys",
        )
    return issuer_of(desk).about()


def known_keys(desk: Desk, saved: Path | None) -> Keys:
    """Return the operator's public keys as they were saved, or those of this data folder. Raises Invalid."""
    from proxy.catalogue.reading import read_bounded
    from proxy.receipts.verify import Keys, canonical

    return Keys.parse(read_bounded(saved, KEYS_BYTES_MAX) if saved else canonical(_own_keys(desk)))


def issuer_of(desk: Desk) -> Issuer:
    """Return who signs with the keys in this data folder, which are made where there are none."""
    from proxy.receipts.issuing import Issuer

    return Issuer(desk.settings.data_dir, desk.settings.receipts.origin, SystemClock())
