"""`/api/claims`: who says that a registered work is theirs, and what an operator decided.

A creator opens, reads and takes back their own claims; that there are others on a work of theirs, the work
says. What is said again in the same words is done already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Router, get, post
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.catalogue.ownership import Claim
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.works import printable
from proxy.clock import iso_utc
from proxy.errors import BadRequest, NotFound
from proxy.portal.creators import Office
from proxy.portal.payouts import ReasonIn

PAGE_MAX = 100  # a claim holds up to two pages of words
Row = dict[str, Any]


class ClaimIn(msgspec.Struct, forbid_unknown_fields=True):
    """Whose a work is, and why. claimant: where an operator says it; evidence: addresses, never fetched."""

    work: str
    basis: str
    evidence: list[str] = []
    claimant: str = ""


class DecisionIn(msgspec.Struct, forbid_unknown_fields=True):
    """What becomes of a claim, and why; kept for ever."""

    outcome: Literal["upheld", "rejected"]
    reason: str


def claims_router(office: Office) -> Router:
    """Return /api/claims."""
    return Router(
        "/api/claims",
        route_handlers=[*_of_claimants(office), *_of_operators(office)],
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


def _of_claimants(office: Office) -> Sequence[BaseRouteHandler]:
    """What a creator may do about their own claims, and an operator about anybody's."""
    allowed = [requires(Action.EDIT_OWN_WORKS)]

    def read(caller: Principal, claim: str) -> Claim:
        found = _ownership(office, caller).claim(claim)
        if caller.creator_id and found.claimant != caller.creator_id:
            raise NotFound(f"there is no claim '{printable(claim, 60)}'", remedy="take its id from the list")
        return found

    @get("", guards=allowed)
    async def listed(
        caller: NamedDependency[Principal],
        work: FromQuery[str] = "",
        cursor: FromQuery[int] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 50,
        *,
        open_only: FromQuery[bool] = False,
    ) -> Row:
        """Claims, oldest first: one's own, or everybody's for an operator."""
        found = await of_pages(
            _ownership(office, caller).claims,
            work_id=work,
            claimant=caller.creator_id,
            open_only=open_only,
            after_seq=cursor,
            limit=limit + 1,
        )
        following = found[limit - 1].opened_seq if len(found) > limit else None
        return {"items": [claim_row(one, caller) for one in found[:limit]], "next_cursor": following}

    @post("", guards=allowed, status_code=200)
    async def opened(caller: NamedDependency[Principal], data: JSONBody[ClaimIn]) -> Row:
        """Say that a work is one's own; what it earns is held until that is decided."""
        claimant = caller.creator_id or data.claimant
        if not claimant:
            raise BadRequest(
                "nobody claims the work", remedy="name the claimant, by id or ref", code="creator"
            )
        if caller.creator_id and data.claimant not in {"", "me", caller.creator_id}:
            raise BadRequest("a claim is opened by the one whose it is", remedy="leave claimant out")
        act = _ownership(office, caller).open_claim
        return claim_row(await of_pages(act, data.work, claimant, data.basis, data.evidence), caller)

    @get("/{claim:str}", guards=allowed)
    async def one(caller: NamedDependency[Principal], claim: FromPath[str]) -> Row:
        """One claim with everything that was said."""
        return claim_row(await of_pages(read, caller, claim), caller)

    @post("/{claim:str}/withdraw", guards=allowed, status_code=200)
    async def withdraw(
        caller: NamedDependency[Principal], claim: FromPath[str], data: JSONBody[ReasonIn]
    ) -> Row:
        """Take a claim back."""
        found = await of_pages(read, caller, claim)
        act = _ownership(office, caller).decide_claim
        return claim_row(await of_pages(act, found.id, "withdrawn", data.reason), caller)

    return (listed, opened, one, withdraw)


def _of_operators(office: Office) -> Sequence[BaseRouteHandler]:
    @post("/{claim:str}/decide", guards=[requires(Action.OPERATE)], status_code=200)
    async def decide(
        caller: NamedDependency[Principal], claim: FromPath[str], data: JSONBody[DecisionIn]
    ) -> Row:
        """Decide a claim, once; upheld, the work and all of its split are the claimant's from then on."""
        act = _ownership(office, caller).decide_claim
        return claim_row(await of_pages(act, claim, data.outcome, data.reason), caller)

    return (decide,)


def claim_row(claim: Claim, caller: Principal) -> Row:
    """Return a claim as /api tells it: who opened and who decided it, operators read."""
    row: Row = {
        "id": claim.id,
        "work": claim.work_id,
        "claimant": claim.claimant,
        "state": claim.state,
        "basis": claim.basis,
        "evidence": list(claim.evidence),
        "opened": iso_utc(claim.opened_us),
        "reason": claim.reason,
        "decided": None if claim.decided_us is None else iso_utc(claim.decided_us),
    }
    by = {} if caller.creator_id else {"opened_by": claim.opened_by, "decided_by": claim.decided_by}
    return row | by


def _ownership(office: Office, caller: Principal) -> Ownership:
    return Ownership(
        office.engine,
        clock=office.clock,
        ids=office.ids,
        creator=caller.creator_id,
        by=caller.name or caller.key_id,
    )
