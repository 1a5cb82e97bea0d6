"""Endpoints through the whole application: registered works, a real journal and store, usage by the API."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.builders import SSE
from tests.live import live, settings_in
from tests.proxy.relay.test_endpoints import named, response

pytestmark = pytest.mark.anyio
JSON = [(b"Content-Type", b"application/json")]


async def test_every_wire_ends_in_the_same_books(tmp_path):
    async with live(settings_in(tmp_path)) as app:
        (work,) = app.register("The keeper lit the lamp and the sea went dark around it, year after year.")
        await app.running.registry.refresh()
        key = app.key()
        text = f"{work} and the sea"
        message = {
            "type": "message",
            "content": [{"type": "text", "text": text}],
            "usage": {"input_tokens": 3, "output_tokens": 4},
        }
        asked = {
            "/v1/messages": message,
            "/v1/responses": response(text),
            "/v1/completions": {"choices": [{"index": 0, "text": text}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
        }  # fmt: skip
        for path, reply in asked.items():
            app.backend.pieces, app.backend.headers = [json.dumps(reply).encode()], JSON
            answer = await app.client.post(path, headers=key, json={"model": "small-1"})
            assert answer.json()["attribution"]["works"][0]["work"] == work, answer.text
        app.backend.pieces = [
            named("message_start", message={"model": "m", "usage": {"input_tokens": 3}}),
            named("content_block_delta", index=0, delta={"type": "text_delta", "text": text}),
            named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 4}),
            named("message_stop"),
        ]
        app.backend.headers = SSE
        stream = await app.client.post("/v1/messages", headers=key, json={"model": "small-1", "stream": True})
        assert stream.text.count(work) == 2  # as said, and in the credits of the last message_delta
        lines: list[dict[str, str]] = []
        while len(lines) < 4:  # they are carried into the store behind the answers
            await asyncio.sleep(0.05)
            lines = (await app.client.get("/api/usage", headers=key)).json()["items"]
        assert sorted(line["endpoint"] for line in lines) == [
            "completions",
            "messages",
            "messages",
            "responses",
        ]
