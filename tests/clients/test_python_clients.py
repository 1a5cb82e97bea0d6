"""Official Python clients at the bare backend and at the proxy before it: their own objects must say the same.

Each case asks once straight and once through the whole application on a real socket, and compares all that the
client made of the answers: every field of every object, whole or streamed. Ours besides is `attribution`, once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest

from proxy.access.store import create_key
from proxy.app import create_app
from proxy.clock import RandomIds, SystemClock
from proxy.settings import Backend
from tests import fakes
from tests.live import TOY_SCORER, settings_in
from tests.scripted import SHAPE, TEXT, scripted

pytestmark = pytest.mark.anyio
ASK = {"model": "small-1", "messages": [{"role": "user", "content": "tell me of the sea"}]}
SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
    "additionalProperties": False,
}
FUNCTION = {"name": "light", "description": "Lights a lamp.", "parameters": SCHEMA, "strict": True}
TOOLS = [{"type": "function", "function": FUNCTION}]
USAGE = {"stream_options": {"include_usage": True}}


class Lamps(pydantic.BaseModel):
    place: str
    lamps: int


@pytest.fixture(scope="module")
async def addresses(tmp_path_factory) -> AsyncIterator[dict[str, tuple[str, str]]]:
    """(base URL, key) of the backend itself and of the proxy before it."""
    async with fakes.LoopbackBackend(scripted) as backend:
        settings = settings_in(tmp_path_factory.mktemp("proxy"), backends=(Backend(url=backend.url),))
        app = create_app(settings, scorer=TOY_SCORER)
        running = app.state.running
        await running.start()
        try:
            key = create_key(running.engine, "app", clock=SystemClock(), ids=RandomIds()).secret
            async with fakes.served(app) as url:
                yield {"straight": (backend.url, "none"), "through": (f"{url}/v1", key)}
        finally:
            await running.stop()


def plain(told: Any) -> Any:
    """What the client's objects hold, without a class in it."""
    if isinstance(told, pydantic.BaseModel):
        return told.model_dump(mode="json", warnings=False)  # parsed values are of the caller's own class
    if isinstance(told, list | tuple):
        return [plain(one) for one in told]
    return told


def without_credits(told: Any, found: list[Any]) -> Any:
    """Take every `attribution` out, into `found`."""
    if isinstance(told, list):
        return [without_credits(one, found) for one in told]
    if isinstance(told, dict):
        found += [value for name, value in told.items() if name == "attribution"]
        return {name: without_credits(value, found) for name, value in told.items() if name != "attribution"}
    return told


async def listed(stream: Any) -> list[Any]:
    return [event async for event in await stream]


async def chat_helper(client: Any, **more: Any) -> Any:
    async with client.chat.completions.stream(**ASK, **more) as stream:
        chunks = [event.chunk async for event in stream if event.type == "chunk"]  # credits stay with theirs
        return [chunks, await stream.get_final_completion()]


async def response_helper(client: Any, **more: Any) -> Any:
    async with client.responses.stream(model="small-1", input="a", **more) as stream:
        kinds = [event.type async for event in stream]
        return [kinds, await stream.get_final_response()]


def chat(**more: Any) -> Any:
    return lambda client: client.chat.completions.create(**ASK, **more)


def completion(**more: Any) -> Any:
    return lambda client: client.completions.create(model="small-1", prompt="a", **more)


def response(**more: Any) -> Any:
    return lambda client: client.responses.create(model="small-1", input="a", **more)


def streamed(asking: Any) -> Any:
    return lambda client: listed(asking(client))


# name: (what is asked, what must be in the answer)
CASES = {
    "chat": (chat(), TEXT),
    "chat, tools": (chat(tools=TOOLS), "light"),
    "chat, two choices": (chat(n=2), " (1)"),
    "chat, a schema parsed": (lambda client: client.chat.completions.parse(**ASK, response_format=Lamps), SHAPE),
    "chat stream": (streamed(chat(stream=True)), "went round it"),
    "chat stream, usage asked": (streamed(chat(stream=True, **USAGE)), "cached_tokens"),
    "chat stream, tools": (streamed(chat(stream=True, tools=TOOLS)), "call_1"),
    "chat stream, two choices and usage": (streamed(chat(stream=True, n=2, **USAGE)), " (1)"),
    "chat helper": (chat_helper, TEXT),
    "chat helper, tools": (lambda client: chat_helper(client, tools=TOOLS), "light"),
    "chat helper, a schema": (lambda client: chat_helper(client, response_format=Lamps), "the tower"),
    "completions": (completion(), TEXT),
    "completions, two choices": (completion(n=2), " (1)"),
    "completions stream": (streamed(completion(stream=True)), "went round it"),
    "completions stream, two choices and usage": (
        streamed(completion(stream=True, n=2, **USAGE)), "cached_tokens"),
    "responses": (response(), TEXT),
    "responses, tools": (response(tools=[{"type": "function", **FUNCTION}]), "light"),
    "responses, a schema parsed": (
        lambda client: client.responses.parse(model="small-1", input="a", text_format=Lamps), "the tower"),
    "responses stream": (streamed(response(stream=True)), TEXT),
    "responses stream, tools": (
        streamed(response(stream=True, tools=[{"type": "function", **FUNCTION}])), "call_1"),
    "responses helper": (response_helper, TEXT),
    "responses helper, a schema": (lambda client: response_helper(client, text_format=Lamps), "the tower"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_openai_python_is_told_what_the_backend_says_and_credits_once(addresses, case):
    asking, said = CASES[case]
    told, credits_ = {}, {}
    for way, (base, key) in addresses.items():
        async with openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=0) as client:
            credits_[way] = []
            told[way] = without_credits(plain(await asking(client)), credits_[way])
    assert told["through"] == told["straight"]
    assert said in str(told["straight"]), "the case says something"
    assert credits_["straight"] == []
    assert [found["status"] for found in credits_["through"]] == ["settled"]


async def test_a_refusal_of_the_backend_is_the_same_exception(addresses):
    told = {}
    for way, (base, key) in addresses.items():
        async with openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=0) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(**{**ASK, "model": "refused"})
            told[way] = (str(refused.value), refused.value.code, refused.value.param, refused.value.body)
    assert told["through"] == told["straight"]
