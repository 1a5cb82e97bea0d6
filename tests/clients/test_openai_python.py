"""The official Python client at the bare backend and at the proxy before it: its own objects must say the same.

Each case asks once straight and once through the whole application on a real socket, in each view, and compares
all that the client made of the answers: every field of every object, whole or streamed. `tests.compared` says
what may differ.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai
import pydantic
import pytest

from tests.compared import BODY_BYTES_MAX, VIEWS, Way, Ways, assert_view, both_ways, parted
from tests.scripted import SHAPE, TEXT

pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": "tell me of the sea"}]
SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
    "additionalProperties": False,
}
FUNCTION = {"name": "light", "description": "Lights a lamp.", "parameters": SCHEMA, "strict": True}
TOOLS = [{"type": "function", "function": FUNCTION}]
RESPONSE_TOOLS = [{"type": "function", **FUNCTION}]
USAGE = {"stream_options": {"include_usage": True}}


class Lamps(pydantic.BaseModel):
    place: str
    lamps: int


@pytest.fixture(scope="module")
async def ways(tmp_path_factory) -> AsyncIterator[Ways]:
    async with both_ways(tmp_path_factory.mktemp("proxy")) as ways:
        yield ways


def client_at(way: Way, view: str = "body", **more: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        **{"base_url": way.base, "api_key": way.key, **more},
        max_retries=0,
        default_headers={"x-attribution": view},
    )


async def listed(stream: Any) -> list[Any]:
    return [event async for event in await stream]


async def chat_helper(client: Any, model: str, **more: Any) -> Any:
    async with client.chat.completions.stream(model=model, messages=MESSAGES, **more) as stream:
        chunks = [event.chunk async for event in stream if event.type == "chunk"]  # credits stay with theirs
        # The helper builds this one itself, of what it knows: annotations, and no `attribution`.
        return [chunks, await stream.get_final_completion()]


async def response_helper(client: Any, model: str, **more: Any) -> Any:
    async with client.responses.stream(model=model, input="a", **more) as stream:
        kinds = [event.type async for event in stream]
        return [kinds, await stream.get_final_response()]


def chat(**more: Any) -> Any:
    return lambda client, model: client.chat.completions.create(model=model, messages=MESSAGES, **more)


def completion(**more: Any) -> Any:
    return lambda client, model: client.completions.create(model=model, prompt="a", **more)


def response(**more: Any) -> Any:
    return lambda client, model: client.responses.create(model=model, input="a", **more)


def streamed(asking: Any) -> Any:
    return lambda client, model: listed(asking(client, model))


def chat_parsed(client: Any, model: str) -> Any:
    return client.chat.completions.parse(model=model, messages=MESSAGES, response_format=Lamps)


def response_parsed(client: Any, model: str) -> Any:
    return client.responses.parse(model=model, input="a", text_format=Lamps)


# name: (what is asked, what must be in the answer)
CASES = {
    "chat": (chat(), TEXT),
    "chat, tools": (chat(tools=TOOLS), "light"),
    "chat, two choices": (chat(n=2), " (1)"),
    "chat, a schema parsed": (chat_parsed, SHAPE),
    "chat stream": (streamed(chat(stream=True)), "went round it"),
    "chat stream, usage asked": (streamed(chat(stream=True, **USAGE)), "cached_tokens"),
    "chat stream, tools": (streamed(chat(stream=True, tools=TOOLS)), "call_1"),
    "chat stream, two choices and usage": (streamed(chat(stream=True, n=2, **USAGE)), " (1)"),
    "chat helper": (chat_helper, TEXT),
    "chat helper, tools": (lambda *who: chat_helper(*who, tools=TOOLS), "light"),
    "chat helper, a schema": (lambda *who: chat_helper(*who, response_format=Lamps), "the tower"),
    "completions": (completion(), TEXT),
    "completions, two choices": (completion(n=2), " (1)"),
    "completions stream": (streamed(completion(stream=True)), "went round it"),
    "completions stream, two choices and usage": (
        streamed(completion(stream=True, n=2, **USAGE)), "cached_tokens"),
    "responses": (response(), TEXT),
    "responses, tools": (response(tools=RESPONSE_TOOLS), "light"),
    "responses, a schema parsed": (response_parsed, "the tower"),
    "responses stream": (streamed(response(stream=True)), TEXT),
    "responses stream, tools": (streamed(response(stream=True, tools=RESPONSE_TOOLS)), "call_1"),
    "responses helper": (response_helper, TEXT),
    "responses helper, a schema": (lambda *who: response_helper(*who, text_format=Lamps), "the tower"),
}  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", CASES)
async def test_openai_python_is_told_what_the_backend_says_and_credits_once(ways, case, view):
    asking, said = CASES[case]
    async with client_at(ways.straight, view) as client:
        straight = parted(await asking(client, ways.model))
    async with ways.metering(1), client_at(ways.through, view) as client:
        through = parted(await asking(client, ways.model))
    assert through.said == straight.said
    assert said in str(straight.said), "the case says something"
    assert straight.credits == straight.citations == []
    work = "" if "tools" in case or "schema" in case else ways.model
    assert_view(through, view, work, cited="completions" not in case)


@pytest.mark.parametrize("view", VIEWS)
async def test_the_client_without_async_is_told_the_same(ways, view):
    def ask(way: Way) -> Any:
        with openai.OpenAI(base_url=way.base, api_key=way.key, max_retries=0,
                           default_headers={"x-attribution": view}) as client:  # fmt: skip
            asked = {"model": ways.model, "messages": MESSAGES}
            whole = client.chat.completions.create(**asked)
            return [parted(whole), parted(list(client.chat.completions.create(**asked, stream=True)))]

    straight = await anyio.to_thread.run_sync(ask, ways.straight)
    async with ways.metering(2):
        through = await anyio.to_thread.run_sync(ask, ways.through)
    assert [one.said for one in through] == [one.said for one in straight]
    for one in through:
        assert_view(one, view, ways.model, cited=True)


async def test_the_id_is_in_the_headers_before_the_first_event(ways):
    async with client_at(ways.through) as client:
        asked = client.chat.completions.with_raw_response
        raw = await asked.create(model=ways.model, messages=MESSAGES, stream=True)
        ids = {raw.headers["x-attribution-id"]}
        ids |= {chunk.attribution["id"] async for chunk in raw.parse() if hasattr(chunk, "attribution")}
    assert len(ids) == 1


async def test_a_client_that_leaves_a_stream_early_is_metered_for_all_that_was_generated(ways):
    async with ways.metering(1), client_at(ways.through) as client:
        stream = await client.chat.completions.create(model=ways.model, messages=MESSAGES, stream=True)
        async for _ in stream:
            break
        await stream.close()


REFUSED = {
    "refused": openai.BadRequestError,
    "busy": openai.RateLimitError,
    "broken": openai.InternalServerError,
}
ASKED = {
    "chat": chat(),
    "chat stream": chat(stream=True),
    "completions": completion(),
    "responses": response(),
    "responses stream": response(stream=True),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("model", REFUSED)
async def test_a_refusal_of_the_backend_is_the_same_exception(ways, model, asked):
    told = {}
    for way in (ways.straight, ways.through):
        async with client_at(way) as client:
            with pytest.raises(REFUSED[model]) as refused:
                await ASKED[asked](client, model)
            error = refused.value
            retry = error.response.headers.get("retry-after")
            told[way] = (str(error), error.status_code, error.code, error.param, error.body, retry)
    assert told[ways.through] == told[ways.straight]


@pytest.mark.parametrize("asked", ASKED)
async def test_our_own_refusals_are_the_clients_own_exceptions(ways, asked):
    async with ways.metering(0):
        async with client_at(ways.through, api_key="ec_app_" + "a" * 32) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await ASKED[asked](client, ways.model)
            assert refused.value.code == "invalid_api_key"
        async with client_at(ways.through, api_key=ways.narrow_key) as client:
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await ASKED[asked](client, ways.model)
            assert refused.value.code == "model_not_allowed"
        async with client_at(ways.through) as client:
            with pytest.raises(openai.APIStatusError) as refused:
                await client.chat.completions.create(
                    model=ways.model, messages=[{"role": "user", "content": "a" * BODY_BYTES_MAX}]
                )
            assert (refused.value.status_code, refused.value.code) == (413, "too_large")
