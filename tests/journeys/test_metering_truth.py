"""What gateways lose, double or bill twice, over HTTP and down to the store: here each answer is one true event.

One test for each kind of complaint that users of gateways have made in public. Budgets that many race for are in
test_limits_while_serving.py, keys without a store in tests/proxy/access.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.metering import store as metering
from proxy.settings import Routing
from tests.builders import chat_request, chunk, usage_chunk
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio
DONE = b"data: [DONE]\n\n"


async def booked(app, count):
    """Wait until the store holds so many answers, and return them all."""
    async with asyncio.timeout(30):
        while len(found := list(metering.usage(app.running.engine))) < count:  # noqa: ASYNC110  the store tells nobody
            await asyncio.sleep(0.02)
    return found


async def streamed(app, headers, *, read=None, **changes):
    """Ask for a stream and read `read` events of it, or all."""
    seen = []
    body = chat_request(stream=True, **changes)
    async with app.client.stream("POST", "/v1/chat/completions", content=body, headers=headers) as reply:
        async for line in reply.aiter_lines():
            seen.append(line)
            if read is not None and len(seen) >= read:
                break
    return seen


def says(app, *pieces):
    app.answers("", stream=True)
    app.backend.pieces = list(pieces)


async def test_a_stream_whose_client_left_is_one_event_with_the_backends_own_usage(tmp_path):
    """Elsewhere such streams are free, or billed in full by a guess."""
    async with live(settings_in(tmp_path / "data")) as app:
        headers = app.key(name="shop")
        says(
            app,
            chunk("the sea "),
            *[chunk("and the gulls ") for _ in range(400)],
            chunk(finish="stop"),
            usage_chunk(11, 807),
            DONE,
        )
        await streamed(app, headers, read=1)
        (event,) = await booked(app, 1)
        assert (event.input_tokens, event.output_tokens, event.estimated) == (11, 807, False)
        assert event.outcome in {"cut", "complete"}


async def test_where_nobody_reads_on_the_backend_is_left_and_only_what_was_told_is_billed(tmp_path):
    """Elsewhere the backend goes on for nobody, and all of it is billed."""
    is_left = asyncio.Event()

    async def endless():
        try:
            yield chunk("the sea ")
            await asyncio.Event().wait()
        finally:
            is_left.set()

    async with live(settings_in(tmp_path / "data", routing=Routing(client_left="abort"))) as app:
        headers = app.key(name="shop")
        says(app)
        app.backend.pieces = endless
        await streamed(app, headers, read=1)
        async with asyncio.timeout(30):
            await is_left.wait()
        (event,) = await booked(app, 1)
        assert (event.outcome, event.estimated) == ("cut", True)
        assert 0 < event.output_tokens < 10


async def test_usage_that_the_client_did_not_ask_for_is_metered_and_not_shown(tmp_path):
    """Elsewhere streams without include_usage are estimated, or come with a chunk nobody asked for."""
    async with live(settings_in(tmp_path / "data")) as app:
        headers = app.key(name="shop")
        says(app, chunk("the sea"), chunk(finish="stop"), usage_chunk(3, 5), DONE)
        quiet = await streamed(app, headers)
        asked = await streamed(app, headers, stream_options={"include_usage": True})
        assert not any('"usage"' in line for line in quiet)
        assert any('"usage"' in line for line in asked)
        events = await booked(app, 2)
        assert [(event.input_tokens, event.output_tokens, event.estimated) for event in events] == [
            (3, 5, False)
        ] * 2


async def test_answers_that_look_alike_are_events_of_their_own_and_each_is_one(tmp_path):
    """Elsewhere answers without an id of the backend overwrite each other's rows, and retries add to them."""
    async with live(settings_in(tmp_path / "data")) as app:
        headers = app.key(name="shop")
        app.answers("the same answer")
        replies = await asyncio.gather(*[app.chat(headers) for _ in range(20)])
        told = {reply.headers["x-attribution-id"] for reply in replies}
        events = await booked(app, 20)
        assert len(told) == 20
        assert {event.id for event in events} == told
        await app.running.sink.drain()
        assert len(list(metering.usage(app.running.engine))) == 20


async def test_fetching_an_answer_again_is_no_second_event(tmp_path):
    """Elsewhere a response that is retrieved is billed again."""
    async with live(settings_in(tmp_path / "data")) as app:
        headers = app.key(name="shop")
        reply = {
            "id": "resp_1", "object": "response", "status": "completed", "model": "m",
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "the sea"}]}],
            "usage": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5},
        }  # fmt: skip
        app.backend.pieces = [json.dumps(reply).encode()]
        asked = {"model": "m", "input": "tell me"}
        assert (await app.client.post("/v1/responses", json=asked, headers=headers)).status_code == 200
        for _ in range(3):
            assert (await app.client.get("/v1/responses/resp_1", headers=headers)).status_code == 200
        (event,) = await booked(app, 1)
        await app.running.sink.drain()
        assert [one.id for one in metering.usage(app.running.engine)] == [event.id]
