"""`/portal/playground`: ask through the proxy and watch the credits come, as the app that is signed in.

The page never sees a key. A session stands for the key that it was begun with, and each request is served,
limited, budgeted and metered as that key's own: who it is and what it may is asked of the key ring anew. The
answers come from the relay itself (relay.watched); portal and relay do not know each other, so app.py hands
it in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from litestar import Request, Response, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp, Receive, Scope, Send

from proxy.access.keys import Principal
from proxy.catalogue.works import WorkCredit
from proxy.errors import NotFound, Unauthenticated
from proxy.portal.api import answered
from proxy.portal.doors import inside, visitor
from proxy.portal.events import carried, may_see
from proxy.portal.pages import AnyRequest, Pages
from proxy.portal.problems import answer_problem

if TYPE_CHECKING:
    import sqlalchemy as sa

# Serves one request of a page as a principal's.
Serves = Callable[[Principal, Any, Any, Any], Awaitable[None]]


def playground_pages(
    pages: Pages,
    engine: sa.Engine,
    *,
    holder: Callable[[str], Principal | None],
    answers: Serves,
    models: Serves,
    credit: Callable[[str], WorkCredit | None],
) -> Sequence[BaseRouteHandler]:
    """Return the page and what its script asks. holder: who holds the key of this id now, with its limits."""

    def as_holder(request: Request[Any, Any, Any], serves: Serves) -> ASGIApp:
        caller = _holder(request, holder)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await serves(caller, scope, receive, send)

        return serve

    @get("/playground", sync_to_thread=False)
    def page(request: AnyRequest) -> Response[bytes]:
        """The page; whoever is not signed in as an app is told how to be."""
        found = visitor(request)
        may_ask = found is not None and found.principal.role == "app"
        return pages.page(request, "playground.html.jinja", may_ask=may_ask)

    within: Any = {Exception: answer_problem}  # a script reads problems, and no pages

    @post("/playground/answers", guards=[inside("app")], exception_handlers=within)
    async def ask(request: AnyRequest) -> ASGIApp:
        """One answer, with what it owes so far between its events."""
        return as_holder(request, answers)

    @get("/playground/models", guards=[inside("app")], exception_handlers=within)
    async def listed(request: AnyRequest) -> ASGIApp:
        """The models that the key may use."""
        return as_holder(request, models)

    @get("/playground/receipts/{event_id:str}", guards=[inside("app")], exception_handlers=within)
    async def receipt(request: AnyRequest, event_id: FromPath[str]) -> Response[dict[str, Any]]:
        """Shares that were late, as /api/receipts has them."""
        event = await carried(engine, event_id)
        if event is None or not may_see(_holder(request, holder), event):
            raise NotFound(f"no receipt {event_id}", remedy="an app sees its own answers' only")
        return answered(event, credit)

    return (page, ask, listed, receipt)


def _holder(request: AnyRequest, holder: Callable[[str], Principal | None]) -> Principal:
    found = visitor(request)
    caller = holder(found.principal.key_id) if found is not None else None
    if caller is None:
        raise Unauthenticated("the key that you signed in with has ended", remedy="sign in with another one")
    return caller
