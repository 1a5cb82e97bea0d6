"""The first page: what this is, for somebody who came without an invitation."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import Response, get
from litestar.handlers import BaseRouteHandler

from proxy.portal.pages import AnyRequest, Pages


def front_pages(pages: Pages) -> Sequence[BaseRouteHandler]:
    """Return the handlers of what anybody may see without having asked for it."""

    @get("/", sync_to_thread=False)
    def start(request: AnyRequest) -> Response[bytes]:
        """What this is."""
        return pages.page(request, "start.html.jinja")

    return (start,)
