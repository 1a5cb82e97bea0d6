"""The whole application on a loopback port, in this process: real store, journal, sink and relay.

The backend is a scripted transport and the scorer a toy whose words `w_...` are works, so that a test says in its
own text what an answer draws on.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from proxy.access.store import create_key
from proxy.app import at_once, create_app
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import NewWork
from proxy.clock import RandomIds, SystemClock
from proxy.front import Front
from proxy.running import Running
from proxy.settings import Attribution, Settings
from tests.builders import SSE, chat_reply, chat_request, chat_stream
from tests.fakes import FakeBackend, served
from tests.stores import lay

TOY_SCORER = (sys.executable, "-P", str(Path(__file__).parent / "proxy" / "relay" / "toy_scorer.py"))
PATIENT = Attribution(deadline_ms=20_000)  # a bound for a slow machine, not a wait


@dataclass
class Live:
    """A served application and a client for it."""

    base: str
    running: Running
    backend: FakeBackend
    client: httpx.AsyncClient

    def key(self, role: Any = "app", **who: str) -> dict[str, str]:
        """Make a key as the command line would, and return the header that carries it."""
        made = create_key(self.running.engine, role, clock=SystemClock(), ids=RandomIds(), **who)
        return {"authorization": f"Bearer {made.secret}"}

    def answers(self, text: str, *, stream: bool = False) -> None:
        """Let the backend answer every request with `text`."""
        self.backend.pieces = chat_stream(re.findall(r"\S+\s*", text)) if stream else [chat_reply(text)]
        self.backend.headers = SSE if stream else [(b"Content-Type", b"application/json")]

    async def chat(self, headers: dict[str, str], **changes: Any) -> httpx.Response:
        """Ask for a chat completion."""
        return await self.client.post(
            "/v1/chat/completions", content=chat_request(**changes), headers=headers
        )

    @property
    def catalogue(self) -> Catalogue:
        """The registry, as another process would open it."""
        return Catalogue(self.running.engine, clock=SystemClock(), ids=RandomIds())

    def register(self, *texts: str, creator: str = "ada") -> list[str]:
        """Register works and return their public ids."""
        works = [NewWork(f"{creator}-{n}", creator, f"Work {n}", text) for n, text in enumerate(texts)]
        return [outcome.work_id for outcome in self.catalogue.add_works(works)]


def settings_in(folder: Path, **sections: Any) -> Settings:
    """Settings with everything in `folder`, patient with slow machines unless told otherwise."""
    return Settings(data_dir=folder, **{"attribution": PATIENT, **sections})


@asynccontextmanager
async def live(settings: Settings, *, scorer: Any = TOY_SCORER, **parts: Any) -> AsyncIterator[Live]:
    """Serve the application of `settings`; on leaving, stop it as SIGTERM would."""
    backend = FakeBackend()
    if not settings.store.url:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lay(settings.store_url)
    limits = settings.server
    http = functools.partial(Front, bytes_per_s=limits.client_bytes_per_s)
    app = create_app(settings, **{"transport": backend.transport, "scorer": scorer, **parts})
    running: Running = app.state.running
    await running.start()
    try:
        async with (
            served(at_once(app), http=http, timeout_keep_alive=limits.client_idle_s) as base,
            httpx.AsyncClient(base_url=base, trust_env=False, timeout=30) as client,
        ):
            yield Live(base, running, backend, client)
    finally:
        await running.stop()
