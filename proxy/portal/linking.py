"""The forms on a work's page that say what it comes from; scripts say it under /api/works (works.py)."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import post
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect

from proxy.access.keys import Principal
from proxy.asking import of_pages
from proxy.portal.creators import CREATORS, Office
from proxy.portal.pages import AnyRequest


def linking_pages(office: Office) -> Sequence[BaseRouteHandler]:
    """Return the handlers of the forms. Each leads back to the work that it was on."""

    @post("/works/{work:str}/links", guards=CREATORS)
    async def link(request: AnyRequest, caller: NamedDependency[Principal], work: FromPath[str]) -> Redirect:
        """State what a work is of another."""
        form = await request.form()
        kind, of = str(form.get("kind", "")), str(form.get("of", "")).strip()
        made = await of_pages(office.shelf(caller).link, work, kind, of)
        return _back(made["work"])

    @post("/works/{work:str}/unlink", guards=CREATORS)
    async def unlink(
        request: AnyRequest, caller: NamedDependency[Principal], work: FromPath[str]
    ) -> Redirect:
        """End a link. at: the other work, where the form is on its page."""
        form = await request.form()
        of = str(form.get("of", ""))
        ended = await of_pages(office.shelf(caller).unlink, work, of)
        return _back(ended["of"] if form.get("at") == of else ended["work"])

    return (link, unlink)


def _back(work: str) -> Redirect:
    return Redirect(f"/portal/works/{work}#links", status_code=303)
