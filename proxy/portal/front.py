"""The first page: what this is, for somebody who came without an invitation; for others, their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType

from litestar import Response, get
from litestar.handlers import BaseRouteHandler

from proxy.access.keys import Principal, Role
from proxy.portal.doors import visitor
from proxy.portal.pages import AnyRequest, Pages

Home = Callable[[AnyRequest, Principal], Awaitable[Response[bytes]]]


def front_pages(
    pages: Pages, homes: Mapping[Role, Home] = MappingProxyType({})
) -> Sequence[BaseRouteHandler]:
    """Return the handlers of what anybody may see. homes: what is at / for who is signed in, by role."""

    @get("/")
    async def start(request: AnyRequest) -> Response[bytes]:
        """What this is, or what stands."""
        found = visitor(request)
        if found is not None and found.principal.role in homes:
            return await homes[found.principal.role](request, found.principal)
        return pages.page(request, "start.html.jinja")

    return (start,)
