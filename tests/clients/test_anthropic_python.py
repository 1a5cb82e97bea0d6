"""Anthropic's official client at the bare backend and at the proxy before it: its own objects must say the same.

It speaks /v1/messages, which local servers answer too, and has its own classes for refusals. `tests.compared` says
what may differ.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import anyio
import pytest

from tests.compared import BODY_BYTES_MAX, VIEWS, Way, Ways, assert_view, both_ways, parted
from tests.scripted import TEXT, THOUGHT

pytestmark = [pytest.mark.anyio, pytest.mark.clients]
MESSAGES = [{"role": "user", "content": "tell me of the sea"}]
SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
TOOLS = [{"name": "light", "description": "Lights a lamp.", "input_schema": SCHEMA}]
THINKING = {"type": "enabled", "budget_tokens": 1024}
TOKENS = (14, 7)  # what caches served counts as input


@pytest.fixture(scope="module")
async def ways(tmp_path_factory) -> AsyncIterator[Ways]:
    async with both_ways(tmp_path_factory.mktemp("proxy")) as ways:
        yield ways


def told_to(way: Way, view: str = "body", **more: Any) -> dict[str, Any]:
    return {
        "base_url": way.root, "api_key": way.key, "max_retries": 0, "default_headers": {"x-attribution": view}, **more,
    }  # fmt: skip


def create(**more: Any) -> Any:
    asked = {"messages": MESSAGES, "max_tokens": 2048, **more}
    return lambda client, model: client.messages.create(model=model, **asked)


def streamed(**more: Any) -> Any:
    async def ask(client: Any, model: str) -> list[Any]:
        return [event async for event in await create(stream=True, **more)(client, model)]

    return ask


def helper(**more: Any) -> Any:
    async def ask(client: Any, model: str) -> list[Any]:
        asked = client.messages.stream(model=model, messages=MESSAGES, max_tokens=2048, **more)
        async with asked as stream:
            events = [event async for event in stream]
            # Those of the helper's own making repeat the whole message; the one that carries credits is as it came.
            deltas = [event for event in events if event.type == "message_delta"]
            return [[event.type for event in events], deltas, await stream.get_final_message()]

    return ask


async def text_helper(client: Any, model: str) -> list[Any]:
    async with client.messages.stream(model=model, messages=MESSAGES, max_tokens=2048) as stream:
        return [[text async for text in stream.text_stream], await stream.get_final_text()]


# name: (what is asked, what must be in the answer)
CASES = {
    "whole": (create(), TEXT),
    "whole, tools": (create(tools=TOOLS), "toolu_1"),
    "whole, thinking": (create(thinking=THINKING), THOUGHT),
    "whole, thinking and tools": (create(thinking=THINKING, tools=TOOLS), "toolu_1"),
    "events": (streamed(), "went round it"),
    "events, tools": (streamed(tools=TOOLS), "toolu_1"),
    "events, thinking": (streamed(thinking=THINKING), "signature_delta"),
    "helper": (helper(), TEXT),
    "helper, tools": (helper(tools=TOOLS), "the tower"),
    "helper, thinking": (helper(thinking=THINKING), THOUGHT),
    "text of the helper": (text_helper, TEXT),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", CASES)
async def test_anthropic_python_is_told_what_the_backend_says_and_credits_once(ways, case, view):
    asking, said = CASES[case]
    async with anthropic.AsyncAnthropic(**told_to(ways.straight, view)) as client:
        straight = parted(await asking(client, ways.model))
    async with (
        ways.metering(1, tokens=TOKENS),
        anthropic.AsyncAnthropic(**told_to(ways.through, view)) as client,
    ):
        through = parted(await asking(client, ways.model))
    assert through.said == straight.said
    assert said in str(straight.said), "the case says something"
    assert straight.credits == straight.citations == []
    if case == "text of the helper":
        assert through.credits == []
    else:
        assert_view(through, view, "" if "tools" in case else ways.model)


@pytest.mark.parametrize("view", VIEWS)
async def test_the_client_without_async_is_told_the_same(ways, view):
    def ask(way: Way) -> Any:
        with anthropic.Anthropic(**told_to(way, view)) as client:
            return [
                parted(create()(client, ways.model)),
                parted(list(create(stream=True)(client, ways.model))),
            ]

    straight = await anyio.to_thread.run_sync(ask, ways.straight)
    async with ways.metering(2, tokens=TOKENS):
        through = await anyio.to_thread.run_sync(ask, ways.through)
    assert [one.said for one in through] == [one.said for one in straight]
    for one in through:
        assert_view(one, view, ways.model)


async def test_a_client_that_leaves_a_stream_early_is_metered_for_all_that_was_generated(ways):
    asked = {"model": ways.model, "messages": MESSAGES, "max_tokens": 9}
    async with (
        ways.metering(1, tokens=TOKENS),
        anthropic.AsyncAnthropic(**told_to(ways.through)) as client,
        client.messages.stream(**asked) as stream,
    ):
        async for _ in stream:
            break


REFUSED = {
    "refused": anthropic.BadRequestError,
    "busy": anthropic.RateLimitError,
    "broken": anthropic.InternalServerError,
}
ASKED = {"whole": create(), "events": create(stream=True)}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("model", REFUSED)
async def test_a_refusal_of_the_backend_is_the_same_exception(ways, model, asked):
    told = {}
    for way in (ways.straight, ways.through):
        async with anthropic.AsyncAnthropic(**told_to(way)) as client:
            with pytest.raises(REFUSED[model]) as refused:
                await ASKED[asked](client, model)
            error = refused.value
            retry = error.response.headers.get("retry-after")
            told[way] = (str(error), error.status_code, error.body, retry)
    assert told[ways.through] == told[ways.straight]


@pytest.mark.parametrize("asked", ASKED)
async def test_our_own_refusals_are_the_clients_own_exceptions(ways, asked):
    long = create(messages=[{"role": "user", "content": "a" * BODY_BYTES_MAX}])
    refusals = {
        anthropic.AuthenticationError: (
            "authentication_error",
            ASKED[asked],
            {"api_key": "ec_app_" + "a" * 32},
        ),
        anthropic.PermissionDeniedError: ("permission_error", ASKED[asked], {"api_key": ways.narrow_key}),
        anthropic.RequestTooLargeError: ("request_too_large", long, {}),
    }
    async with ways.metering(0):
        for kind, (name, asking, more) in refusals.items():
            async with anthropic.AsyncAnthropic(**told_to(ways.through, **more)) as client:
                with pytest.raises(kind) as refused:
                    await asking(client, ways.model)
                assert refused.value.body["type"] == "error"
                assert refused.value.body["error"]["type"] == name
