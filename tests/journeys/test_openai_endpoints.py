"""The official client on every endpoint that it has a method for, against the relay on a real socket."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests import fakes
from tests.builders import DONE, frame
from tests.journeys.test_openai_client import journey, replying, streaming
from tests.proxy.relay.test_endpoints import ASKED, STREAMS, USAGE, completion, response

pytestmark = pytest.mark.anyio
COMPLETION = {
    "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "small-1-2026",
    "choices": [{"index": 0, "text": "The sea", "finish_reason": "stop", "logprobs": None}],
    "usage": {**USAGE, "total_tokens": 18},
}  # fmt: skip


async def test_a_legacy_completion_and_its_stream_carry_credits():
    async with journey(replying(json.dumps(COMPLETION).encode())) as (client, world, _):
        answer = await client.completions.create(model="small-1", prompt="a")
        assert answer.choices[0].text == "The sea"
        assert answer.attribution["works"][0]["work"] == fakes.WORK
        assert world.journal.used[0].endpoint == "completions"
    usage = frame({"choices": [], "usage": USAGE})
    pieces = [completion("The "), completion("sea"), completion("", finish="stop"), usage, DONE]
    async with journey(streaming(pieces)) as (client, world, _):
        stream = await client.completions.create(model="small-1", prompt="a", stream=True)
        chunks = [chunk async for chunk in stream]
        assert (
            "".join(chunk.choices[0].text for chunk in chunks) == "The sea"
        )  # usage nobody asked for is kept
        assert [hasattr(chunk, "attribution") for chunk in chunks] == [False, False, True]
        assert world.journal.used[0].output_tokens == 7


async def test_a_response_carries_its_credits():
    async with journey(replying(json.dumps(response("The sea")).encode())) as (client, world, _):
        answer = await client.responses.create(model="small-1", input="a")
        assert answer.output_text == "The sea"
        assert answer.attribution["works"][0]["work"] == fakes.WORK
        assert world.journal.used[0].endpoint == "responses"


async def test_a_response_stream_keeps_its_numbers_and_ends_with_credits_in_the_response():
    events = STREAMS["responses"].events
    async with journey(streaming(events)) as (client, world, _):
        stream = await client.responses.create(model="small-1", input="a", stream=True)
        seen = [event async for event in stream]
        assert [event.sequence_number for event in seen] == list(range(len(events)))
        assert seen[-1].response.attribution["id"] == world.journal.used[0].id
        assert seen[-1].response.output_text == "The sea"


async def test_a_background_response_is_metered_once_however_often_it_is_fetched():
    ready = json.dumps(response("The sea")).encode()
    promise = json.dumps(response("", status="queued", output=[], usage=None)).encode()

    async def script(request, write):
        await write(fakes.http_reply(promise if request.method == "POST" else ready))

    async with journey(script, promise_wait_s=0) as (client, world, _):
        metered = asyncio.Event()
        world.journal.on_attributed = metered.set
        promised = await client.responses.create(model="small-1", input="a", background=True)
        assert (promised.status, promised.attribution["status"]) == ("queued", "pending")
        await metered.wait()
        for _ in range(3):
            assert (await client.responses.retrieve(promised.id)).output_text == "The sea"
        assert [used.id for used in world.journal.used] == [promised.attribution["id"]]


async def test_transcriptions_and_speech_go_through_the_audio_methods():
    async with journey(replying(b'{"text":"The sea"}')) as (client, world, backend):
        heard = await client.audio.transcriptions.create(model="small-1", file=("a.mp3", b"\xff\xfb" * 5_000))
        assert heard.text == "The sea"
        assert heard.attribution["works"][0]["work"] == fakes.WORK
        assert world.journal.used[0].model == "small-1"
        assert backend.requests[0].body_bytes > 10_000
    async with journey(streaming(STREAMS["transcriptions"].events)) as (client, _, _):
        stream = await client.audio.transcriptions.create(model="small-1", file=("a.mp3", b"x"), stream=True)
        seen = [event async for event in stream]
        assert seen[-1].text == "The sea"
        assert seen[-1].attribution["status"] == "settled"

    async def speaking(request, write):
        await write(fakes.http_reply(b"ID3" * 900, kind="audio/mpeg"))

    async with journey(speaking) as (client, world, _):
        spoken = await client.audio.speech.create(model="small-1", input="The sea is old", voice="alloy")
        assert spoken.content == b"ID3" * 900
        assert world.attributing.offered[world.journal.used[0].id] == [(0, "The sea is old")]


async def test_pictures_embeddings_and_moderations_are_metered():
    drawn = {
        "created": 1,
        "data": [{"b64_json": "AAAA"}],
        "usage": {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18},
    }
    async with journey(replying(json.dumps(drawn).encode())) as (client, world, _):
        picture = await client.images.generate(model="small-1", prompt="a lighthouse")
        assert picture.attribution["reason"] == "not_attributed"
        edited = await client.images.edit(model="small-1", prompt="a tower", image=("a.png", b"\x89PNG"))
        assert edited.data[0].b64_json == "AAAA"
        assert [used.endpoint for used in world.journal.used] == ["images.generations", "images.edits"]
        assert [used.output_tokens for used in world.journal.used] == [7, 7]
    numbers = {"object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
               "usage": {"prompt_tokens": 3, "total_tokens": 3}}  # fmt: skip
    async with journey(replying(json.dumps(numbers).encode())) as (client, world, _):
        embedded = await client.embeddings.create(model="small-1", input="The sea", encoding_format="float")
        assert embedded.data[0].embedding == [0.5]
        assert (world.journal.used[0].endpoint, world.journal.used[0].input_tokens) == ("embeddings", 3)


async def test_a_messages_client_streams_and_hears_errors_in_its_own_shape():
    async with journey(streaming(STREAMS["messages"].events)) as (client, world, _):
        asked = {**ASKED, "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}
        base = str(client.base_url).rstrip("/")
        async with httpx.AsyncClient(trust_env=False) as plain:
            key = {"x-api-key": fakes.MemoryKeys.app_key, "anthropic-version": "2023-06-01"}
            answer = await plain.post(f"{base}/messages", headers=key, json=asked)
            ends = [
                line
                for line in answer.text.splitlines()
                if '"message_delta"' in line and line.startswith("data")
            ]
            assert ["attribution" in json.loads(line[6:]) for line in ends] == [False, True]
            refused = await plain.post(f"{base}/messages", json=asked)
            assert refused.status_code == 401
            assert refused.json()["error"]["type"] == "authentication_error"
        assert (world.journal.used[0].endpoint, world.journal.used[0].input_tokens) == ("messages", 11)


async def test_a_long_upload_is_streamed_and_never_held():
    async def storing(request, write):
        await write(fakes.http_reply(b'{"id":"file-1","object":"file","bytes":%d}' % request.body_bytes))

    async with journey(storing) as (client, world, backend):
        stored = await client.files.create(
            file=("a.jsonl", b"x" * 40_000_000), purpose="batch"
        )  # over body_bytes_max
        assert stored.id == "file-1"
        assert backend.requests[0].body_bytes > 40_000_000
        assert world.journal.records == []
