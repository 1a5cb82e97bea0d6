"""`audit`: every invariant of the books on the store as it is, one line each, and what breaks it.

It reads one moment of a live store and changes nothing. Exit 1 says that something is broken.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.desk import Desk, command, main
from proxy.cli.money import load_prices, periods
from proxy.cli.proofs import KEYS, issuer_of, known_keys

if TYPE_CHECKING:
    from proxy.billing.invariants import Checked


@command(main)
@click.argument("bundle", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@KEYS
def audit(desk: Desk, bundle: Path | None, keys: Path | None) -> int:
    """Check every invariant of the books on a live store: ok, or the rows that break it.

    With BUNDLE, a file of `periods bundle`: recompute that period offline from its receipts, and price each
    again, as somebody does who has nothing but the operator's public keys.
    """
    if bundle is not None:
        return _of_bundle(desk, bundle, keys)
    from proxy.billing.audit_store import audit as audited

    engine = desk.engine
    with desk.progress("periods") as progress:
        found = audited(engine, progress=progress)
    for one in found:
        desk.say(one, _line(one))
    return int(any(one.state == "broken" for one in found))


@command(periods)
@click.argument("label")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A zip file.")
def bundle(desk: Desk, label: str, out: Path) -> None:
    """Write a closed period for an auditor: every receipt with its lines, every statement, the log.

    Give it only to who may see all of that. `endcredits audit FILE` recomputes it anywhere.
    """
    from proxy.billing.bundling import Bundle, write_bundle

    parts = Bundle(desk.engine, issuer_of(desk), label, desk.settings.billing, load_prices(desk))
    write_bundle(parts, out)
    desk.say({"file": str(out)}, str(out))


def _of_bundle(desk: Desk, bundle: Path, keys: Path | None) -> int:
    import zipfile

    from proxy.billing.bundling import reading
    from proxy.billing.repricing import reprice
    from proxy.receipts.bundle import check_bundle
    from proxy.receipts.verify import Invalid

    try:
        with zipfile.ZipFile(bundle) as file:
            known, read = known_keys(desk, keys), reading(file)
            proven = check_bundle(read, known)
            priced = reprice(read, known)
    except (Invalid, KeyError, zipfile.BadZipFile) as error:
        desk.say({"file": str(bundle), "holds": False, "why": str(error)}, f"does not hold: {error}")
        return 1
    found = [one.text for one in priced.findings]
    row = {"file": str(bundle), "holds": not found, "proven": [*proven, *priced.proven], "findings": found}
    desk.say(row, "\n".join([*proven, *priced.proven, *(f"does not hold: {one}" for one in found)]))
    return int(bool(found))


def _line(one: Checked) -> str:
    state = {"ok": "ok", "broken": "BROKEN", "not_yet": "not yet"}[one.state]
    colour = {"ok": "green", "broken": "red", "not_yet": "yellow"}[one.state]
    head = f"{one.id:<4} {click.style(f'{state:<8}', fg=colour)} {one.says}"
    if one.state == "ok":
        looked = f"{head} ({one.rows:,} looked at)" if one.rows else head
        return f"{looked}; {one.why}" if one.why else looked
    if one.state == "not_yet":
        return f"{head}: {one.why}"
    more = one.broken - len(one.named)
    named = [f"       {what}" for what in one.named] + ([f"       and {more:,} more"] if more else [])
    return "\n".join([f"{head}: {one.broken:,} broken", *named])
