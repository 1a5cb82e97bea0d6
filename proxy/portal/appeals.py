"""Appeals against the hold of a work, by scripts and on the work's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from litestar import Router, get, post
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.response import Redirect

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.catalogue.appeals_store import Appeal, appeal, appeals_among
from proxy.clock import iso_utc
from proxy.errors import Forbidden, NotFound
from proxy.portal.creators import CREATORS, Office
from proxy.portal.matters import TextIn
from proxy.portal.pages import AnyRequest

Row = dict[str, Any]
ALLOWED: Final = [requires(Action.EDIT_OWN_WORKS)]


def appeals_router(office: Office) -> Router:
    """Return /api/works/{work}/appeal."""

    @post("/works/{work:str}/appeal", guards=ALLOWED)
    async def say(caller: NamedDependency[Principal], work: FromPath[str], data: JSONBody[TextIn]) -> Row:
        """Appeal against what holds up a work of one's own; the next decision answers it."""
        if not caller.creator_id:
            raise Forbidden("an appeal is its creator's", remedy="`endcredits works review` decides")
        return appeal_row(await _say(office, caller, work, data.text), office.clock.now_us())

    @get("/works/{work:str}/appeal", guards=ALLOWED)
    async def one(caller: NamedDependency[Principal], work: FromPath[str]) -> Row:
        """The last appeal of a work of one's own, or of anybody's for an operator."""
        row = await of_pages(office.shelf(caller).one, work)
        found = (await of_pages(appeals_among, office.engine, [row["id"]])).get(row["id"])
        if found is None:
            raise NotFound(
                "nobody appealed for this work", remedy="a work that is held up may be appealed for"
            )
        return appeal_row(found, office.clock.now_us())

    return Router(
        "/api",
        route_handlers=[say, one],
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


def appeal_pages(office: Office) -> Sequence[BaseRouteHandler]:
    """Return the handler of the form on a work's page."""

    @post("/works/{work:str}/appeal", guards=CREATORS)
    async def say(request: AnyRequest, caller: NamedDependency[Principal], work: FromPath[str]) -> Redirect:
        """Appeal against what holds the work up."""
        made = await _say(office, caller, work, str((await request.form()).get("text", "")))
        return Redirect(f"/portal/works/{made.work_id}?done=appealed", status_code=303)

    return (say,)


async def _say(office: Office, caller: Principal, work: str, words: str) -> Appeal:
    return await of_pages(
        appeal,
        office.engine,
        work,
        words,
        clock=office.clock,
        creator=caller.creator_id,
        answer_days=office.settings.billing.answer_days,
    )


def appeal_row(one: Appeal, now_us: int) -> Row:
    """Return an appeal as /api tells it."""
    return {
        "work": one.work_id,
        "text": one.words,
        "at": iso_utc(one.at_us),
        "due": iso_utc(one.due_us),
        "overdue": one.is_overdue(now_us),
        "outcome": one.outcome,
        "said": one.said,
    }
