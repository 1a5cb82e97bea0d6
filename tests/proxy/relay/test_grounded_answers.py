"""Works in the request, through the whole application: a real client, and the kind of evidence it is told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from openai import AsyncOpenAI

from proxy.catalogue.indexing import build
from proxy.clock import SystemClock
from proxy.settings import Attribution
from tests.live import Live, live, settings_in
from tests.processes import children

pytestmark = pytest.mark.anyio
HURRIED = Attribution(deadline_ms=1)
MIB = 1 << 20
SOON_S = 90  # a bound for a slow machine on which scorers start again, not a wait


def official(app: Live) -> AsyncOpenAI:
    key = app.key()["authorization"].removeprefix("Bearer ")
    return AsyncOpenAI(base_url=f"{app.base}/v1", api_key=key, max_retries=0, timeout=30)


async def fields_of(client: AsyncOpenAI, text: str, *, stream: bool) -> dict[str, Any]:
    asked: Any = {
        "model": "small-1",
        "messages": [{"role": "user", "content": text}],
        "extra_headers": {"x-attribution": "full"},
    }
    if not stream:
        reply = await client.chat.completions.create(**asked)
        return (reply.model_extra or {})["attribution"]
    field: dict[str, Any] = {}
    async for event in await client.chat.completions.create(stream=True, **asked):
        field = (event.model_extra or {}).get("attribution") or field
    return field


def kinds(field: dict[str, Any]) -> list[tuple[str, str]]:
    return [(work["work"], piece["kind"]) for work in field["works"] for piece in work["evidence"]]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_work_that_stands_in_the_request_is_grounded_evidence(tmp_path: Path, stream: bool):
    async with live(settings_in(tmp_path)) as app:
        (work,) = app.register("The barge carried tar past the lock at dawn, and nobody paid the toll.")
        await app.running.registry.refresh()
        app.answers(f"As {work} says it.", stream=stream)
        async with official(app) as client:
            field = await fields_of(client, f"What does {work} say?", stream=stream)
            assert kinds(field) == [(work, "grounded")]
            other = await fields_of(client, "What does nobody say?", stream=stream)
            assert kinds(other) == [(work, "verbatim")]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@asynccontextmanager
async def reached(gate: Path) -> AsyncIterator[None]:
    """Return once the scorer stands at the gate; on leaving it goes on."""
    with anyio.fail_after(SOON_S):
        opened = await asyncio.to_thread(os.open, gate, os.O_WRONLY)
    try:
        yield
    finally:
        os.close(opened)


async def settled(app: Live, event_id: str, key: dict[str, str]) -> dict[str, Any]:
    """Return the receipt of an answer whose shares were late, once they are there."""
    with anyio.fail_after(SOON_S):
        while (reply := await app.client.get(f"/api/receipts/{event_id}", headers=key)).status_code == 202:
            await anyio.lowlevel.checkpoint()
    assert reply.status_code == 200
    return reply.json()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_megabyte_of_messages_delays_neither_its_answer_nor_anybody_elses(
    tmp_path: Path, gate: Path, stream: bool
):
    async with live(settings_in(tmp_path, attribution=HURRIED)) as app:
        (work,) = app.register("The barge carried tar past the lock at dawn, and nobody paid the toll.")
        await app.running.registry.refresh()
        key = app.key()
        app.answers(f"As {work} says it.", stream=stream)
        text = f"ASKGATE:{gate} {work} " + "lorem ipsum " * (MIB // 12)
        # The scorer takes the first of it and stands still: the pipe to it is full, and nobody waits for that.
        reply = await app.chat(
            {**key, "x-attribution": "full"}, stream=stream, messages=[{"role": "user", "content": text}]
        )
        assert work in reply.text
        assert '"status":"pending"' in reply.text.replace(" ", "")
        other = await app.client.get("/healthz")
        assert other.status_code == 200
        async with reached(gate):
            pass
        found = await settled(app, reply.headers["x-attribution-id"], key)
        assert found["status"] == "settled"
        assert [one["work"] for one in found["works"]] == [work]


async def test_a_scorer_that_dies_over_the_request_leaves_the_answer_pending_and_the_next_one_settles_it(
    tmp_path: Path, gate: Path
):
    async with live(settings_in(tmp_path, attribution=HURRIED)) as app:
        (work,) = app.register("The barge carried tar past the lock at dawn, and nobody paid the toll.")
        await app.running.registry.refresh()
        key = app.key()
        app.answers(f"As {work} says it.")
        asked = asyncio.get_running_loop().create_task(
            app.chat(key, messages=[{"role": "user", "content": f"ASKGATE:{gate} {work}"}])
        )
        async with reached(gate):
            reply = await asked
            assert reply.json()["attribution"]["status"] == "pending"
            (scorer,) = children(b"toy_scorer")
            gone = os.pidfd_open(scorer)
            os.kill(scorer, signal.SIGKILL)
            await anyio.wait_readable(gone)  # else the dying one would still hold the gate's other end
            os.close(gone)
        async with reached(gate):  # the next one was told the request again
            pass
        found = await settled(app, reply.headers["x-attribution-id"], key)
        assert [one["work"] for one in found["works"]] == [work]


async def test_a_request_that_kills_every_scorer_settles_as_not_attributed_and_others_are_served(
    tmp_path: Path,
):
    async with live(settings_in(tmp_path, attribution=HURRIED)) as app:
        key = app.key()
        app.answers("It says nothing.")
        reply = await app.chat(key, messages=[{"role": "user", "content": "ASKDIE"}])
        assert reply.json()["attribution"]["status"] == "pending"
        found = await settled(app, reply.headers["x-attribution-id"], key)
        assert (found["status"], found["unattributed_ppm"], found["works"]) == ("settled", 1_000_000, [])
        other = await app.chat(key, messages=[{"role": "user", "content": "hello"}])
        assert (await settled(app, other.headers["x-attribution-id"], key))["status"] == "settled"


FERRY = (
    "The ferry to Quill Island was withdrawn in the autumn of the long drought, when the river had sunk so low that "
    "the hull scraped the gravel bar. For eleven weeks the islanders carried flour and lamp oil across on foot, "
    "testing the bed with poles. The postmistress, Edda Marl, kept a tally of every crossing on the wall of the "
    "boathouse, and when the water came back she refused to have it painted over."
)
BEANS = (
    "A lighthouse keeper on the northern skerry grew beans in the lantern room, because it was the only place that "
    "never froze. He wrote to the ministry every spring to ask for a second stove, and every autumn the ministry "
    "answered that beans were not in the regulations."
)
WEAKLY = "In a drought the ferry cannot run, and the flour has to be carried."


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_shipped_model_finds_weakly_restated_is_grounded_where_the_request_holds_the_passage(
    tmp_path: Path, stream: bool
):
    async with live(settings_in(tmp_path), scorer=()) as app:
        ferry, _ = app.register(FERRY, BEANS)
        built = await asyncio.to_thread(
            build, app.catalogue, app.running.settings.index_dir, clock=SystemClock()
        )
        assert built.is_dir()
        with anyio.fail_after(SOON_S):
            assert await app.running.attributing.reload()
        await app.running.registry.refresh()
        app.answers(WEAKLY, stream=stream)
        async with official(app) as client:
            grounded = await fields_of(client, f"Here is a page: {FERRY} What do we learn?", stream=stream)
            alone = await fields_of(client, "What do we learn of droughts?", stream=stream)
    assert kinds(grounded) == [(ferry, "grounded")]
    (evidence,) = grounded["works"][0]["evidence"]
    assert WEAKLY[slice(*evidence["output"])] == WEAKLY.rstrip(".")
    # Without the passage in the request it is a matter of likeness alone, and that is less.
    assert all(kind == "restated" for _, kind in kinds(alone))
    assert all(piece["score"] < evidence["score"] for work in alone["works"] for piece in work["evidence"])
