"""Who comes without an invitation reads what this is, and where to go."""

from __future__ import annotations

from typing import Any, cast

from litestar.testing import create_test_client

from proxy.clock import SystemClock
from proxy.portal.assets import Assets
from proxy.portal.doors import Doors
from proxy.portal.front import front_pages
from proxy.portal.pages import Pages
from proxy.portal.site import portal_router
from proxy.settings import Settings


def test_a_stranger_reads_what_this_is_and_where_to_go():
    assets = Assets()
    pages, doors = Pages(assets), Doors(cast("Any", None), Settings(), SystemClock())
    with create_test_client([portal_router(pages, assets, doors, front_pages(pages))]) as client:
        page = client.get("/portal/").text
    assert "Every answer rolls its" in page
    for place in ("sign-in", "playground", "verify", "look-up", "transparency"):
        assert f'href="/portal/{place}"' in page
