"""A creator's own text with what answers drew on marked in it: how often, in which month, by which apps.

Only her words are on it, and only she is let in: of answers there is nothing to show but how many there were.
A long book is shown a part at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery

from proxy.access.keys import Principal
from proxy.access.store import app_names
from proxy.asking import of_pages
from proxy.billing.passages import CELL, Leaf
from proxy.portal.creators import CREATORS, Office
from proxy.portal.pages import AnyRequest

MONTHS_SHOWN: Final = 12
LEVELS: Final = 3  # of shades: more are not told apart


def passage_pages(office: Office) -> Sequence[BaseRouteHandler]:
    """Return the handler of the page."""

    @get("/works/{work:str}/passages", guards=CREATORS)
    async def passages(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        work: FromPath[str],
        month: FromQuery[str] = "",
        page: FromQuery[int] = 1,
    ) -> Response[bytes]:
        """One's text with what was used marked in it, `page` of it from 1."""

        def read() -> dict[str, Any]:
            drawn = office.shelf(caller).drawn(work, month, page - 1)
            sums = drawn.sums
            used = min(sums.cells * CELL, drawn.characters)
            return {
                "drawn": drawn,
                "months": sums.months[:MONTHS_SHOWN],
                "used_ppm": used * 1_000_000 // drawn.characters if drawn.characters else 0,
                "most": [(drawn.at_cell(cell) + 1, answers) for cell, answers in sums.most],
                "levels": levels(drawn.leaf, sums.most[0][1] if sums.most else 1),
                "names": app_names(office.engine),
            }

        known = await of_pages(read)
        return office.pages.page(request, "passages.html.jinja", month=month, **known)

    return (passages,)


def levels(shown: Leaf | None, most: int) -> dict[int, int]:
    """Return the shade of each number of answers on a leaf, 1 to LEVELS; `most`: of the whole work."""
    found = {one.answers for line in shown.lines for one in line if one.answers} if shown else set[int]()
    return {answers: max(1, min(LEVELS, -(-answers * LEVELS // max(most, 1)))) for answers in found}
