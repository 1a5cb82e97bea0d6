"""Signing in and out: whose page it is, which forms are believed, and where nobody is sent."""

from __future__ import annotations

import asyncio

import pytest

from proxy.access.sessions_store import Sessions
from proxy.access.store import revoke
from proxy.clock import SystemClock
from proxy.portal.doors import COOKIE
from proxy.settings import Portal as Rules
from proxy.settings import Server
from tests.portal import portal

pytestmark = pytest.mark.anyio


def sessions(there) -> Sessions:
    return Sessions(there.running.engine, clock=SystemClock(), session_hours=1, link_hours=1)


async def test_a_key_signs_in_until_one_signs_out(tmp_path):
    async with portal(tmp_path) as there:
        browser = await there.browser()
        reply = await browser.sign_in(there.key("operator", name="Ines")[1])
        cookie = reply.headers["set-cookie"]
        assert reply.headers["location"] == "/portal/"
        assert {"HttpOnly", "SameSite=lax", "Path=/portal"} <= {part.strip() for part in cookie.split(";")}
        assert "Secure" not in cookie
        assert "Ines" in (await browser.get("/portal/")).text
        held = browser.client.cookies[COOKIE]
        assert (await browser.post("/portal/sign-out")).status_code == 303
        assert "Ines" not in (await browser.get("/portal/")).text
        # What a thief kept of the cookie opens nothing.
        stolen = await browser.get("/portal/", headers={"cookie": f"{COOKIE}={held}"})
        assert "Ines" not in stolen.text


async def test_a_revoked_key_is_out_at_the_next_click(tmp_path):
    async with portal(tmp_path) as there:
        key_id, key = there.key("operator", name="Ines")
        browser = await there.browser(key)
        revoke(there.running.engine, key_id, clock=SystemClock())
        assert "Ines" not in (await browser.get("/portal/")).text


async def test_a_link_signs_in_once_and_looking_at_it_uses_nothing_up(tmp_path):
    async with portal(tmp_path) as there:
        there.register("a text of hers")
        link = sessions(there).link("creator", creator="ada", by="ines")
        first, second = await there.browser(), await there.browser()
        for browser in (first, first, second):
            page = await browser.get(f"/portal/enter/{link.secret}")
            assert page.status_code == 200
            assert page.headers["referrer-policy"] == "same-origin"
        assert (await first.post(f"/portal/enter/{link.secret}")).status_code == 303
        assert ">ada<" in (await first.get("/portal/")).text
        refused = await second.post(f"/portal/enter/{link.secret}")
        assert refused.status_code == 401
        assert "used already" in refused.text
        assert (await second.get("/portal/enter/short")).status_code == 404
        assert sessions(there).end_all(link.creator_id) == 1
        assert ">ada<" not in (await first.get("/portal/")).text


async def test_a_wrong_key_is_told_so_and_never_repeated(tmp_path):
    async with portal(tmp_path) as there:
        browser = await there.browser()
        for key in ("ec_operator_" + "a" * 32, "nonsense", "", "ec_app_<script>"):
            reply = await browser.sign_in(key)
            assert reply.status_code == 401
            assert "Nobody holds this key" in reply.text
            assert not key or key not in reply.text
        assert COOKIE not in browser.client.cookies


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/", "//evil.example/portal/", "/\\evil.example", "/portal//evil.example",
        "/portal/../v1/models", "javascript:alert(1)", "/elsewhere", "/portal/\r\nset-cookie: a=b", "/portal/ü",
        "/portal/" + "a" * 1_000,
    ],
)  # fmt: skip
async def test_nobody_is_sent_to_another_place_after_signing_in(tmp_path, back):
    async with portal(tmp_path) as there:
        browser = await there.browser()
        reply = await browser.sign_in(there.key("app", name="shop")[1], back)
        assert reply.headers["location"] == "/portal/"
        page = await browser.get("/portal/sign-in", params={"back": back})
        assert page.headers["location"] == "/portal/"


async def test_a_form_of_another_site_or_without_its_token_is_refused(tmp_path):
    async with portal(tmp_path) as there:
        key = there.key("operator", name="Ines")[1]
        browser, other = await there.browser(key), await there.browser(key)
        for headers, data in (
            ({}, {}),
            ({}, {"token": ""}),
            ({}, {"token": other.token}),
            ({"sec-fetch-site": "cross-site"}, {"token": browser.token}),
            ({"sec-fetch-site": "same-site"}, {"token": browser.token}),
            ({"origin": "https://evil.example"}, {"token": browser.token}),
            ({"origin": "null"}, {"token": browser.token}),
        ):
            for path in ("/portal/sign-out", "/portal/sign-in", "/portal/nothing-there"):
                reply = await browser.client.post(path, data=data, headers=headers)
                assert reply.status_code in {403, 405}, (path, headers)
        assert "Ines" in (await browser.get("/portal/")).text
        stranger = await there.browser()
        reply = await stranger.client.post("/portal/sign-in", data={"key": key})
        assert reply.status_code == 403


async def test_trying_keys_is_slowed_down_by_address(tmp_path):
    async with portal(tmp_path, portal=Rules(sign_ins_per_min=3)) as there:
        browser = await there.browser()
        key = there.key("operator", name="Ines")[1]
        assert [(await browser.sign_in("wrong")).status_code for _ in range(4)] == [401, 401, 401, 429]
        refused = await browser.sign_in(key)
        assert (refused.status_code, 0 < int(refused.headers["retry-after"]) <= 60) == (429, True)


async def test_behind_a_trusted_proxy_the_cookie_is_for_https_only_and_addresses_are_told_apart(tmp_path):
    rules = {"server": Server(trusted_proxies=("127.0.0.0/8",)), "portal": Rules(sign_ins_per_min=1)}
    async with portal(tmp_path, **rules) as there:
        browser = await there.browser()
        key = there.key("operator", name="Ines")[1]
        for address, status in (("10.0.0.1", 303), ("10.0.0.1", 429), ("10.0.0.2", 303)):
            browser.client.headers = {"x-forwarded-for": f"1.2.3.4, {address}", "x-forwarded-proto": "https"}
            browser.client.cookies.clear()
            page = await browser.get("/portal/sign-in")
            assert "Secure" in page.headers["set-cookie"]
            cookie = page.headers["set-cookie"].split(";")[0]
            reply = await browser.post("/portal/sign-in", {"key": key}, headers={"cookie": cookie})
            assert reply.status_code == status


async def test_many_people_sign_in_at_once_and_each_is_themselves(tmp_path):
    async with portal(tmp_path) as there:
        keys = [there.key("operator", name=f"Person {n}")[1] for n in range(6)]
        browsers = await asyncio.gather(*(there.browser(key) for key in keys))
        for number, browser in enumerate(browsers):
            assert f"Person {number}" in (await browser.get("/portal/")).text


async def test_a_page_for_somebody_asks_a_stranger_to_sign_in_and_brings_them_back(tmp_path):
    async with portal(tmp_path) as there:
        stranger = await there.browser()
        page = await stranger.get("/portal/works?after=3")
        assert page.status_code == 303
        assert page.headers["location"] == "/portal/sign-in?back=/portal/works%3Fafter%3D3"
