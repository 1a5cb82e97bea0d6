"""The official client against the relay on a real socket, with a scripted backend behind it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import openai
import pytest

from proxy.settings import Backend, Settings
from tests import fakes
from tests.builders import DONE, World, chat_reply, chat_stream, chunk, frame, usage_chunk

pytestmark = pytest.mark.anyio
ASK = {"model": "small-1", "messages": [{"role": "user", "content": "tell me of the sea"}]}


@asynccontextmanager
async def journey(script, **more):
    """Yield the official client, the world around the relay, and the backend."""
    async with fakes.LoopbackBackend(script) as backend:
        world = World(backend, settings=Settings(backends=(Backend(url=backend.url),)), **more)
        async with (
            fakes.served(world.relay) as url,
            openai.AsyncOpenAI(
                base_url=f"{url}/v1", api_key=fakes.MemoryKeys.app_key, max_retries=0
            ) as client,
        ):
            yield client, world, backend
        await world.relay.aclose()


def replying(body: bytes):
    async def script(request, write):
        await write(fakes.http_reply(body))

    return script


def streaming(pieces):
    async def script(request, write):
        await write(fakes.STREAM_HEAD)
        for piece in pieces:
            await write(fakes.http_chunk(piece))
        await write(fakes.STREAM_END)

    return script


async def test_a_json_answer_carries_its_credits_to_the_client():
    async with journey(replying(chat_reply())) as (client, world, _):
        raw = await client.chat.completions.with_raw_response.create(**ASK)
        answer = raw.parse()
        assert answer.choices[0].message.content == "The lamp burned all night."
        assert answer.attribution["works"][0]["share_ppm"] == 400_000
        assert raw.headers["x-attribution"] == f"{fakes.WORK};ppm=400000"
        assert raw.headers["x-attribution-id"] == answer.attribution["id"] == world.journal.used[0].id


async def test_a_stream_carries_its_credits_on_the_finish_chunk():
    async with journey(streaming(chat_stream())) as (client, world, backend):
        stream = await client.chat.completions.create(**ASK, stream=True)
        chunks = [piece async for piece in stream]
        assert (
            "".join(piece.choices[0].delta.content or "" for piece in chunks) == "The lamp burned all night."
        )
        assert [hasattr(piece, "attribution") for piece in chunks] == [False, False, False, True]
        assert chunks[-1].attribution["id"] == stream.response.headers["x-attribution-id"]
        assert world.journal.used[0].output_tokens == 7
        assert b'"include_usage":true' in backend.requests[0].body


async def test_a_client_that_asks_for_usage_gets_its_chunk():
    async with journey(streaming(chat_stream())) as (client, _, _):
        stream = await client.chat.completions.create(
            **ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [piece async for piece in stream]
        assert chunks[-1].usage.completion_tokens == 7
        assert chunks[-1].choices == []
        assert chunks[-2].attribution["status"] == "settled"


async def test_tool_calls_pass_untouched_and_settle_unattributed():
    def call(**function):
        return frame({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
            {"index": 0, "finish_reason": None,
             "delta": {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}}]})  # fmt: skip

    pieces = [call(name="tide", arguments=""), call(arguments='{"at":'), call(arguments='"noon"}'),
              chunk(finish="tool_calls"), DONE]  # fmt: skip
    async with journey(streaming(pieces)) as (client, world, _):
        stream = await client.chat.completions.create(**ASK, stream=True)
        chunks = [piece async for piece in stream]
        arguments = "".join(c.choices[0].delta.tool_calls[0].function.arguments for c in chunks[:3])
        assert arguments == '{"at":"noon"}'
        assert chunks[-1].attribution["unattributed_ppm"] == 1_000_000
        assert world.journal.attributed[0].reason == "no_text"


async def test_two_choices_are_credited_when_the_second_is_over():
    pieces = [chunk("a", choice=0), chunk("b", choice=1), chunk(finish="stop", choice=1), chunk("c", choice=0),
              chunk(finish="stop", choice=0), usage_chunk(), DONE]  # fmt: skip
    async with journey(streaming(pieces)) as (client, world, _):
        stream = await client.chat.completions.create(**ASK, stream=True, n=2)
        chunks = [piece async for piece in stream]
        assert [hasattr(piece, "attribution") for piece in chunks] == [False] * 4 + [True]
        assert world.attributing.offered[world.journal.used[0].id] == [(0, "a"), (1, "b"), (0, "c")]


@pytest.mark.parametrize(
    ("status", "kind"),
    [("429 Too Many Requests", openai.RateLimitError), ("400 Bad Request", openai.BadRequestError)],
)
async def test_a_backends_error_is_the_clients_own_exception(status, kind):
    async def script(request, write):
        await write(fakes.http_reply(b'{"error":{"message":"as the backend says"}}', status=status))

    async with journey(script) as (client, world, _):
        with pytest.raises(kind, match="as the backend says"):
            await client.chat.completions.create(**ASK)
        assert world.journal.records == []


async def test_our_own_refusals_are_the_clients_own_exceptions():
    async with journey(replying(chat_reply())) as (client, _, _):
        with pytest.raises(openai.AuthenticationError, match="not known"):
            await client.with_options(api_key="ec_app_" + "z" * 32).chat.completions.create(**ASK)
        with pytest.raises(openai.BadRequestError, match="x-attribution-top"):
            await client.chat.completions.create(**ASK, extra_headers={"x-attribution-top": "99"})


async def test_a_stream_that_the_backend_breaks_off_is_an_error_for_the_client_and_one_cut_event():
    async def script(request, write):
        await write(fakes.STREAM_HEAD + fakes.http_chunk(chunk("half ")))

    async with journey(script) as (client, world, _):
        stream = await client.chat.completions.create(**ASK, stream=True)
        with pytest.raises((openai.APIError, Exception), match=r"(?i)incomplete|closed|connection"):
            _ = [piece async for piece in stream]
        assert [used.outcome for used in world.journal.used] == ["cut"]


async def test_a_client_that_leaves_is_one_cut_event_with_all_that_was_generated():
    client_left = asyncio.Event()

    async def script(request, write):
        await write(fakes.STREAM_HEAD + fakes.http_chunk(chunk("one ")))
        await client_left.wait()
        for piece in [chunk("two"), chunk(finish="stop"), usage_chunk(11, 2), DONE]:
            await write(fakes.http_chunk(piece))
        await write(fakes.STREAM_END)

    async with journey(script) as (client, world, _):
        recorded = asyncio.Event()
        world.journal.on_attributed = recorded.set
        stream = await client.chat.completions.create(**ASK, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await world.log.heard("client_left").wait()
        client_left.set()
        await recorded.wait()
        (used,) = world.journal.used
        assert (used.outcome, used.output_tokens, used.estimated) == ("cut", 2, False)
        assert [text for _, text in world.attributing.offered[used.id]] == ["one ", "two"]


async def test_fifty_streams_at_once_leave_one_event_each():
    async with journey(streaming(chat_stream())) as (client, world, _):

        async def one():
            stream = await client.chat.completions.create(**ASK, stream=True)
            return [piece async for piece in stream][-1].attribution["id"]

        ids = await asyncio.gather(*(one() for _ in range(50)))
        assert len(set(ids)) == 50
        assert sorted(used.id for used in world.journal.used) == sorted(ids)
        assert sorted(record.id for record in world.journal.attributed) == sorted(ids)


async def test_other_routes_pass_through_the_client_as_well():
    body = b'{"object":"list","data":[{"id":"small-1","object":"model","created":1,"owned_by":"x"}]}'
    async with journey(replying(body)) as (client, world, backend):
        assert [model.id async for model in client.models.list()] == ["small-1"]
        assert backend.requests[0].target == "/v1/models"
        assert world.journal.records == []
