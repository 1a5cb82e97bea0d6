"""The demonstration backend over loopback, asked by the official client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from proxy.demo.answers import compose, load_repertoire
from proxy.demo.backend import BODY_BYTES_MAX, DemoBackend

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
QUESTION = [{"role": "user", "content": "Compare bees and the moon"}]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    command = [sys.executable, "-m", "proxy.demo.backend", "--port", "0", "--piece-ms", "0"]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["base_url"]
        finally:
            process.send_signal(signal.SIGINT)


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=base_url, api_key="none", http_client=http, max_retries=0) as opened:
        yield opened


def test_the_official_client_reads_a_json_reply(client) -> None:
    reply = client.chat.completions.create(model="demo-credits-1", messages=QUESTION, n=2)
    expected = [compose(load_repertoire(), QUESTION[0]["content"], variant).text for variant in range(2)]
    assert [choice.message.content for choice in reply.choices] == expected
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.system_fingerprint == "demonstration-backend"


def test_the_official_client_reads_a_stream(client) -> None:
    options = {"include_usage": True}
    with client.chat.completions.create(
        model="demo-credits-1", messages=QUESTION, stream=True, stream_options=options
    ) as stream:
        *parts, last = list(stream)
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == compose(load_repertoire(), QUESTION[0]["content"]).text
    assert [part.choices[0].finish_reason for part in parts[-2:]] == [None, "stop"]
    assert last.usage.completion_tokens > 0


def test_a_client_that_leaves_half_way_harms_nobody(client) -> None:
    with client.chat.completions.create(model="demo-credits-1", messages=QUESTION, stream=True) as stream:
        next(stream)
    assert client.models.list().data[0].id == "demo-credits-1"


def test_the_model_list_names_the_one_model(client) -> None:
    assert [model.id for model in client.models.list()] == ["demo-credits-1"]
    assert client.models.retrieve("demo-credits-1").owned_by == "demonstration-backend"


def test_an_unknown_model_is_an_error_the_client_understands(client) -> None:
    with pytest.raises(openai.NotFoundError, match="demo-credits-1"):
        client.chat.completions.create(model="other-1", messages=QUESTION)


def test_an_unknown_path_is_an_error_the_client_understands(client) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="demo-credits-1", input="x")


async def test_a_body_over_the_bound_is_refused_before_it_is_read_whole() -> None:
    sent = []

    async def receive():
        return {"type": "http.request", "body": b" " * (BODY_BYTES_MAX // 2), "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions"}
    await DemoBackend(load_repertoire())(scope, receive, send)
    assert sent[0]["status"] == 413
