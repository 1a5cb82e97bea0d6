"""Signing in by an identity provider of our own over real HTTP: the whole way there and back, and every wrong way."""

from __future__ import annotations

import html
import re
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.access.identities_store import Identities
from proxy.access.store import revoke
from proxy.clock import RandomIds, SystemClock
from proxy.errors import SettingsError
from proxy.portal.doors import COOKIE
from proxy.portal.identities import FLOW_COOKIE
from proxy.settings import Oidc, OidcProvider, Portal
from tests.identity_provider import SECRET, b64, ec_key, identity_provider, jwk, rsa_key
from tests.portal import HOST, portal

pytestmark = pytest.mark.anyio
MANY = Portal(sign_ins_per_min=1_000)


@asynccontextmanager
async def both(tmp_path, monkeypatch, **how):
    """(the provider, our pages that know it)."""
    monkeypatch.setenv("ACME_SECRET", SECRET)
    async with identity_provider(**how) as there:
        rules = Oidc(address="http://localhost", providers=(there.rules(client_secret_env="ACME_SECRET"),))
        async with portal(tmp_path, oidc=rules, portal=MANY) as here:
            yield there, here


async def left(browser, start="/portal/sign-in", **form) -> str:
    """Press the button that leads to the provider; return where that is."""
    await browser.get(start)
    path = "/portal/me/with/acme" if start == "/portal/me" else "/portal/sign-in/with/acme"
    page = await browser.post(path, form)
    assert page.status_code == 200, page.text
    address = html.unescape(re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page.text)[1])
    assert f'href="{html.escape(address)}"' in page.text
    return address


async def returned(browser, location):
    """Follow the provider back to us."""
    parts = urlsplit(location)
    assert parts.netloc == "localhost"
    return await browser.get(f"{parts.path}?{parts.query}")


async def signed_in(browser, there, start="/portal/sign-in", **form):
    return await returned(browser, there.agreed(await left(browser, start, **form)))


async def linked(here, there, role="creator", **who):
    """Somebody who has linked their account and signed out; (their browser, id and secret of their key)."""
    if role == "creator":
        here.register("a text of hers")
        who = {"creator": "ada"}
    key = here.key(role, **who)
    browser = await here.browser(key[1])
    reply = await signed_in(browser, there, "/portal/me")
    assert reply.headers["location"] == "/portal/me?done=linked"
    await browser.get("/portal/me")
    assert (await browser.post("/portal/sign-out")).status_code == 303
    return browser, key


@pytest.mark.parametrize("how", [{}, {"alg": "ES256", "key": ec_key()}], ids=["RS256", "ES256"])
async def test_who_linked_an_account_signs_in_with_it_and_out_again(tmp_path, monkeypatch, how):
    async with both(tmp_path, monkeypatch, **how) as (there, here):
        browser, _ = await linked(here, there)
        reply = await signed_in(browser, there, back="/portal/works?after=3")
        assert (reply.status_code, reply.headers["location"]) == (303, "/portal/works?after=3")
        cookies = reply.headers.get_list("set-cookie")
        assert any(one.startswith(f"{COOKIE}=") and "HttpOnly" in one for one in cookies)
        assert any(one.startswith(f'{FLOW_COOKIE}=""') or f"{FLOW_COOKIE}=;" in one for one in cookies)
        page = await browser.get("/portal/me")
        assert "sub-1" in page.text
        assert ">ada<" in page.text
        await browser.post("/portal/sign-out")
        assert (await browser.get("/portal/works")).status_code == 303


async def test_an_account_that_nobody_linked_opens_nothing_whatever_it_claims(tmp_path, monkeypatch):
    claims = {"email": "ada@example.org", "email_verified": True, "role": "operator", "groups": ["operator"]}
    async with both(tmp_path, monkeypatch, claims=claims) as (there, here):
        here.register("a text of hers", creator="ada@example.org")
        browser = await here.browser()
        reply = await signed_in(browser, there)
        assert reply.status_code == 403
        assert "Nobody here is linked with this account (sub-1)" in reply.text
        assert COOKIE not in browser.client.cookies
        assert [one.ref for one in here.catalogue.creators()] == ["ada@example.org"]


async def test_the_role_is_ours_to_give(tmp_path, monkeypatch):
    async with both(tmp_path, monkeypatch) as (there, here):  # whose tokens say: operator
        browser, _ = await linked(here, there)
        await signed_in(browser, there)
        assert (await browser.get("/portal/desk/people")).status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"aud": "another"}},
        {"claims": {"exp": 1}},
        {"claims": {"iat": 4_000_000_000}},
        {"claims": {"nonce": None}},
        {"claims": {"nonce": "of somebody else"}},
        {"claims": {"at_hash": "A" * 22}},
        {"claims": {"sub": ""}},
        {"kid": "another"},
        {"key": rsa_key("another"), "kid": "k1"},
        {"alg": "none"},
        {"alg": "HS256"},
        {"header": {"crit": ["exp"]}},
        pytest.param({"altered": lambda made: made[:-8] + "AAAAAAAA"}, id="its end altered"),
        pytest.param({"altered": lambda made: made.rpartition(".")[0] + "."}, id="no signature"),
        pytest.param({"altered": lambda made: f"{b64(b'{}')}.{made.split('.')[1]}."}, id="another head"),
        pytest.param({"altered": lambda made: "a" * 20_000}, id="very long"),
    ],
    ids=lambda wrong: str(wrong)[:40],
)
async def test_a_token_that_is_wrong_in_any_way_signs_nobody_in(tmp_path, monkeypatch, wrong):
    async with both(tmp_path, monkeypatch) as (there, here):
        browser, _ = await linked(here, there)
        there.published = [jwk(there.key, "k1")]
        for name, value in wrong.items():
            setattr(there, name, value)
        reply = await signed_in(browser, there)
        assert reply.status_code == 401, reply.text
        assert COOKIE not in browser.client.cookies


async def test_a_way_back_is_worth_one_sign_in_in_the_browser_that_began_it(tmp_path, monkeypatch):
    async with both(tmp_path, monkeypatch) as (there, here):
        browser, _ = await linked(here, there)
        thief = await here.browser()
        location = there.agreed(await left(browser))
        flow = browser.client.cookies[FLOW_COOKIE]
        # Somebody else's browser, with and without a sign-in of its own under way.
        assert (await returned(thief, location)).status_code == 401
        await left(thief)
        assert (await returned(thief, location)).status_code == 401
        assert (await returned(browser, location)).status_code == 303
        # The same state again, and the same code in another sign-in.
        browser.client.cookies.set(FLOW_COOKIE, flow, domain="portal.test", path="/portal/sign-in/with")
        assert (await returned(browser, location)).status_code == 401
        code = parse_qs(urlsplit(location).query)["code"][0]
        await browser.get("/portal/")
        await browser.post("/portal/sign-out")
        state = parse_qs(urlsplit(await left(browser)).query)["state"][0]
        reply = await browser.get(f"/portal/sign-in/with/acme/back?code={code}&state={state}")
        assert reply.status_code == 401
        assert there.refusals == ["code"]


@pytest.mark.parametrize(
    "query",
    ["", "state=", "code=a&state=b", "error=access_denied", "state={state}&error=x&code=a", "state={state}"],
)
async def test_a_way_back_without_what_it_needs_leads_nowhere(tmp_path, monkeypatch, query):
    async with both(tmp_path, monkeypatch) as (there, here):
        browser = await here.browser()
        state = parse_qs(urlsplit(await left(browser)).query)["state"][0]
        reply = await browser.get("/portal/sign-in/with/acme/back?" + query.format(state=state))
        assert reply.status_code == 401
        assert there.times("/token") == 0


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/\\evil.example", "/v1/models"])
async def test_nobody_is_sent_elsewhere_afterwards(tmp_path, monkeypatch, back):
    async with both(tmp_path, monkeypatch) as (there, here):
        browser, _ = await linked(here, there)
        reply = await signed_in(browser, there, back=back)
        assert (reply.status_code, reply.headers["location"]) == (303, "/portal/")


async def test_a_form_of_another_site_sends_nobody_on_the_way(tmp_path, monkeypatch):
    async with both(tmp_path, monkeypatch) as (there, here):
        browser, _ = await linked(here, there)
        for headers, token in (({}, ""), ({"sec-fetch-site": "cross-site"}, browser.token)):
            for path in ("/portal/sign-in/with/acme", "/portal/me/with/acme"):
                reply = await browser.client.post(path, data={"token": token}, headers=headers)
                assert reply.status_code == 403
        await browser.get("/portal/sign-in")
        assert (await browser.post("/portal/sign-in/with/nobody")).status_code == 404
        assert (await browser.get("/portal/sign-in/with/nobody/back")).status_code == 404
        assert (await browser.get("/portal/sign-in/with/acme")).status_code in {404, 405}


async def test_only_who_began_to_link_an_account_has_it_linked(tmp_path, monkeypatch):
    async with both(tmp_path, monkeypatch) as (there, here):
        here.register("a text of hers")
        here.register("a text of his", creator="bo")
        key, other = here.key("creator", creator="ada")[1], here.key("creator", creator="bo")[1]
        browser = await here.browser(key)
        location = there.agreed(await left(browser, "/portal/me"))
        await browser.get("/portal/me")
        await browser.post("/portal/sign-out")
        assert (await returned(browser, location)).status_code == 401
        # Another person in the same browser is not given it either.
        await browser.sign_in(key)
        location = there.agreed(await left(browser, "/portal/me"))
        await browser.get("/portal/me")
        await browser.post("/portal/sign-out")
        await browser.sign_in(other)
        assert (await returned(browser, location)).status_code == 401
        assert (await signed_in(browser, there, "/portal/me")).headers["location"].endswith("linked")
        assert (await signed_in(browser, there, "/portal/me")).headers["location"].endswith("again")
        ada = await here.browser(key)
        refused = await signed_in(ada, there, "/portal/me")
        assert refused.status_code == 409
        assert "somebody else here" in refused.text


async def test_what_is_linked_is_seen_and_taken_away_by_the_person_and_by_operators(tmp_path, monkeypatch):
    async with both(tmp_path, monkeypatch) as (there, here):
        browser, _ = await linked(here, there)
        await signed_in(browser, there)
        page = await browser.get("/portal/me")
        identity = re.search(r"/portal/me/identities/(\w+)/remove", page.text)[1]
        ines = await here.browser(here.key("operator", name="Ines")[1])
        assert "sub-1" in (await ines.get("/portal/desk/people")).text
        here.register("a text of his", creator="bo")
        # Not by another creator, and not by an operator from the page of one's own.
        bo = await here.browser(here.key("creator", creator="bo")[1])
        for other in (bo, ines):
            await other.get("/portal/me")
            await other.post(f"/portal/me/identities/{identity}/remove")
        assert (await browser.get("/portal/me")).status_code == 200
        await ines.get("/portal/desk/people")
        reply = await ines.post(f"/portal/desk/identities/{identity}/remove")
        assert reply.headers["location"] == "/portal/desk/people?done=unlinked"
        assert (await browser.get("/portal/me")).status_code == 303
        assert (await signed_in(browser, there)).status_code == 403
        log = (await ines.get("/portal/desk/log")).text
        assert "Identity unlinked" in log
        # Linked anew, and removed by herself.
        await browser.sign_in(here.key("creator", creator="ada")[1])
        await signed_in(browser, there, "/portal/me")
        page = await browser.get("/portal/me?done=linked")
        identity = re.search(r"/portal/me/identities/(\w+)/remove", page.text)[1]
        reply = await browser.post(f"/portal/me/identities/{identity}/remove")
        assert reply.headers["location"] == "/portal/me?done=removed"
        assert "No account is linked" in (await browser.get("/portal/me")).text


async def test_a_revoked_key_ends_what_was_linked_with_it(tmp_path, monkeypatch):
    async with both(tmp_path, monkeypatch) as (there, here):
        browser, (key_id, _) = await linked(here, there, "operator", name="Ines")
        await signed_in(browser, there)
        assert (await browser.get("/portal/desk/people")).status_code == 200
        revoke(here.running.engine, key_id, clock=SystemClock())
        assert (await browser.get("/portal/desk/people")).status_code == 303
        refused = await signed_in(browser, there)
        assert refused.status_code == 401
        assert "has ended" in refused.text


async def test_a_provider_that_is_away_is_said_to_be_and_the_key_still_signs_in(tmp_path, monkeypatch):
    async with both(tmp_path, monkeypatch) as (there, here):
        browser = await here.browser()
        there.answers["/.well-known/openid-configuration"] = (503, b"")
        await browser.get("/portal/sign-in")
        page = await browser.post("/portal/sign-in/with/acme")
        assert page.status_code == 503
        assert "Acme cannot be asked just now" in page.text
        assert page.headers["retry-after"]
        assert FLOW_COOKIE not in browser.client.cookies
        assert (await browser.sign_in(here.key("operator", name="Ines")[1])).status_code == 303


async def test_attempts_are_counted_with_all_others(tmp_path, monkeypatch):
    async with identity_provider() as there:
        rules = Oidc(address="http://localhost", providers=(there.rules(),))
        async with portal(tmp_path, oidc=rules, portal=Portal(sign_ins_per_min=2)) as here:
            browser = await here.browser()
            await browser.get("/portal/sign-in")
            told = [(await browser.post("/portal/sign-in/with/acme")).status_code for _ in range(3)]
            assert told == [200, 200, 429]
            assert (await browser.get("/portal/sign-in/with/acme/back")).status_code == 429


async def test_without_providers_there_is_no_button_and_nothing_to_link(tmp_path):
    async with portal(tmp_path) as here:
        stranger = await here.browser()
        assert "Sign in with" not in (await stranger.get("/portal/sign-in")).text
        ines = await here.browser(here.key("operator", name="Ines")[1])
        page = (await ines.get("/portal/me")).text
        assert "Link an account" not in page


async def test_scripts_link_see_and_remove_what_is_theirs(tmp_path, monkeypatch):
    async with both(tmp_path, monkeypatch) as (there, here):
        here.register("a text of hers")
        here.register("a text of his", creator="bo")
        stranger = await here.browser()

        def bearer(role, **who):
            return {"authorization": f"Bearer {here.key(role, **who)[1]}"}

        ines, ada, bo = (
            bearer("operator", name="Ines"),
            bearer("creator", creator="ada"),
            bearer("creator", creator="bo"),
        )
        wish = {"provider": "acme", "subject": "sub-1", "role": "creator", "creator": "ada"}
        for headers, status in (({}, 401), (ada, 403), (bearer("app", name="shop"), 403)):
            reply = await stranger.client.post("/api/identities", json=wish, headers=headers)
            assert reply.status_code == status
        made = (await stranger.client.post("/api/identities", json=wish, headers=ines)).json()
        assert (made["changed"], made["issuer"], made["linked_by"]) == (True, there.issuer, "Ines")
        again = (await stranger.client.post("/api/identities", json=wish, headers=ines)).json()
        assert again == made | {"changed": False}
        assert (await signed_in(stranger, there)).status_code == 303
        for headers, count in ((ines, 1), (ada, 1), (bo, 0)):
            told = (await stranger.client.get("/api/identities", headers=headers)).json()
            assert len(told["items"]) == count
            assert told["providers"] == [{"name": "acme", "issuer": there.issuer}]
        for headers, changed in ((bo, False), (ada, True), (ines, False)):
            reply = await stranger.client.delete(f"/api/identities/{made['id']}", headers=headers)
            assert reply.json()["changed"] is changed
        for change, status in (({"provider": "x"}, 404), ({"creator": "x"}, 404), ({"subject": ""}, 400)):
            reply = await stranger.client.post("/api/identities", json=wish | change, headers=ines)
            assert reply.status_code == status


async def test_a_provider_is_refused_at_the_start_when_the_extra_is_not_installed(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    rules = Oidc(
        address="https://credits.example",
        providers=(OidcProvider(name="acme", issuer="https://id.example", client_id="credits"),),
    )
    with monkeypatch.context() as patched:
        patched.setattr("proxy.access.oidc.importlib.import_module", missing)
        with pytest.raises(SettingsError) as refused:
            async with portal(tmp_path, oidc=rules):
                pass
    assert refused.value.remedy == "pip install 'endcredits[oidc]'"


async def test_nothing_that_a_provider_or_a_browser_says_becomes_markup(tmp_path, monkeypatch):
    nasty = "<script>alert(1)</script>"
    async with both(tmp_path, monkeypatch, subject=nasty) as (there, here):
        browser = await here.browser()
        reply = await signed_in(browser, there)
        assert (reply.status_code, nasty in reply.text) == (403, False)
        Identities(here.running.engine, clock=SystemClock(), ids=RandomIds()).link_for(
            there.issuer, nasty, "operator", name="Ines", by="test"
        )
        assert (await signed_in(browser, there)).status_code == 303
        for path in ("/portal/me", "/portal/desk/people"):
            assert nasty not in (await browser.get(path)).text
        assert HOST not in (await browser.get("/portal/me")).text
