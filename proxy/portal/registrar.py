"""What operators say of creators and works over HTTP: who they are, what they bear, adapt, and is held up.

Each is the function that a command asks, under the name of the key. What an index makes of it is known when
one is built next. What is said again is done already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from litestar import Router, get, post, put
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.catalogue import shelf_store
from proxy.catalogue.identifiers import parse
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import Adapted, Creator
from proxy.clock import iso_utc
from proxy.portal.creators import Office
from proxy.portal.operators import name_of

if TYPE_CHECKING:
    from proxy.catalogue.ownership import ReviewEntry

OPERATORS = [requires(Action.OPERATE)]
PAGE_MAX = 500
Row = dict[str, Any]


class CreatorIn(msgspec.Struct, forbid_unknown_fields=True):
    """Who is to be registered. ref: your own short name for them, made of the name where it is empty."""

    name: str
    ref: str = ""
    country: str = ""


class IdentifierIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a work was seen to bear, like "isbn:..."; verified false takes the verification back."""

    identifier: str
    verified: bool = True
    reason: str = ""


class OriginalIn(msgspec.Struct, forbid_unknown_fields=True):
    """A work that another was made from, and the part of the other's money that is owed to it."""

    work: str
    ppm: int


class AdaptsIn(msgspec.Struct, forbid_unknown_fields=True):
    """All that a work was made from, by the licence it has."""

    adapts: list[OriginalIn]


class ReviewIn(msgspec.Struct, forbid_unknown_fields=True):
    """What becomes of a work that is held up, and why."""

    decision: Literal["released", "upheld"]
    reason: str = ""


def registrar_router(office: Office) -> Router:
    """Return /api/creators, /api/review, and what operators say under /api/works/{work}."""
    return Router(
        "/api",
        route_handlers=[*_of_creators(office), *_of_works(office)],
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


def _of_creators(office: Office) -> Sequence[BaseRouteHandler]:
    def catalogue(caller: Principal) -> Catalogue:
        return Catalogue(office.engine, clock=office.clock, ids=office.ids, actor=name_of(caller))

    @post("/creators", guards=OPERATORS, status_code=200)
    async def add(caller: NamedDependency[Principal], data: JSONBody[CreatorIn]) -> Row:
        """Register a creator."""
        act = catalogue(caller).add_creator
        creator, is_new = await of_pages(act, data.name, ref=data.ref, country=data.country)
        return creator_row(creator) | {"added": is_new}

    @get("/creators", guards=OPERATORS)
    async def listed(
        ref: FromQuery[str] = "",
        cursor: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 100,
    ) -> Row:
        """Creators, by id; only the one of this id or ref where it is named."""
        found = await of_pages(shelf_store.creators, office.engine, ref, cursor, limit + 1)
        following = found[limit - 1].id if len(found) > limit else None
        return {"items": [creator_row(one) for one in found[:limit]], "next_cursor": following}

    return (add, listed)


def _of_works(office: Office) -> Sequence[BaseRouteHandler]:
    def ownership(caller: Principal) -> Ownership:
        return Ownership(office.engine, clock=office.clock, ids=office.ids, by=name_of(caller))

    @post("/works/{work:str}/identifiers", guards=OPERATORS, status_code=200)
    async def verify(
        caller: NamedDependency[Principal], work: FromPath[str], data: JSONBody[IdentifierIn]
    ) -> Row:
        """Record that a work was seen to bear an identifier, or take that back; check digits are checked."""
        named, asked = parse(data.identifier), ownership(caller)
        act = asked.verify if data.verified else asked.revoke
        changed = await of_pages(act, work, named, data.reason)
        return {"work": work, "identifier": str(named), "verified": data.verified, "changed": changed}

    @put("/works/{work:str}/adapts", guards=OPERATORS)
    async def adapts(
        caller: NamedDependency[Principal], work: FromPath[str], data: JSONBody[AdaptsIn]
    ) -> Row:
        """State what a work was made from, by the licence it has; it replaces what was stated before."""
        asked, stated = ownership(caller), [Adapted(one.work, one.ppm) for one in data.adapts]
        changed = await of_pages(asked.set_adapts, work, stated)
        now = await of_pages(asked.adapts, work)
        return {
            "work": work,
            "adapts": [{"work": one.work, "ppm": one.ppm} for one in now],
            "changed": changed,
        }

    @get("/review", guards=OPERATORS)
    async def waiting() -> Row:
        """What the last index that was built holds up, longest held first."""
        return {"items": [review_row(one) for one in await of_pages(shelf_store.waiting, office.engine)]}

    @post("/works/{work:str}/review", guards=OPERATORS, status_code=200)
    async def decide(
        caller: NamedDependency[Principal], work: FromPath[str], data: JSONBody[ReviewIn]
    ) -> Row:
        """Let a held work earn from the next index on, or say that it stays held; its creator reads why."""
        changed = await of_pages(ownership(caller).review, work, data.decision, data.reason)
        return {"work": work, "decision": data.decision, "changed": changed}

    return (verify, adapts, waiting, decide)


def creator_row(creator: Creator) -> Row:
    """Return a creator as operators read it."""
    return {
        "id": creator.id,
        "ref": creator.ref,
        "name": creator.name,
        "country": creator.country,
        "created": iso_utc(creator.created_us),
    }


def review_row(one: ReviewEntry) -> Row:
    """Return what is held up, since when, and what somebody said about it."""
    return {
        "work": one.held.work_id,
        "kind": one.held.kind,
        "note": one.held.note,
        "copy_of": one.held.copy_of,
        "part_ppm": one.held.part_ppm,
        "since": iso_utc(one.since_us),
        "state": one.state,
        "said": one.said,
        "decided_by": one.decided_by,
        "decided": None if one.decided_us is None else iso_utc(one.decided_us),
    }
