"""Under /portal an error is a page, files are found, and every reply is guarded."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
from litestar import get
from litestar.testing import create_test_client

from proxy.clock import SystemClock
from proxy.errors import Conflict
from proxy.portal.assets import Assets
from proxy.portal.doors import Doors
from proxy.portal.front import front_pages
from proxy.portal.pages import HEADERS, Pages
from proxy.portal.site import front_door, portal_router
from proxy.settings import Settings


@pytest.fixture(scope="module")
def client():
    assets = Assets()
    pages = Pages(assets)

    @get("/refused", sync_to_thread=False)
    def refused() -> str:
        raise Conflict("<b>this</b> was decided", remedy="look at <i>that</i>")

    @get("/broken", sync_to_thread=False)
    def broken() -> str:
        raise RuntimeError("secret words")

    router = portal_router(
        pages,
        assets,
        Doors(cast("Any", None), Settings(), SystemClock()),
        [*front_pages(pages), refused, broken],
    )
    with create_test_client([front_door, router], raise_server_exceptions=False) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/portal/", 200),
        ("/portal/refused", 409),
        ("/portal/broken", 500),
        ("/portal/nothing/of/this", 404),
        ("/portal/static/app.000000000000.css", 404),
        ("/portal/static/../pages.py", 404),
    ],
)
def test_every_reply_is_a_guarded_page(client, path, status):
    reply = client.get(path)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>" in reply.text
    for name, value in HEADERS.items():
        assert reply.headers[name.decode()] == value.decode()


def test_the_bare_address_leads_to_the_pages(client):
    reply = client.get("/", follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (303, "/portal/")


def test_a_refusal_says_why_and_what_to_do_and_is_text(client):
    page = client.get("/portal/refused").text
    assert "&lt;b&gt;this&lt;/b&gt; was decided." in page
    assert "look at &lt;i&gt;that&lt;/i&gt;" in page


def test_a_fault_of_ours_shows_nothing_of_itself(client):
    assert "secret words" not in client.get("/portal/broken").text


def test_every_file_that_a_page_names_is_there_for_ever(client):
    page = client.get("/portal/").text
    named = re.findall(r"(?:href|src)=\"(/portal/static/[^\"]+)\"", page)
    assert len(named) >= 3
    for address in named:
        reply = client.get(address)
        assert reply.status_code == 200
        assert "immutable" in reply.headers["cache-control"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        again = client.get(address, headers={"if-none-match": reply.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_no_page_is_part_of_the_interface_for_scripts(client):
    assert not [path for path in client.app.openapi_schema.paths or {} if path.startswith("/portal")]
