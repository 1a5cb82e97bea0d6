"""A provider over real HTTP: asked once, believed when it is right, and left alone when it is not."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.access import providers
from proxy.access.oidc import NotBelieved, bound_to
from proxy.access.providers import DOCUMENT_BYTES_MAX, KEPT_S, KEYS_AGAIN_S, Provider, providers_of
from proxy.clock import SystemClock
from proxy.errors import SettingsError, Unavailable
from proxy.outside import Outside
from proxy.settings import Oidc, OidcProvider
from tests.identity_provider import SECRET, ec_key, identity_provider, jwk, rsa_key

pytestmark = pytest.mark.anyio
COOKIE, ADDRESS = "c" * 43, "https://credits.example"


class Later(SystemClock):
    """The machine's clock, moved on by hand for what is kept."""

    def __init__(self) -> None:
        self.more_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.more_s


@asynccontextmanager
async def asked(monkeypatch, **how):
    """(the provider there, ours for it, the clock)."""
    monkeypatch.setenv("ACME_SECRET", SECRET)
    outside, clock = Outside(), Later()
    async with identity_provider(**how) as there:
        rules = Oidc(address=ADDRESS, providers=(there.rules(client_secret_env="ACME_SECRET"),))
        try:
            yield there, providers_of(rules, lambda: outside, clock)["acme"], clock
        finally:
            await outside.aclose()


async def signed_in(there, ours: Provider, cookie=COOKIE) -> str:
    """Go there, say who one is, and come back."""
    back = parse_qs(urlsplit(there.agreed(await ours.way_out(cookie))).query)
    assert back["state"] == [bound_to(cookie).state]
    return await ours.subject(cookie, back["code"][0], back["iss"][0])


@pytest.mark.parametrize("how", [{}, {"alg": "ES256", "key": ec_key()}])
async def test_somebody_comes_back_as_who_they_are_there(monkeypatch, how):
    async with asked(monkeypatch, **how) as (there, ours, _):
        assert await signed_in(there, ours) == "sub-1"
        assert (await ours.way_out(COOKIE)).startswith(f"{there.issuer}/authorize?")
        assert there.refusals == []


async def test_its_documents_are_kept_for_an_hour(monkeypatch):
    async with asked(monkeypatch) as (there, ours, clock):
        for _ in range(3):
            await signed_in(there, ours)
        assert (there.times("/.well-known/openid-configuration"), there.times("/keys")) == (1, 1)
        clock.more_s = KEPT_S
        await signed_in(there, ours)
        assert (there.times("/.well-known/openid-configuration"), there.times("/keys")) == (2, 2)


async def test_a_new_key_is_read_at_once_and_made_up_ones_are_not_looked_for_each_time(monkeypatch):
    async with asked(monkeypatch) as (there, ours, clock):
        await signed_in(there, ours)
        there.kid, there.key = "k2", rsa_key("other")
        with pytest.raises(NotBelieved, match="does not publish"):
            await signed_in(there, ours)
        clock.more_s = KEYS_AGAIN_S
        assert await signed_in(there, ours) == "sub-1"
        assert there.times("/keys") == 2
        there.kid, there.published = "k3", [jwk(rsa_key("other"), "k2")]
        for _ in range(5):
            with pytest.raises(NotBelieved, match="does not publish"):
                await signed_in(there, ours)
        assert there.times("/keys") == 2
        clock.more_s *= 2
        with pytest.raises(NotBelieved, match="does not publish"):
            await signed_in(there, ours)
        assert there.times("/keys") == 3


async def test_a_code_is_worth_nothing_twice_nor_to_another_browser(monkeypatch):
    async with asked(monkeypatch) as (there, ours, _):
        address = await ours.way_out(COOKIE)
        code = parse_qs(urlsplit(there.agreed(address)).query)["code"][0]
        assert await ours.subject(COOKIE, code, there.issuer) == "sub-1"
        with pytest.raises(NotBelieved, match="did not confirm"):
            await ours.subject(COOKIE, code, there.issuer)
        code = parse_qs(urlsplit(there.agreed(address)).query)["code"][0]
        with pytest.raises(NotBelieved, match="did not confirm"):
            await ours.subject("d" * 43, code, there.issuer)
        assert there.refusals == ["code", "verifier"]


async def test_another_provider_does_not_answer_in_its_name(monkeypatch):
    async with asked(monkeypatch, documents={"authorization_response_iss_parameter_supported": True}) as (
        there,
        ours,
        _,
    ):
        for iss in ("https://evil.example", None, ""):
            with pytest.raises(NotBelieved, match="another provider"):
                await ours.subject(COOKIE, "code", iss)
        assert there.times("/token") == 0


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", (200, b"{" + b" " * DOCUMENT_BYTES_MAX)),
        ("/.well-known/openid-configuration", (500, b"{}")),
        ("/.well-known/openid-configuration", (302, b"{}")),
        ("/.well-known/openid-configuration", (200, b"nothing")),
        ("/keys", (200, b'{"keys": [' + b" " * DOCUMENT_BYTES_MAX)),
        ("/keys", (404, b"{}")),
        ("/keys", (200, b"[]")),
        ("/token", (503, b"{}")),
        ("/token", (200, b" " * (DOCUMENT_BYTES_MAX + 1))),
    ],
)
async def test_a_provider_that_does_not_work_is_told_of_and_asked_again_next_time(monkeypatch, path, answer):
    async with asked(monkeypatch, answers={path: answer}) as (there, ours, _):
        with pytest.raises(Unavailable) as refused:
            await signed_in(there, ours)
        assert refused.value.code == "oidc_unavailable"
        there.answers.clear()
        assert await signed_in(there, ours) == "sub-1"


async def test_a_provider_that_is_down_is_told_of():
    outside = Outside()
    nobody = OidcProvider(name="acme", issuer="http://127.0.0.1:1", client_id="credits", private=True)
    ours = providers_of(Oidc(address=ADDRESS, providers=(nobody,)), lambda: outside, SystemClock())["acme"]
    with pytest.raises(Unavailable, match="Acme cannot be asked"):
        await ours.way_out(COOKIE)
    await outside.aclose()


async def test_who_waits_for_a_provider_that_is_away_waits_for_one_question_and_not_for_everybodys():
    asked, go_on, clock = [], asyncio.Event(), Later()

    class Away:
        async def ask(self, method, url, **_):
            asked.append(url)
            await go_on.wait()
            raise Unavailable("no answer within 10 s")

    ours = providers_of(Oidc(address=ADDRESS, providers=(OidcProvider(**GOOD),)), Away, clock)["acme"]

    async def refused() -> str:
        with pytest.raises(Unavailable, match="no answer within 10 s") as why:
            await ours.way_out(COOKIE)
        return why.value.cause

    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(refused()) for _ in range(20)]
        await asyncio.sleep(0)
        clock.more_s = 10.0
        go_on.set()
    assert len({one.result() for one in waiting}) == 1
    assert len(asked) == 1
    await refused()  # who comes later is asked for
    assert len(asked) == 2


@pytest.mark.parametrize(
    "answer", [b"{}", b"nothing", b'{"id_token": 7}', json.dumps({"id_token": "a.b.c"}).encode()]
)
async def test_an_answer_without_an_id_token_signs_nobody_in(monkeypatch, answer):
    async with asked(monkeypatch, answers={"/token": (200, answer)}) as (there, ours, _):
        with pytest.raises(NotBelieved):
            await signed_in(there, ours)


GOOD = {"name": "acme", "issuer": "https://id.example", "client_id": "credits"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"issuer": "http://id.example"}, "issuer"),
        ({"issuer": "id.example"}, "issuer"),
        ({"issuer": "https://id.example/?a=1"}, "issuer"),
        ({"issuer": "ftp://id.example", "private": True}, "issuer"),
        ({"client_id": ""}, "client_id"),
        ({"scopes": ()}, "openid"),
        ({"scopes": ("openid", "a b")}, "openid"),
        ({"client_secret_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
        ({"client_secret_file": "/nowhere/secret"}, "/nowhere/secret"),
    ],
)
def test_a_provider_that_cannot_work_as_written_is_refused_at_the_start(change, said):
    rules = Oidc(address=ADDRESS, providers=(OidcProvider(**(GOOD | change)),))
    with pytest.raises(SettingsError, match=said):
        providers_of(rules, lambda: None, SystemClock())


@pytest.mark.parametrize(
    "address",
    [
        "",
        "credits.example",
        "http://credits.example",
        "https://credits.example/portal",
        "https://a@b.example",
    ],
)
def test_our_own_address_must_be_one_that_browsers_reach(address):
    with pytest.raises(SettingsError, match="address"):
        providers_of(Oidc(address=address, providers=(OidcProvider(**GOOD),)), lambda: None, SystemClock())


def test_two_of_a_name_are_refused_and_none_needs_no_library(monkeypatch):
    twice = Oidc(address=ADDRESS, providers=(OidcProvider(**GOOD), OidcProvider(**GOOD)))
    with pytest.raises(SettingsError, match="two providers"):
        providers_of(twice, lambda: None, SystemClock())

    def missing():
        raise SettingsError("not installed")

    monkeypatch.setattr(providers, "library", missing)
    assert providers_of(Oidc(), lambda: None, SystemClock()) == {}


def test_a_secret_is_read_from_its_file_and_no_secret_is_a_public_client(tmp_path):
    (tmp_path / "secret").write_text("word\n", encoding="utf-8")
    for more, secret in (({"client_secret_file": str(tmp_path / "secret")}, "word"), ({}, "")):
        rules = Oidc(address="http://localhost:8080", providers=(OidcProvider(**(GOOD | more)),))
        made = providers_of(rules, lambda: None, SystemClock())["acme"]
        assert made._client == ("credits", secret)


def test_settings_are_checked_without_asking_anybody():
    assert providers.check(Oidc(address=ADDRESS, providers=(OidcProvider(**GOOD),))) == ("acme",)
    assert providers.check(Oidc()) == ()
