"""Another gateway behind us and before us: LiteLLM as our backend, and we as its.

Asked through both, its own answers are the measure: what the official client makes of LiteLLM alone and of LiteLLM
with us beside it must be the same. Credits must come through it where they can, and each answer is metered once.
LiteLLM runs as a process of its own in an environment of its own, made by `make test-all` from its own lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

from proxy.settings import Backend
from tests.compared import VIEWS, Told, Way, Ways, assert_view, both_ways, parted, ways_to
from tests.scripted import TEXT

ENVIRONMENT = Path(f"{sys.prefix}-litellm")
READY_S = 240  # it reads some thousand files, on a machine that has just written them
pytestmark = [pytest.mark.anyio, pytest.mark.clients, pytest.mark.timeout(300)]
MESSAGES = [{"role": "user", "content": "tell me of the sea"}]
FUNCTION = {"name": "light", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}
TOOLS = [{"type": "function", "function": FUNCTION}]
USAGE = {"stream_options": {"include_usage": True}}
KEY = "sk-" + "0123456789abcdef" * 4  # it refuses to start with a weaker one
# It would fetch lists and tell others of its start: it may not, and could not.
ALONE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_TELEMETRY": "False",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}


@dataclass(frozen=True)
class Gateways:
    """before: LiteLLM asks us, and the backend itself for the model "alone". behind: we ask LiteLLM."""

    litellm: Way
    before: Ways
    behind: Ways


def free_port() -> int:
    """A port that no socket has, and that the system gives to none that asks for any."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a hundred ports are taken")


@contextmanager
def litellm(port: int, models: list[dict[str, Any]], folder: Path) -> Iterator[Way]:
    """Run it until the block ends."""
    python = ENVIRONMENT / "bin" / "python"
    assert python.exists(), (
        f"run `make test-all` once: it makes {ENVIRONMENT.name} from requirements-litellm.lock"
    )
    config = folder / "litellm.json"  # JSON is YAML
    settings = {"telemetry": False, "num_retries": 0, "request_timeout": 60}
    general = {"master_key": KEY}
    config.write_text(
        json.dumps({"model_list": models, "litellm_settings": settings, "general_settings": general})
    )
    command = [
        python,
        ENVIRONMENT / "bin" / "litellm",
        "--config",
        config,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    is_up, said = threading.Event(), []
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment | ALONE
    )

    def listen() -> None:  # to the end, or it would block on a full pipe
        for line in process.stdout:
            said.append(line)
            if "Uvicorn running on" in line:
                is_up.set()
        is_up.set()

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        assert is_up.wait(READY_S), "".join(said)
        assert process.poll() is None, "".join(said)
        yield Way(f"http://127.0.0.1:{port}/v1", KEY)
    finally:
        process.kill()
        process.wait()
        listening.join()
        process.stdout.close()


def entry(name: str, model: str, way: Way, **headers: str) -> dict[str, Any]:
    """A model of LiteLLM's: another name for one of an OpenAI-compatible server."""
    asked = {"model": f"openai/{model}", "api_base": way.base, "api_key": way.key, "extra_headers": headers}
    return {"model_name": name, "litellm_params": asked}


@pytest.fixture(scope="module")
async def gateways(tmp_path_factory) -> AsyncIterator[Gateways]:
    folder = tmp_path_factory.mktemp("gateways")
    port = free_port()
    there = Way(f"http://127.0.0.1:{port}/v1", KEY)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GATEWAY_KEY", KEY)  # where operators put a backend's key
        async with running_gateways(folder, port, there) as gateways:
            yield gateways


@asynccontextmanager
async def running_gateways(folder: Path, port: int, there: Way) -> AsyncIterator[Gateways]:
    async with (
        both_ways(folder / "before") as before,
        ways_to(there, Backend(url=there.base, api_key_env="GATEWAY_KEY"), folder / "behind") as behind,
    ):
        unknown = Way(before.through.base, "ec_app_" + "a" * 32)
        models = [
            entry("alone", before.model, before.straight),
            entry("quoting", behind.model, before.straight),
            *(entry(view, before.model, before.through, **{"x-attribution": view}) for view in VIEWS),
            *(entry(f"{model} alone", model, before.straight) for model in REFUSED),
            *(entry(f"{model} through us", model, before.through) for model in REFUSED),
            entry("unknown key", before.model, unknown),
        ]
        running = litellm(port, models, folder)
        way = await anyio.to_thread.run_sync(running.__enter__)
        try:
            yield Gateways(way, before, behind)
        finally:
            await anyio.to_thread.run_sync(running.__exit__, None, None, None)


def client_at(way: Way, **headers: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=way.base, api_key=way.key, max_retries=0, default_headers=headers)


def chat(**more: Any) -> Any:
    return lambda client, model: client.chat.completions.create(model=model, messages=MESSAGES, **more)


def streamed(**more: Any) -> Any:
    async def ask(client: Any, model: str) -> list[Any]:
        return [event async for event in await chat(stream=True, **more)(client, model)]

    return ask


def response(client: Any, model: str) -> Any:
    return client.responses.create(model=model, input="a")


async def response_streamed(client: Any, model: str) -> list[Any]:
    return [event async for event in await client.responses.create(model=model, input="a", stream=True)]


async def completion_streamed(client: Any, model: str) -> list[Any]:
    stream = await client.completions.create(model=model, prompt="a", stream=True)
    # Left to itself it tells zeros with every text; asked for usage, as we ask it, it does not.
    return [chunk.model_copy(update={"usage": None}) async for chunk in stream]


# name: (what is asked, what must be in the answer)
CASES = {
    "whole": (chat(), TEXT),
    "whole, tools": (chat(tools=TOOLS), "light"),
    "whole, two choices": (chat(n=2), " (1)"),
    "stream": (streamed(), "went round it"),
    "stream, usage asked": (streamed(**USAGE), "completion_tokens"),
    "stream, tools": (streamed(tools=TOOLS), "light"),
    "response": (response, TEXT),
    "response stream": (response_streamed, TEXT),
    "completions stream": (completion_streamed, "went round it"),
}
REFUSED = {
    "refused": openai.BadRequestError,
    "busy": openai.RateLimitError,
    "broken": openai.InternalServerError,
}


def timeless(told: Told) -> Told:
    """Without what LiteLLM makes up for each answer: its id and time, and the name it was asked by."""

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(one) for one in value]
        if isinstance(value, dict):
            is_answer = "choices" in value or value.get("object") == "response"
            made_up = {"created", "created_at", "model"} | ({"id"} if is_answer else set())
            return {name: without(inner) for name, inner in value.items() if name not in made_up}
        return value

    return Told(without(told.said), told.credits, told.citations)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", CASES)
async def test_behind_us_it_answers_as_it_does_alone_and_is_metered_once(gateways, case, view):
    asking, said = CASES[case]
    ways = gateways.behind
    async with client_at(ways.straight) as client:
        straight = timeless(parted(await asking(client, "quoting")))
    async with ways.metering(1), client_at(ways.through, **{"x-attribution": view}) as client:
        through = timeless(parted(await asking(client, "quoting")))
    assert through.said == straight.said
    assert said in str(straight.said), "the case says something"
    assert_view(through, view, "" if "tools" in case else ways.model, cited="completions" not in case)


def without_empty_chunks(said: Any) -> Any:
    """A stream's chunks that end nothing, say nothing and carry no usage, taken out."""

    def says(chunk: dict[str, Any]) -> bool:
        spoken = (any(one["delta"].values()) or one["finish_reason"] for one in chunk["choices"])
        return any(spoken) or bool(chunk["usage"])

    return [chunk for chunk in said if says(chunk)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", CASES)
async def test_before_us_it_hands_on_what_it_does_alone_and_our_credits_and_is_metered_once(
    gateways, case, view
):
    asking, said = CASES[case]
    async with client_at(gateways.litellm) as client:
        straight = timeless(parted(await asking(client, "alone")))
        async with gateways.before.metering(1):
            through = timeless(parted(await asking(client, view)))
    if view == "annotations" and case.startswith(
        "stream"
    ):  # a delta of annotations becomes a chunk of its own, and the credits go with it
        through = Told(without_empty_chunks(through.said), through.credits, through.citations)
    assert through.said == straight.said
    assert said in str(straight.said), "the case says something"
    if "completions" in case:
        assert through.credits == through.citations == [], "it hands on what it knows of completions"
    else:
        assert_view(through, view, "" if "tools" in case else gateways.before.model, cited=True)


async def test_before_us_it_hands_on_the_id_under_a_name_of_its_own(gateways):
    async with client_at(gateways.litellm) as client:
        raw = await client.chat.completions.with_raw_response.create(model="body", messages=MESSAGES)
    assert raw.headers["llm_provider-x-attribution-id"] == raw.parse().attribution["id"]


async def test_a_client_that_leaves_a_stream_early_is_metered_for_all_that_was_generated(gateways):
    for ways, model in ((gateways.behind, "quoting"), (gateways.before, "body")):
        way = ways.through if ways is gateways.behind else gateways.litellm
        async with ways.metering(1), client_at(way) as client:
            stream = await chat(stream=True)(client, model)
            async for _ in stream:
                break
            await stream.close()


@pytest.mark.parametrize("model", REFUSED)
async def test_a_refusal_of_the_backend_is_the_same_exception(gateways, model):
    told = []
    for way, name in (
        (gateways.litellm, f"{model} alone"),
        (gateways.behind.through, f"{model} alone"),
        (gateways.litellm, f"{model} through us"),
    ):
        async with client_at(way) as client:
            with pytest.raises(REFUSED[model]) as refused:
                await chat()(client, name)
            told.append((refused.value.status_code, str(refused.value).replace(name, "NAME")))
    assert told[0] == told[1] == told[2]


async def test_our_own_refusal_comes_through_it_as_the_same_exception(gateways):
    async with gateways.before.metering(0), client_at(gateways.litellm) as client:
        with pytest.raises(openai.AuthenticationError, match="key"):
            await chat()(client, "unknown key")
