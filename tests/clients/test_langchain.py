"""LangChain's OpenAI models at the bare backend and at the proxy before it: messages and chunks must say the same.

It keeps of an answer what it knows. Credits reach its users through the headers, which it hands on when asked to,
and through the annotations of a whole response. `tests.compared` says what may differ.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai
import pydantic
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from tests.compared import BODY_BYTES_MAX, VIEWS, WORK_URL, Way, Ways, both_ways, parted
from tests.scripted import SHAPE, TEXT

pytestmark = [pytest.mark.anyio, pytest.mark.clients]
ASK = "tell me of the sea"


class Lamps(pydantic.BaseModel):
    """Lamps at a place."""

    place: str
    lamps: int


@tool
def light(place: str) -> str:
    """Light a lamp."""
    return place


@pytest.fixture(scope="module")
async def ways(tmp_path_factory) -> AsyncIterator[Ways]:
    async with both_ways(tmp_path_factory.mktemp("proxy")) as ways:
        yield ways


def model_at(way: Way, model: str, view: str = "body", **more: Any) -> ChatOpenAI:
    told = {"base_url": way.base, "api_key": way.key, "default_headers": {"x-attribution": view}, **more}
    return ChatOpenAI(model=model, max_retries=0, include_response_headers=True, **told)


async def streamed(model: Any) -> list[Any]:
    return [chunk async for chunk in model.astream(ASK)]


async def in_a_thread(model: Any) -> list[Any]:
    return await anyio.to_thread.run_sync(lambda: [model.invoke(ASK), *model.stream(ASK)])


async def batched(model: Any) -> list[Any]:
    return await model.abatch([ASK, ASK])


def shaped(method: str, **more: Any) -> Any:
    return lambda model: model.with_structured_output(Lamps, method=method, include_raw=True, **more).ainvoke(
        ASK
    )


# name: (what is asked, what must be in the answer, answers, the model's own settings)
CASES = {
    "whole": (lambda model: model.ainvoke(ASK), TEXT, 1, {}),
    "whole, tools": (lambda model: model.bind_tools([light]).ainvoke(ASK), "call_1", 1, {}),
    "whole, two choices": (lambda model: model.agenerate([[HumanMessage(ASK)]]), " (1)", 1, {"n": 2}),
    "whole, a schema": (shaped("json_schema"), SHAPE, 1, {}),
    "stream": (streamed, "went round it", 1, {}),
    "stream, usage asked": (streamed, "cache_read", 1, {"stream_usage": True}),
    "stream, tools": (lambda model: streamed(model.bind_tools([light])), "call_1", 1, {"stream_usage": True}),
    "without async": (in_a_thread, TEXT, 2, {}),
    "batch": (batched, TEXT, 2, {}),
    "response": (lambda model: model.ainvoke(ASK), TEXT, 1, {"use_responses_api": True}),
    "response, tools": (
        lambda model: model.bind_tools([light]).ainvoke(ASK), "call_1", 1, {"use_responses_api": True}),
    "response, a schema": (shaped("json_schema"), "the tower", 1, {"use_responses_api": True}),
    "response stream": (streamed, "went round it", 1, {"use_responses_api": True}),
    "response stream, tools": (
        lambda model: streamed(model.bind_tools([light])), "call_1", 1, {"use_responses_api": True}),
}  # fmt: skip


def scrubbed(told: Any, headers: list[dict[str, str]]) -> Any:
    """What a run itself makes up goes; the headers that a message carries go into `headers`."""
    if isinstance(told, pydantic.BaseModel):
        told = dict(told)
    if isinstance(told, list | tuple):
        return [scrubbed(one, headers) for one in told]
    if not isinstance(told, dict):
        return told
    if "headers" in told:
        headers.append(dict(told["headers"]))
    return {
        name: scrubbed(value, headers)
        for name, value in told.items()
        if name not in {"headers", "run"} and not (name == "id" and "run-" in str(value))
    }


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", CASES)
async def test_langchain_is_told_what_the_backend_says_and_the_headers_bring_credits(ways, case, view):
    asking, said, answers, settings = CASES[case]
    headers: list[dict[str, str]] = []
    straight = parted(scrubbed(await asking(model_at(ways.straight, ways.model, view, **settings)), []))
    async with ways.metering(answers):
        told = await asking(model_at(ways.through, ways.model, view, **settings))
        through = parted(scrubbed(told, headers))
    assert through.said == straight.said
    assert said in str(straight.said), "the case says something"
    assert straight.credits == through.credits == straight.citations == []
    ids = {one["x-attribution-id"] for one in headers}
    assert len(ids) == answers
    if case == "whole" and view != "off":
        assert headers[0]["x-attribution"].startswith(f"{ways.model};ppm=")
    is_cited = case == "response" and view == "annotations"
    assert [cited["url"] for cited in through.citations] == [WORK_URL] * is_cited


async def test_a_client_that_leaves_a_stream_early_is_metered_for_all_that_was_generated(ways):
    async with ways.metering(1):
        chunks = model_at(ways.through, ways.model).astream(ASK)
        async for _ in chunks:
            break
        await chunks.aclose()


REFUSED = {
    "refused": openai.BadRequestError,
    "busy": openai.RateLimitError,
    "broken": openai.InternalServerError,
}


@pytest.mark.parametrize("settings", [{}, {"use_responses_api": True}], ids=["chat", "responses"])
@pytest.mark.parametrize("model", REFUSED)
async def test_a_refusal_of_the_backend_is_the_same_exception(ways, model, settings):
    told = []
    for way in (ways.straight, ways.through):
        with pytest.raises(REFUSED[model]) as refused:
            await model_at(way, model, **settings).ainvoke(ASK)
        error = refused.value
        told.append(
            (type(error), str(error), error.code, error.body, error.response.headers.get("retry-after"))
        )
    assert told[0] == told[1]


async def test_our_own_refusals_are_the_clients_own_exceptions(ways):
    async with ways.metering(0):
        with pytest.raises(openai.AuthenticationError) as refused:
            await model_at(ways.through, ways.model, api_key="ec_app_" + "a" * 32).ainvoke(ASK)
        assert refused.value.code == "invalid_api_key"
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await model_at(ways.through, ways.model, api_key=ways.narrow_key).ainvoke(ASK)
        assert refused.value.code == "model_not_allowed"
        with pytest.raises(openai.APIStatusError) as refused:
            await model_at(ways.through, ways.model).ainvoke("a" * BODY_BYTES_MAX)
        assert refused.value.status_code == 413
