"""Everything that is behind the door, put together: each role's own first page, and the pages behind it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from litestar.handlers import BaseRouteHandler

from proxy.access.sessions_store import Sessions
from proxy.billing.prices import PriceTable
from proxy.portal.appeals import appeal_pages
from proxy.portal.builds import Builds, build_pages
from proxy.portal.creators import Office, creator_pages, overview
from proxy.portal.desk import desk_pages
from proxy.portal.developers import Desk, developer_pages, home
from proxy.portal.front import front_pages
from proxy.portal.history import history_pages
from proxy.portal.linking import linking_pages
from proxy.portal.money import money_pages
from proxy.portal.operators import Watch, health, operator_pages
from proxy.portal.passages import passage_pages
from proxy.portal.splits import split_pages


def inside_pages(
    office: Office, sessions: Sessions, watch: Watch, prices: PriceTable, desk: Desk, builds: Builds
) -> Sequence[BaseRouteHandler]:
    """Return the first page and the handlers of creators', operators' and app developers' pages."""
    front = front_pages(
        office.pages,
        {
            "creator": functools.partial(overview, office),
            "operator": functools.partial(health, office, watch),
            "app": functools.partial(home, desk),
        },
    )
    creators = (
        *creator_pages(office),
        *money_pages(office),
        *passage_pages(office),
        *split_pages(office),
        *appeal_pages(office),
        *linking_pages(office),
        *history_pages(office),
    )
    operators = (
        *operator_pages(office, sessions, builds, desk.origin),
        *build_pages(builds),
        *desk_pages(office, prices),
    )
    return (*front, *creators, *operators, *developer_pages(desk))
