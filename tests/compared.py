"""Two ways to one backend that answers by rote: straight, and through the whole application on a real socket.

What a client made of both must be the same in every field of every object. Ours alone are `attribution` and the
citations of the `annotations` view; they are taken out here and counted, so that each view is held to exactly its own.
A work is registered under the name that the backend's model has, and its every answer in words quotes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pydantic

from proxy.access.store import create_key
from proxy.app import create_app
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import NewWork
from proxy.clock import RandomIds, SystemClock
from proxy.metering.store import totals
from proxy.running import Running
from proxy.settings import Backend, Server
from tests import fakes
from tests.live import TOY_SCORER, settings_in
from tests.scripted import scripted

VIEWS = ("body", "headers", "annotations", "off")
WORK_URL = "https://works.example/almanac"
SETTLED_S = 20  # a bound for a slow machine
BODY_BYTES_MAX = 100_000  # small, so that a client can be told that it sent too much


@dataclass(frozen=True)
class Way:
    """Where a client asks, with which key."""

    base: str  # with its /v1
    key: str

    @property
    def root(self) -> str:
        """The address before /v1, which Anthropic's clients add themselves."""
        return self.base.removesuffix("/v1")


@dataclass(frozen=True)
class Told:
    """What a client made of one answer, ours taken out of it."""

    said: Any
    credits: list[dict[str, Any]]
    citations: list[dict[str, Any]]


@dataclass
class Ways:
    """Both ways, and what the proxy wrote down meanwhile."""

    straight: Way
    through: Way
    narrow_key: str  # may use no model that is asked for here
    model: str  # answers with words from the work of this id
    running: Running

    @asynccontextmanager
    async def metering(self, events: int, *, tokens: tuple[int, int] = (11, 7)) -> AsyncIterator[None]:
        """What happens in the block is metered as so many answers of so many tokens, none lost, none doubled."""
        before = await self._totals()
        yield
        wanted = [events, events * tokens[0], events * tokens[1], 0]
        told: list[int] = []
        # An answer left early, or shown by headers alone, settles behind its end.
        with anyio.move_on_after(SETTLED_S):
            while told != wanted:
                await anyio.sleep(0.01)
                told = [now - then for now, then in zip(await self._totals(), before, strict=True)]
        assert told == wanted, "events, input tokens, output tokens, still pending"

    async def _totals(self) -> tuple[int, ...]:
        await self.running.sink.drain()
        found = totals(self.running.engine)
        return found.events, found.input_tokens, found.output_tokens, found.pending


@asynccontextmanager
async def both_ways(folder: Path, script: Any = scripted) -> AsyncIterator[Ways]:
    """Serve the backend and the application before it, with one registered work."""
    async with (
        fakes.LoopbackBackend(script) as backend,
        ways_to(Way(backend.url, "none"), Backend(url=backend.url), folder) as ways,
    ):
        yield ways


@asynccontextmanager
async def ways_to(straight: Way, backend: Backend, folder: Path) -> AsyncIterator[Ways]:
    """Serve the application before a backend that runs already; `straight` is how a client asks it."""
    settings = settings_in(folder, server=Server(body_bytes_max=BODY_BYTES_MAX), backends=(backend,))
    app = create_app(settings, scorer=TOY_SCORER)
    running: Running = app.state.running
    await running.start()
    try:
        made = {"clock": SystemClock(), "ids": RandomIds()}
        work = NewWork("almanac", "ada", "The Almanac", "The keeper lit the lamp.", url=WORK_URL)
        (entered,) = Catalogue(running.engine, **made).add_works([work])
        key = create_key(running.engine, "app", **made).secret
        narrow = create_key(running.engine, "app", models=("none-such",), **made).secret
        async with fakes.served(app) as url:
            yield Ways(straight, Way(f"{url}/v1", key), narrow, entered.work_id, running)
    finally:
        await running.stop()


def plain(told: Any) -> Any:
    """What the client's objects hold, without a class in it."""
    if isinstance(told, pydantic.BaseModel):
        return told.model_dump(mode="json", warnings=False)  # parsed values are of the caller's own class
    if dataclasses.is_dataclass(told) and not isinstance(told, type):
        return plain(dataclasses.asdict(told))
    if isinstance(told, list | tuple):
        return [plain(one) for one in told]
    if isinstance(told, dict):
        return {name: plain(value) for name, value in told.items()}
    return told


def parted(told: Any) -> Told:
    """Take ours out of plain values, however deep they lie.

    An empty list of annotations and none at all are one: a client's class may give either where ours were.
    """
    credits_: list[dict[str, Any]] = []
    citations: list[dict[str, Any]] = []

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(one) for one in value]
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, inner in value.items():
            if name == "attribution":
                credits_.append(inner)
            elif name == "annotations":
                citations.extend(one for one in inner or () if "work" in one)
                if theirs := [one for one in inner or () if "work" not in one]:
                    kept[name] = theirs
            else:
                kept[name] = without(inner)
        return kept

    return Told(without(plain(told)), credits_, citations)


def assert_view(told: Told, view: str, work: str = "", *, cited: bool = False) -> None:
    """The client found what this view gives, and no more.

    work: the work credited, "" when the answer has no words. cited: this place of the wire has citations.
    """
    if view in {"headers", "off"}:
        assert told.credits == told.citations == []
        return
    (credit,) = told.credits
    assert credit["status"] == "settled"
    assert [found["work"] for found in credit["works"]] == [work] * bool(work)
    if view == "annotations" and cited and work:
        assert {found["work"] for found in told.citations} == {work}
        assert all(found.get("url_citation", found)["url"] == WORK_URL for found in told.citations)
    else:
        assert told.citations == []
