"""Who comes without an invitation reads what this is, and where to go."""

from __future__ import annotations

from litestar.testing import create_test_client

from proxy.portal.assets import Assets
from proxy.portal.front import front_pages
from proxy.portal.pages import Pages
from proxy.portal.site import portal_router


def test_a_stranger_reads_what_this_is_and_where_to_go():
    assets = Assets()
    pages = Pages(assets)
    with create_test_client([portal_router(pages, assets, front_pages(pages))]) as client:
        page = client.get("/portal/").text
    assert "Every answer rolls its" in page
    for place in ("sign-in", "playground", "verify", "look-up", "transparency"):
        assert f'href="/portal/{place}"' in page
