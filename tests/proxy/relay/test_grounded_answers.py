"""Works in the request, through the whole application: a real client, and the kind of evidence it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.live import Live, live, settings_in

pytestmark = pytest.mark.anyio


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
