"""`/portal`: where people look. What every page of it shares: files, headers, and what is said when it fails.

The pages themselves are in files of their own, each for one kind of reader; app.py hands their handlers in.
An error is a page too, with the words that a script would get as a problem: the cause, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from litestar import Response, Router, get
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect

from proxy.errors import NotFound
from proxy.portal.assets import Assets
from proxy.portal.doors import SAFE, Doors, NotSignedIn, provide_visitor, to_sign_in
from proxy.portal.pages import AnyRequest, Pages, guarded
from proxy.portal.problems import as_problem

PLACE: Final = "/portal"
TITLES: Final = {
    400: "That did not work",
    401: "Please sign in",
    403: "That is not yours to do",
    404: "There is nothing here",
    409: "That contradicts something",
    413: "That is too large",
    429: "Too often, too quickly",
    503: "We cannot do that right now",
}


@get("/", include_in_schema=False, sync_to_thread=False)
def front_door() -> Redirect:
    """Where a browser lands that was given the server's bare address."""
    return Redirect(f"{PLACE}/", status_code=303)


def portal_router(pages: Pages, assets: Assets, doors: Doors, handlers: Sequence[BaseRouteHandler]) -> Router:
    """Return everything under /portal; `handlers` are the pages, `doors` stand before them."""

    @get("/{rest:path}", sync_to_thread=False)
    def nothing(rest: FromPath[str]) -> Response[bytes]:
        """What no page is at."""
        raise NotFound(
            f"/portal{rest[:60]} leads nowhere", remedy="it may have been mistyped, or the page has moved"
        )

    def answer(request: AnyRequest, error: Exception) -> Response[Any]:
        if isinstance(error, NotSignedIn) and request.method in SAFE:
            return to_sign_in(error.wanted)
        return error_page(pages, request, error)

    return Router(
        PLACE,
        route_handlers=[assets.handler(), *doors.handlers(pages), *handlers, nothing],
        dependencies={"caller": Provide(provide_visitor)},
        guards=[doors.guard()],
        middleware=[guarded],
        exception_handlers={Exception: answer},
        include_in_schema=False,
    )


def error_page(pages: Pages, request: AnyRequest, error: Exception) -> Response[bytes]:
    """Return the page for whatever left a handler."""
    problem = as_problem(request, error)
    cause = problem.cause[:1].upper() + problem.cause[1:].rstrip(".") + "."
    page = pages.page(
        request,
        "error.html.jinja",
        status=problem.status,
        title=TITLES.get(problem.status, "Something broke on our side"),
        over=f"{problem.status} {HTTPStatus(problem.status).phrase}",
        cause=cause,
        remedy=problem.remedy,
    )
    if problem.retry_after_s:
        page.headers["retry-after"] = str(problem.retry_after_s)
    return page
