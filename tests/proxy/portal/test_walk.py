"""Every route there is, asked by everybody: what a page does not let in, stays out.

The list is read from the application itself, so that a page which is added tomorrow is walked tomorrow.
"""

from __future__ import annotations

import re

import httpx
import pytest
from litestar.routes import HTTPRoute

from tests.portal import HOST, portal
from tests.proxy.portal.test_creators import two

pytestmark = pytest.mark.anyio
# What anybody may ask. Everything else wants a key or a session of the right role.
OPEN = re.compile(
    r"/|/portal|/healthz|/readyz|/metrics|/\.well-known/.*|/log(/.*)?|/schema(/.*)?|/api/(look-up|lookup|transparency|proofs)(/.*)?"
    r"|/portal/(sign-in(/with/.*)?|sign-out|enter/.*|static/.*|playground|transparency|look-up|verify(/.*)?|verifier(/.*)?)?"
)
NO_SUCH = re.compile(r"/portal/[^/]+")  # the catch-all
ALLOWED = {200, 201, 202, 204, 301, 302, 303, 304, 307}


def routes(app) -> list[tuple[str, str]]:
    """(method, path) of every handler, with names that nothing has where a path has a part to fill in."""
    found: list[tuple[str, str]] = []
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            path = re.sub(r"\{\w+:[^}]+\}", "nobody", route.path)
            found += [(method, path) for method in sorted(route.methods - {"OPTIONS", "HEAD"})]
    return found


async def statuses(client, app, headers=None) -> dict[tuple[str, str], int]:
    told = {}
    for method, path in routes(app):
        reply = await client.request(method, path, headers=headers or {})
        told[method, path] = reply.status_code
    return told


async def test_a_stranger_is_let_in_nowhere_that_is_not_open_to_all(tmp_path):
    async with (
        portal(tmp_path) as there,
        httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as stranger,
    ):
        told = await statuses(stranger, there.app)
    inside = {at: status for at, status in told.items() if not OPEN.fullmatch(at[1].rstrip("/") or at[1])}
    assert len(inside) > 60

    for (method, path), status in inside.items():
        if path.startswith("/portal/") and method == "GET":
            assert status in {303, 401, 404}, (method, path, status)
        elif path.startswith("/portal/"):
            assert status in {403, 404, 405}, (method, path, status)
        else:
            assert status in {401, 404}, (method, path, status)


async def test_every_role_is_kept_out_of_the_pages_of_the_others(tmp_path):
    async with portal(tmp_path) as there:
        await two(there)
        keys = {
            "creator": there.key("creator", creator="ada")[1],
            "operator": there.key("operator", name="Ines")[1],
            "app": there.key("app", name="shop")[1],
        }
        browsers = {role: await there.browser(key) for role, key in keys.items()}
        for method, path in routes(there.app):
            if not path.startswith("/portal/") or OPEN.fullmatch(path) or path == "/portal/nobody":
                continue
            desk = path.startswith("/portal/desk/")
            for role, browser in browsers.items():
                if path.startswith("/portal/playground") and role == "app":
                    continue
                if path == "/portal/desk/index" and role == "operator":
                    continue  # a process that builds an index: test_builds.py starts one
                if path.startswith("/portal/app/"):
                    reply = await (browser.get if method == "GET" else browser.post)(path)
                    refused = {403} if role != "app" else set()
                    assert (reply.status_code in refused) or role == "app", (role, method, path)
                    assert reply.status_code not in {401, 500}, (role, method, path, reply.status_code)
                    continue
                if re.match(r"/portal/me(/|$)", path):  # everybody's own
                    ask = browser.get if method == "GET" else browser.post
                    assert (await ask(path)).status_code in {200, 303, 404}, (role, method, path)
                    continue
                may = role == ("operator" if desk else "creator") and not path.startswith(
                    "/portal/playground"
                )
                ask = browser.get if method == "GET" else browser.post
                reply = await ask(path)
                if may:
                    assert reply.status_code not in {401, 500}, (role, method, path, reply.status_code)
                else:
                    assert reply.status_code == 403, (role, method, path, reply.status_code)


async def test_a_form_without_its_token_does_nothing_anywhere(tmp_path):
    async with portal(tmp_path) as there:
        await two(there)
        for role, who in (("creator", {"creator": "ada"}), ("operator", {"name": "Ines"})):
            browser = await there.browser(there.key(role, **who)[1])
            for method, path in routes(there.app):
                if path.startswith("/portal/") and method != "GET":
                    reply = await browser.client.request(method, path, data={"sure": "yes"})
                    assert reply.status_code in {403, 405}, (role, method, path, reply.status_code)


async def test_no_page_can_be_framed_and_none_runs_what_is_written_in_it(tmp_path):
    async with portal(tmp_path) as there:
        await two(there)
        for role, who in (("creator", {"creator": "ada"}), ("operator", {"name": "Ines"})):
            browser = await there.browser(there.key(role, **who)[1])
            for method, path in routes(there.app):
                if not path.startswith("/portal/") or method != "GET":
                    continue
                reply = await browser.get(path)
                policy = reply.headers["content-security-policy"]
                assert "frame-ancestors 'none'" in policy, path
                assert "script-src 'unsafe" not in policy, path
                assert reply.headers["x-content-type-options"] == "nosniff", path
