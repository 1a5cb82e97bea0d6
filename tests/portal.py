"""The pages in this process, without a socket or a scorer: people with keys, and browsers that hold cookies."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from proxy.access.store import create_key
from proxy.app import create_app
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import NewWork
from proxy.clock import RandomIds, SystemClock
from proxy.running import Running
from proxy.settings import Settings
from tests.live import settings_in
from tests.stores import lay

HOST = "http://portal.test"


class Browser:
    """What one person has open: cookies, and the token of the last form that was seen."""

    def __init__(self, app: Any) -> None:
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST)
        self.token = ""

    async def get(self, path: str, **more: Any) -> httpx.Response:
        reply = await self.client.get(path, **more)
        found = re.search(r'name="token" value="([^"]+)"', reply.text) if reply.is_success else None
        self.token = found.group(1) if found else self.token
        return reply

    async def post(self, path: str, data: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """Send a form with the token of the page before."""
        return await self.client.post(path, data={"token": self.token} | (data or {}), **more)

    async def sign_in(self, key: str, back: str = "/portal/") -> httpx.Response:
        await self.get("/portal/sign-in")
        reply = await self.post("/portal/sign-in", {"key": key, "back": back})
        if reply.status_code == 303:
            await self.get("/portal/")
        return reply


@dataclass
class Portal:
    """The application of one store. `stack` closes the browsers."""

    running: Running
    app: Any
    stack: AsyncExitStack
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.running.engine, clock=SystemClock(), ids=RandomIds())

    def key(self, role: Any, **who: str) -> tuple[str, str]:
        """Make a key; (id, secret)."""
        made = create_key(self.running.engine, role, clock=SystemClock(), ids=RandomIds(), **who)
        return made.id, made.secret

    def register(self, *texts: str, creator: str = "ada", title: str = "Work") -> list[str]:
        works = [NewWork(f"{creator}-{n}", creator, f"{title} {n}", text) for n, text in enumerate(texts)]
        return [outcome.work_id for outcome in self.catalogue.add_works(works)]

    async def browser(self, key: str = "") -> Browser:
        """Open a browser, signed in when a key is given."""
        made = Browser(self.app)
        await self.stack.enter_async_context(made.client)
        if key:
            assert (await made.sign_in(key)).status_code == 303
        return made


@asynccontextmanager
async def portal(folder: Any, **sections: Any) -> AsyncIterator[Portal]:
    """Open the pages on an empty store in `folder`. Nothing runs beside them."""
    settings: Settings = settings_in(folder, **sections)
    if not settings.store.url:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lay(settings.store_url)
    app = create_app(settings, scorer=("true",))
    running: Running = app.state.running
    async with AsyncExitStack() as stack:
        try:
            yield Portal(running, app, stack)
        finally:
            running.engine.dispose()
