"""`claims`, `works review` and `works verify`: whose a text is, decided by a person and kept with the reason.

What an index makes of a decision is known after the next build; `works review` says when one is due. Whatever
people write is printed without control characters: it was cleaned when it was kept.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.desk import Desk, command, main
from proxy.cli.registry import build_index, open_catalogue, with_times, works
from proxy.clock import RandomIds, SystemClock, iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.catalogue.linking_store import Links
    from proxy.catalogue.ownership import Claim, ReviewEntry
    from proxy.catalogue.ownership_store import Ownership
    from proxy.catalogue.store import Catalogue
    from proxy.catalogue.works import LinkKind

LINKED = {
    "recording_of": "a recording of",
    "excerpt_of": "an excerpt of",
    "translation_of": "a translation of",
}
DUE = "; the index takes it in when it is built next: `endcredits index build`"


@main.group()
def claims() -> None:
    """Who says that a registered work is theirs, and what became of it."""


def open_ownership(desk: Desk, by: str = "operator") -> Ownership:
    """Return what the desk's store knows of ownership, for the operator."""
    from proxy.catalogue.ownership_store import Ownership as Store

    return Store(desk.engine, clock=SystemClock(), ids=RandomIds(), by=by)


# -- claims ------------------------------------------------------------------------------------------------


@command(claims, "open")
@click.option("--work", "work", required=True, help="The work (id or ref) that is claimed.")
@click.option("--claimant", required=True, help="The creator (id or ref) who says that it is theirs.")
@click.option("--basis", required=True, help="Why it is theirs, in a few sentences.")
@click.option(
    "--evidence", multiple=True, metavar="URL", help="An address that shows it; kept, never fetched."
)
@click.option("--by", default="operator", show_default=True, help="Who enters it.")
def open_claim(desk: Desk, work: str, claimant: str, basis: str, evidence: tuple[str, ...], by: str) -> None:
    """Record that a creator says a registered work is theirs. What it earns is held until that is decided."""
    catalogue = open_catalogue(desk)
    entry = catalogue.find_work(work)
    claim = open_ownership(desk, by).open_claim(entry.id, claimant, basis, evidence)
    desk.say(_claim_row(claim, catalogue), f"{claim.id}: {claimant} claims {entry.title} ({entry.id})")


@command(claims)
@click.argument("claim")
@click.option("--uphold", "outcome", flag_value="upheld", help="The work is the claimant's from now on.")
@click.option("--reject", "outcome", flag_value="rejected", help="It stays whose it is.")
@click.option("--withdraw", "outcome", flag_value="withdrawn", help="The claimant takes the claim back.")
@click.option("--reason", required=True, help="Why; kept for ever, beside the decision.")
@click.option("--by", default="operator", show_default=True, help="Who decides.")
def decide(desk: Desk, claim: str, outcome: str | None, reason: str, by: str) -> None:
    """Decide a CLAIM, once: --uphold, --reject or --withdraw.

    Upheld, the work and all of its split are the claimant's, and it outranks every copy that no claim was
    upheld for. Periods that are closed stay as they are.
    """
    if outcome is None:
        raise click.UsageError("say --uphold, --reject or --withdraw")
    catalogue = open_catalogue(desk)
    decided = open_ownership(desk, by).decide_claim(
        claim,
        outcome,  # pyright: ignore[reportArgumentType]  click has checked it
        reason,
    )
    due = DUE if decided.state == "upheld" else ""
    said = f"{claim} is {decided.state} from registry entry {decided.decided_seq} on{due}"
    desk.say(_claim_row(decided, catalogue), said)


@command(claims, "list")
@click.option("--work", "work", default="", help="Only of this work (id or ref).")
@click.option("--open", "open_only", is_flag=True, help="Only those that wait for a decision.")
def list_claims(desk: Desk, work: str, *, open_only: bool) -> None:
    """List claims, oldest first."""
    catalogue = open_catalogue(desk)
    work_id = catalogue.find_work(work).id if work else ""
    found = open_ownership(desk).claims(work_id=work_id, open_only=open_only)
    rows = (_claim_row(claim, catalogue) for claim in found)
    desk.table(rows, ("id", "state", "work", "title", "claimant_ref", "opened"), empty="no claims")


@command(claims, "show")
@click.argument("claim")
def show_claim(desk: Desk, claim: str) -> None:
    """Show one claim with everything that was said."""
    from proxy.billing import ledger
    from proxy.billing.money import decimal_text
    from proxy.billing.store import balances

    row = _claim_row(open_ownership(desk).claim(claim), open_catalogue(desk))
    held: dict[str, int] = {}
    for (_, currency), grains in balances(desk.engine, ledger.claimed(row["work"])).items():
        held[currency] = held.get(currency, 0) + grains
    row["held"] = {currency: decimal_text(grains, currency) for currency, grains in held.items() if grains}
    lines = [
        f"{claim}: {row['state']}",
        f"  work      {row['title']} ({row['work']}), now {row['owner_ref']}'s",
        f"  claimant  {row['claimant_ref']} ({row['claimant']})",
        f"  opened    {row['opened']} by {row['opened_by']}",
        f"  basis     {row['basis']}",
        *(f"  evidence  {address}" for address in row["evidence"]),
        *(
            f"  held      {amount} {currency}, until it is decided"
            for currency, amount in row["held"].items()
        ),
    ]
    if row["state"] != "open":
        lines += [f"  decided   {row['decided']} by {row['decided_by']}", f"  reason    {row['reason']}"]
    desk.say(row, "\n".join(lines))


def _claim_row(claim: Claim, catalogue: Catalogue) -> dict[str, Any]:
    entry = catalogue.find_work(claim.work_id)
    row = next(iter(with_times([dataclasses.asdict(claim)])))
    row["work"] = row.pop("work_id")
    return row | {
        "title": entry.title,
        "owner": entry.creator_id,
        "owner_ref": entry.creator_ref,
        "claimant_ref": catalogue.creator(claim.claimant).ref,
    }


# -- splits ------------------------------------------------------------------------------------------------


@main.group()
def splits() -> None:
    """Splits that creators propose to each other: each holds when everybody in it has agreed."""


@command(splits, "list")
def list_splits(desk: Desk) -> None:
    """List the proposals that wait for somebody's word, the longest waiting first, and for whose."""
    from proxy.catalogue.agreements_store import Agreements

    agreements = Agreements(desk.engine, clock=SystemClock(), ids=RandomIds(), creator="")
    found = agreements.waiting()
    people = agreements.named({who for shown in found for who in shown.people()})
    rows = (
        {
            "id": shown.proposal.id,
            "work": shown.proposal.work_id,
            "title": shown.title,
            "proposed_by": people[shown.proposal.proposed_by].ref,
            "waits_for": ", ".join(people[one].ref for one in shown.proposal.waits_for),
            "proposed": iso_utc(shown.proposal.at_us),
            "until": iso_utc(shown.proposal.until_us),
        }
        for shown in found
    )
    columns = ("id", "title", "proposed_by", "waits_for", "proposed", "until")
    desk.table(rows, columns, empty="no proposed split waits")


# -- identifiers -------------------------------------------------------------------------------------------


@command(works)
@click.argument("work")
@click.option(
    "--identifier", required=True, help="isbn:, issn:, isrc:, iswc:, iscc:, doi:, isni: or orcid: and it."
)
@click.option("--reason", default="", help="How you know that it is this work's.")
@click.option("--revoke", is_flag=True, help="Take the verification back.")
@click.option("--by", default="operator", show_default=True, help="Who verified it.")
def verify(desk: Desk, work: str, identifier: str, reason: str, by: str, *, revoke: bool) -> None:
    """Record that you have seen that WORK (id or ref) bears this identifier.

    The check digit is checked, nothing is looked up. The work then outranks copies of its text that have no
    verified identifier, whoever registered first; only an upheld claim stands above it.
    """
    from proxy.catalogue.identifiers import parse

    entry, named = open_catalogue(desk).find_work(work), parse(identifier)
    ownership = open_ownership(desk, by)
    changed = (ownership.revoke if revoke else ownership.verify)(entry.id, named, reason)
    state = "not verified any more" if revoke else "verified"
    answer = {"work": entry.id, "identifier": str(named), "verified": not revoke, "changed": changed}
    desk.say(answer, f"{named} of {entry.title} is {state}{DUE if changed else ', as it was'}")


# -- the review queue --------------------------------------------------------------------------------------


@command(works)
@click.option("--release", metavar="WORK", help="Let this work (id or ref) earn from the next index on.")
@click.option("--uphold", metavar="WORK", help="Say that somebody has looked, and that it stays held.")
@click.option("--reason", default="", help="Why; kept beside the decision.")
@click.option("--by", default="operator", show_default=True, help="Who decides.")
def review(desk: Desk, release: str | None, uphold: str | None, reason: str, by: str) -> None:
    """List works that are held up (copies, lists, keywords, repetitions), or decide one of them."""
    if release is not None and uphold is not None:
        raise click.UsageError("decide one work at a time: --release or --uphold")
    if release is not None or uphold is not None:
        _decide_review(desk, release or uphold or "", reason, by, released=release is not None)
        return
    from proxy.catalogue import indexing

    ownership, catalogue = open_ownership(desk), open_catalogue(desk)
    path = indexing.current(desk.settings.index_dir)
    built_us = int(path.name) if path else 0
    due = ownership.rebuild_due(built_us)
    if due:
        newer = "1 change is" if due == 1 else f"{due} changes are"
        desk.note(f"{newer} newer than the index in use: `endcredits index build`")
    queue = ownership.queue(indexing.quarantined(desk.settings.index_dir), built_us)
    desk.table(
        _review_rows(queue, catalogue),
        ("work", "ref", "creator_ref", "title", "reason", "copies", "copied", "since", "state"),
        empty="nothing is held up",
    )


def _decide_review(desk: Desk, work: str, reason: str, by: str, *, released: bool) -> None:
    entry = open_catalogue(desk).find_work(work)
    changed = open_ownership(desk, by).review(entry.id, "released" if released else "upheld", reason)
    already = "" if changed else " already"
    said = (
        f"{entry.title} is released{already}; it earns from the next index on"
        if released
        else f"{entry.title} is looked at{already}, and stays held"
    )
    desk.say({"work": entry.id, "released": released, "changed": changed}, said)
    if changed:
        build_index(desk)


def _review_rows(queue: list[ReviewEntry], catalogue: Catalogue) -> Iterable[dict[str, object]]:
    named = {one.held.work_id for one in queue} | {one.held.copy_of for one in queue}
    known = catalogue.works_by_id(named)
    for one in queue:
        entry, other = known.get(one.held.work_id), known.get(one.held.copy_of)
        if entry is None:
            continue  # of an index that knows more than this store: somebody has restored a backup
        yield {
            "work": entry.id,
            "ref": entry.ref,
            "creator_ref": entry.creator_ref,
            "title": entry.title,
            "kind": one.held.kind,
            "reason": one.held.note,
            "copy_of": one.held.copy_of,
            "part_ppm": one.held.part_ppm,
            "copies": f"{other.title} ({other.id})" if other else one.held.copy_of,
            "copied": f"{one.held.part_ppm / 10_000:.1f} %" if one.held.part_ppm else "",
            "since": iso_utc(one.since_us),
            "state": one.state,
            "said": one.said,
            "decided_by": one.decided_by,
            "decided": iso_utc(one.decided_us) if one.decided_us is not None else None,
        }


# -- adaptations -------------------------------------------------------------------------------------------


@command(works)
@click.argument("work")
@click.option(
    "--of", "originals", multiple=True, required=True, metavar="ORIGINAL:PPM",
    help="A work (id or ref) that it was made from, and the part of its money that is owed to that.",
)  # fmt: skip
@click.option("--by", default="operator", show_default=True, help="Who says so.")
def adapts(desk: Desk, work: str, originals: tuple[str, ...], by: str) -> None:
    """State what WORK was made from, by the licence it has: a copy with a licence is not held up for it.

    What it says in its own words pays by these parts from the next close on; what it says in the original's
    words stays the original's. A new statement replaces the one before.
    """
    from proxy.catalogue.adapting import parse

    entry = open_catalogue(desk).find_work(work)
    stated = [one for cell in originals for one in parse(cell)]
    changed = open_ownership(desk, by).set_adapts(entry.id, stated)
    now = open_ownership(desk, by).adapts(entry.id)
    told = ", ".join(f"{one.ppm / 10_000:g} % to {one.work}" for one in now)
    answer = {"work": entry.id, "adapts": [dataclasses.asdict(one) for one in now], "changed": changed}
    desk.say(answer, f"{entry.title}: {told}{DUE if changed else '; that was stated already'}")


# -- links -------------------------------------------------------------------------------------------------


def open_links(desk: Desk, by: str = "operator") -> Links:
    """Return the links between works of the desk's store, for the operator."""
    from proxy.catalogue.linking_store import Links as Store

    return Store(desk.engine, clock=SystemClock(), by=by)


@command(works, "link")
@click.argument("work")
@click.option("--recording-of", default="", metavar="OTHER", help="WORK records this one.")
@click.option("--excerpt-of", default="", metavar="OTHER", help="WORK is a part of this one.")
@click.option("--translation-of", default="", metavar="OTHER", help="WORK says this one in another language.")
@click.option("--by", default="operator", show_default=True, help="Who says so.")
def link_work(desk: Desk, work: str, by: str, **others: str) -> None:
    """State what WORK is of another work (ids or refs). It is shown and logged, and pays nobody by itself.

    What a translation owes by its licence is said by `works adapts`.
    """
    from proxy.catalogue.linking import KINDS

    stated: list[tuple[LinkKind, str]] = [(kind, others[kind]) for kind in KINDS if others[kind]]
    if len(stated) != 1:
        raise click.UsageError("say one of --recording-of, --excerpt-of and --translation-of")
    ((kind, other),) = stated
    entry, of = (open_catalogue(desk).find_work(one) for one in (work, other))
    changed = open_links(desk, by).state(entry.id, kind, of.id)
    answer = {"work": entry.id, "kind": kind, "of": of.id, "changed": changed}
    said = f"{entry.title} is {LINKED[kind]} {of.title}"
    desk.say(answer, said if changed else f"{said}; that was stated already")


@command(works, "unlink")
@click.argument("work")
@click.argument("other")
@click.option("--by", default="operator", show_default=True, help="Who says so.")
def unlink_work(desk: Desk, work: str, other: str, by: str) -> None:
    """End what WORK was stated to be of OTHER (ids or refs)."""
    entry, of = (open_catalogue(desk).find_work(one) for one in (work, other))
    changed = open_links(desk, by).end(entry.id, of.id)
    said = "is not linked to" if changed else "was not linked to"
    answer = {"work": entry.id, "of": of.id, "changed": changed}
    desk.say(answer, f"{entry.title} {said} {of.title}")
