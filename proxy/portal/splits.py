"""Splits that creators propose to each other: over HTTP for scripts, and on pages for people.

Both ask `Agreements`. A page says percents where a script says parts in a million, and names people by the
name that credits show; whom one proposes to is written as they are called here, because nobody is shown a
list of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Response, Router, get, post
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Redirect

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.catalogue.agreements import percent_text, split_in
from proxy.catalogue.agreements_store import Agreements, Shown, Version
from proxy.catalogue.works import UNCLAIMED, Part, Split
from proxy.clock import Clock, Ids, iso_utc
from proxy.errors import BadRequest, Problem
from proxy.portal.creators import CREATORS, Office
from proxy.portal.pages import AnyRequest

if TYPE_CHECKING:
    import sqlalchemy as sa

Row = dict[str, Any]
NOBODY: Final = "nobody yet"  # how a form says UNCLAIMED
ROWS, ROWS_MAX = 6, 40  # of the form: a band, or a choir
DONE: Final[Mapping[str, str]] = {
    "proposed": "Your proposal is on its way. Everybody who is in it has to agree before it holds.",
    "agreed": "You agreed.",
    "in-force": "Everybody has agreed: this is how the work is shared now.",
    "refused": "You refused. The split stays as it was.",
    "withdrawn": "You took your proposal back.",
}


class PartIn(msgspec.Struct, forbid_unknown_fields=True):
    """One party's part. party: a creator's id or ref, or "~unclaimed"."""

    party: str
    ppm: int
    role: str = "author"


class ProposalIn(msgspec.Struct, forbid_unknown_fields=True):
    """A split, whole: its parts sum to 1,000,000 ppm."""

    parts: list[PartIn]
    note: str = ""


class AnswerIn(msgspec.Struct, forbid_unknown_fields=True):
    """Agreed or refused; a refusal says why."""

    agree: bool
    reason: str = ""


def splits_router(engine: sa.Engine, *, clock: Clock, ids: Ids) -> Router:
    """Return /api/works/{work}/splits and /api/splits: creators about works in which they have a part."""
    allowed = [requires(Action.EDIT_OWN_WORKS)]

    def of(caller: Principal) -> Agreements:
        if not caller.creator_id:
            raise BadRequest("an operator has no part in a work", remedy="creators agree with their own keys")
        return Agreements(engine, clock=clock, ids=ids, creator=caller.creator_id)

    @get("/works/{work:str}/splits", guards=allowed)
    async def versions(caller: NamedDependency[Principal], work: FromPath[str]) -> Row:
        """How a work is shared now, how it was before, and what was proposed; newest first."""
        found = await of_pages(of(caller).of_work, work)
        return {
            "parts": _parts(found.now),
            "versions": [version_row(one) for one in found.versions],
            "proposals": [proposal_row(one) for one in found.proposals],
        }

    @post("/works/{work:str}/splits", guards=allowed)
    async def propose(
        caller: NamedDependency[Principal], work: FromPath[str], data: JSONBody[ProposalIn]
    ) -> Row:
        """Propose a split; it holds when everybody who is asked has agreed."""
        split = Split(tuple(Part(one.party, one.ppm, one.role) for one in data.parts))
        return proposal_row(await of_pages(of(caller).propose, work, split, data.note))

    @get("/splits", guards=allowed)
    async def mine(caller: NamedDependency[Principal], *, open_only: FromQuery[bool] = False) -> Row:
        """Proposals that one made or is asked in, newest first; for an operator, who keeps which waiting."""
        if caller.creator_id:
            found = await of_pages(of(caller).mine, open_only=open_only)
        else:
            everybody = Agreements(engine, clock=clock, ids=ids, creator="")
            found = await of_pages(everybody.waiting)
        return {"items": [proposal_row(one) for one in found]}

    @get("/splits/{proposal:str}", guards=allowed)
    async def one(caller: NamedDependency[Principal], proposal: FromPath[str]) -> Row:
        """One proposal with what was said to it."""
        return proposal_row(await of_pages(of(caller).proposal, proposal))

    @post("/splits/{proposal:str}/answer", guards=allowed, status_code=200)
    async def answer(
        caller: NamedDependency[Principal], proposal: FromPath[str], data: JSONBody[AnswerIn]
    ) -> Row:
        """Agree, or refuse with a reason: once."""
        agreements = of(caller)
        found = await of_pages(agreements.answer, proposal, agree=data.agree, reason=data.reason)
        return proposal_row(found)

    @post("/splits/{proposal:str}/withdraw", guards=allowed, status_code=200)
    async def withdraw(caller: NamedDependency[Principal], proposal: FromPath[str]) -> Row:
        """Take back what one proposed."""
        return proposal_row(await of_pages(of(caller).withdraw, proposal))

    return Router(
        "/api",
        route_handlers=[versions, propose, mine, one, answer, withdraw],
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


def split_pages(office: Office) -> Sequence[BaseRouteHandler]:
    """Return the handlers of the pages on which splits are proposed and answered."""
    pages = office.pages

    def of(caller: Principal) -> Agreements:
        return Agreements(office.engine, clock=office.clock, ids=office.ids, creator=caller.creator_id)

    def read(caller: Principal, work: str) -> dict[str, Any]:
        agreements = of(caller)
        shares = agreements.of_work(work)
        return {
            "shares": shares,
            "people": agreements.named(shares.people()),
            "work": work,
        }

    @get("/splits", guards=CREATORS)
    async def mine(request: AnyRequest, caller: NamedDependency[Principal]) -> Response[bytes]:
        """Splits that were proposed by one or to one, and what one is called here."""
        agreements = of(caller)

        def listed() -> dict[str, Any]:
            found = agreements.mine()
            named = {caller.creator_id}.union(*(one.people() for one in found))
            return {"proposals": found, "people": agreements.named(named)}

        return pages.page(request, "splits.html.jinja", **await of_pages(listed))

    @get("/works/{work:str}/splits", guards=CREATORS)
    async def versions(
        request: AnyRequest, caller: NamedDependency[Principal], work: FromPath[str], rows: FromQuery[int] = 0
    ) -> Response[bytes]:
        """How a work is shared, how it was, and a form for how it might be."""
        known = await of_pages(read, caller, work)
        people = known["people"]
        typed = [
            (people[part.party].ref if part.party in people else NOBODY, percent_text(part.ppm))
            for part in known["shares"].now.parts
        ]
        return pages.page(
            request, "work-splits.html.jinja", rows=_padded(typed, rows), refused=None, note="", **known
        )

    @post("/works/{work:str}/splits", guards=CREATORS)
    async def propose(
        request: AnyRequest, caller: NamedDependency[Principal], work: FromPath[str]
    ) -> Response[Any]:
        """Propose a split; what cannot be one comes back as it was typed."""
        form = await request.form()
        typed = [
            (str(who), str(percent))
            for who, percent in zip(form.getall("who", []), form.getall("percent", []), strict=False)
        ][:ROWS_MAX]
        note = str(form.get("note", ""))
        try:
            split = split_in(
                (UNCLAIMED if who.strip().lower() == NOBODY else who, part) for who, part in typed
            )
            made = await of_pages(of(caller).propose, work, split, note)
        except Problem as refused:
            if refused.status not in {400, 409}:
                raise
            known = await of_pages(read, caller, work)
            more = {"rows": _padded(typed, 0), "refused": refused, "note": note}
            return pages.page(request, "work-splits.html.jinja", status=refused.status, **more, **known)
        done = "in-force" if made.state == "agreed" else "proposed"
        return Redirect(f"/portal/splits/{made.proposal.id}?done={done}", status_code=303)

    @get("/splits/{proposal:str}", guards=CREATORS)
    async def one(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        proposal: FromPath[str],
        done: FromQuery[str] = "",
    ) -> Response[bytes]:
        """One proposal: who would get what, who has agreed, and until when one may."""
        agreements = of(caller)
        shown = await of_pages(agreements.proposal, proposal)
        people = await of_pages(agreements.named, shown.people())
        told = DONE.get(done, "")
        return pages.page(request, "split.html.jinja", shown=shown, people=people, done=told)

    @post("/splits/{proposal:str}/answer", guards=CREATORS)
    async def answer(
        request: AnyRequest, caller: NamedDependency[Principal], proposal: FromPath[str]
    ) -> Response[Any]:
        """Agree, or refuse with a reason."""
        form, agreements = await request.form(), of(caller)
        agree = form.get("answer") == "agree"
        reason = "" if agree else str(form.get("reason", ""))
        found = await of_pages(agreements.answer, proposal, agree=agree, reason=reason)
        done = "refused" if not agree else "in-force" if found.state == "agreed" else "agreed"
        return Redirect(f"/portal/splits/{found.proposal.id}?done={done}", status_code=303)

    @post("/splits/{proposal:str}/withdraw", guards=CREATORS)
    async def withdraw(caller: NamedDependency[Principal], proposal: FromPath[str]) -> Response[Any]:
        """Take back what one proposed."""
        found = await of_pages(of(caller).withdraw, proposal)
        return Redirect(f"/portal/splits/{found.proposal.id}?done=withdrawn", status_code=303)

    return (mine, versions, propose, one, answer, withdraw)


def proposal_row(shown: Shown) -> Row:
    """Return a proposal as /api tells it."""
    one = shown.proposal
    return {
        "id": one.id,
        "work": one.work_id,
        "title": shown.title,
        "state": shown.state,
        "parts": _parts(one.split),
        "replaces": {"version": one.version, "parts": _parts(shown.before)},
        "proposed_by": one.proposed_by,
        "note": one.note,
        "at": iso_utc(one.at_us),
        "until": iso_utc(one.until_us),
        "waits_for": list(one.waits_for),
        "answers": [
            {"party": answer.party, "said": answer.said, "reason": answer.reason, "at": iso_utc(answer.at_us)}
            for answer in one.answers
        ],
    }


def version_row(one: Version) -> Row:
    """Return a split that was in force as /api tells it."""
    return {"version": one.version, "parts": _parts(one.split), "since": iso_utc(one.at_us), "by": one.by}


def _parts(split: Split) -> list[Row]:
    return [{"party": part.party, "ppm": part.ppm, "role": part.role} for part in split.parts]


def _padded(typed: Sequence[tuple[str, str]], rows: int) -> list[tuple[str, str]]:
    wanted = min(max(ROWS, len(typed) + 1, rows), ROWS_MAX)
    return [*typed, *[("", "")] * (wanted - len(typed))]
