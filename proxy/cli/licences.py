"""`import-licence` and `licences`: what contracts and rights signals say of works, and what followed.

Nothing is fetched: an operator gives the file, and says where it came from. Whatever a file says is printed
without control characters: it was cleaned when it was read.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.desk import Desk, command, main
from proxy.cli.registry import open_catalogue
from proxy.clock import RandomIds, SystemClock, iso_utc

if TYPE_CHECKING:
    from proxy.catalogue.licences_store import Changed, KnownLicence, Licences, LicenceScope

EFFECTS = ("allow", "deny")


@main.group()
def licences() -> None:
    """Contracts and rights signals (RSL, AIPREF, Content-Signal, TDMRep, CAWG, IPTC) and what they decide."""


def open_licences(desk: Desk, by: str = "operator") -> Licences:
    """Return the licences of the desk's store."""
    from proxy.catalogue.licences_store import Licences as Store

    default = desk.settings.catalogue.default_consent
    return Store(desk.engine, clock=SystemClock(), ids=RandomIds(), by=by, default=default)


def _scope(desk: Desk, work: str, creator: str) -> tuple[LicenceScope, str]:
    if bool(work) == bool(creator):
        raise click.UsageError("say --work or --creator: what it is about")
    catalogue = open_catalogue(desk)
    return ("work", catalogue.find_work(work).id) if work else ("creator", catalogue.creator(creator).id)


@command(main, "import-licence")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--work", default="", help="The work (id or ref) it is about.")
@click.option("--creator", default="", help="The creator (id or ref) whose works it is about.")
@click.option("--origin", default="", metavar="URL", help="Where it came from; kept, never fetched.")
@click.option("--by", default="operator", show_default=True, help="Who enters it.")
def import_licence(desk: Desk, file: Path, work: str, creator: str, origin: str, by: str) -> None:
    """Take in a licence or rights signal as it is, and act on it.

    FILE: an RSL licence, a robots.txt with Content-Usage or Content-Signal, a tdmrep.json, a CAWG
    training-mining assertion, an XMP packet with plus:DataMining. It is kept byte for byte. Any denial wins;
    conditions that paying by use does not meet are a denial; what you have decided for a work by hand stands.
    """
    from proxy.catalogue.signals import FILE_BYTES_MAX

    scope, scope_id = _scope(desk, work, creator)
    with file.open("rb") as opened:
        raw = opened.read(FILE_BYTES_MAX + 1)
    _tell(desk, open_licences(desk, by).import_file(raw, scope, scope_id, origin=origin))


@command(licences, "list")
@click.option("--work", default="", help="The work (id or ref).")
@click.option("--creator", default="", help="The creator (id or ref).")
def list_licences(desk: Desk, work: str, creator: str) -> None:
    """Show every licence that a work or a creator ever had by its own name, oldest first."""
    _, scope_id = _scope(desk, work, creator)
    for one in open_licences(desk).of(scope_id):
        desk.say(_row(one), _line(one))


@command(licences)
@click.option("--work", default="", help="The work (id or ref) it is about.")
@click.option("--creator", default="", help="The creator (id or ref) whose works it is about.")
@click.option("--use", default="output_influence", show_default=True, help="What was agreed about.")
@click.option("--why", required=True, help="Which agreement: its date and place; kept for ever.")
@click.option("--rate", default="", help="What a whole answer pays under the direct scheme, if agreed.")
@click.option("--by", default="operator", show_default=True, help="Who enters it.")
@click.argument("effect", type=click.Choice(EFFECTS))
def contract(
    desk: Desk, effect: str, work: str, creator: str, use: str, why: str, *, rate: str, by: str
) -> None:
    """Record what was agreed with a creator, allow or deny: it holds before every signal until revoked."""
    from proxy.billing.floors import read_value
    from proxy.billing.floors_store import AskedTerms
    from proxy.catalogue.works import Consent

    scope, scope_id = _scope(desk, work, creator)
    currency = desk.settings.billing.currency
    if rate:
        read_value("rate", rate, currency)  # before anything is written
    named = Consent.of(use, "paid").use
    agreed = "allow" if effect == "allow" else "deny"
    _tell(desk, open_licences(desk, by).contract(scope, scope_id, named, agreed, why))
    if rate:
        asked = AskedTerms(desk.engine, clock=SystemClock(), by=by, currency=currency)
        asked.ask(scope, scope_id, "rate", rate, why=why)
        desk.note(f"a whole answer pays {rate} {currency} where the scheme is direct")


@command(licences)
@click.argument("licence")
@click.option("--reason", required=True, help="Why it holds no more; kept for ever.")
@click.option("--by", default="operator", show_default=True, help="Who revokes it.")
def revoke(desk: Desk, licence: str, reason: str, by: str) -> None:
    """End a LICENCE: what it alone allowed or denied ends with it."""
    _tell(desk, open_licences(desk, by).revoke(licence, reason))


@command(licences)
@click.argument("sha256")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
def file(desk: Desk, sha256: str, out: Path) -> None:
    """Write a licence's file as it came, by the hash that `licences list` shows."""
    raw = open_licences(desk).file(sha256)
    out.write_bytes(raw)
    desk.say({"file": sha256, "bytes": len(raw), "out": str(out)}, f"{out}: {len(raw)} bytes")


def _tell(desk: Desk, changed: Changed) -> None:
    answer = {
        "added": [_row(one) for one in changed.added],
        "ended": list(changed.ended),
        "consents_changed": changed.consents,
    }
    lines = [_line(one) for one in changed.added]
    lines += [f"{one} has ended" for one in changed.ended]
    lines += [
        f"not read, and deciding nothing: {'; '.join(one.unread)}" for one in changed.added if one.unread
    ]
    is_new = bool(changed.added or changed.ended)
    lines.append(
        f"{changed.consents} consents changed" if is_new else "nothing changed: it was known already"
    )
    desk.say(answer, "\n".join(lines))


def _row(one: KnownLicence) -> dict[str, Any]:
    return dataclasses.asdict(one) | {"at": iso_utc(one.at_us)}


def _line(one: KnownLicence) -> str:
    said = ", ".join(f"{term.use.value} {term.effect}" for term in one.terms) or "nothing that we know"
    about = f" about {one.about}" if one.about else ""
    ended = f"; ended: {one.ended}" if one.ended else ""
    whose = f"{one.source} for {one.scope} {one.scope_id}{about}"
    return f"{one.id}  {iso_utc(one.at_us)[:10]}  {whose}: {said}{ended}"
