"""Signing in by an identity provider in a real browser: over our page, to theirs, and back, with and without scripts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from proxy.access.sessions_store import Sessions
from proxy.app import create_app
from proxy.catalogue.store import Catalogue
from proxy.clock import RandomIds, SystemClock
from proxy.settings import Oidc
from tests.browser.test_public_pages import browser, looked_at, opened  # noqa: F401  a fixture is asked by name
from tests.identity_provider import SECRET, IdentityProvider, identity_provider
from tests.live import settings_in
from tests.stores import lay

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@dataclass
class Place:
    base: str
    engine: Any
    provider: IdentityProvider


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    """Our pages and a provider, both on loopback, in one loop of their own."""
    folder = tmp_path_factory.mktemp("identities")
    (folder / "secret").write_text(SECRET, encoding="utf-8")
    made: list[Place] = []
    ready = threading.Event()
    servers: list[uvicorn.Server] = []

    async def both() -> None:
        async with identity_provider() as provider:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                base = f"http://127.0.0.1:{listener.getsockname()[1]}"
                rules = provider.rules(client_secret_file=str(folder / "secret"), title="Acme")
                settings = settings_in(folder / "data", oidc=Oidc(address=base, providers=(rules,)))
                settings.data_dir.mkdir(parents=True)
                lay(settings.store_url)
                app = create_app(settings, scorer=("true",))
                engine = app.state.running.engine
                Catalogue(engine, clock=SystemClock(), ids=RandomIds()).add_creator(
                    "Ada Lindqvist", ref="ada"
                )
                made.append(Place(base, engine, provider))
                config = uvicorn.Config(app, lifespan="off", log_level="error", access_log=False)
                servers.append(uvicorn.Server(config))
                ready.set()
                await servers[0].serve(sockets=[listener])

    thread = threading.Thread(target=asyncio.run, args=(both(),), daemon=True)
    thread.start()
    assert ready.wait(60)
    yield made[0]
    with contextlib.suppress(IndexError):
        servers[0].should_exit = True
    thread.join()
    made[0].engine.dispose()


@pytest.mark.parametrize("script", [True, False])
def test_an_account_is_linked_once_and_signs_in_from_then_on(browser, place, script):  # noqa: F811
    place.provider.subject = f"sub-{script}"
    sessions = Sessions(place.engine, clock=SystemClock(), session_hours=1, link_hours=1)
    link = sessions.link("creator", creator="ada", by="test").secret
    page, troubles = opened(
        browser, place.base, java_script_enabled=script, viewport={"width": 360, "height": 800}
    )
    page.goto(f"{place.base}/portal/enter/{link}")
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{place.base}/portal/")
    page.get_by_role("link", name="Ada Lindqvist").click()
    page.get_by_role("button", name="Link with Acme").click()
    page.wait_for_url("**/portal/me?done=linked")
    assert place.provider.subject in page.inner_text("main")
    if script:
        looked_at(page, "creator-me", "light", 360)
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{place.base}/portal/works")
    if script:
        looked_at(page, "sign-in-providers", "light", 360)
    page.get_by_role("button", name="Sign in with Acme").click()
    page.wait_for_url("**/portal/works")
    assert "Ada Lindqvist" in page.inner_text("header")
    page.context.close()
    # Nothing was asked of anybody but us and the provider, and nothing was refused by our own policy.
    assert [one for one in troubles if not one.startswith(place.provider.issuer)] == []
