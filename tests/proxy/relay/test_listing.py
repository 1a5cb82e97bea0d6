"""GET /v1/models: one list of what a key may use, from all backends and aliases."""

from __future__ import annotations

import json

import httpx
import pytest

from proxy.access.keys import Principal
from proxy.access.limits import Limits
from proxy.settings import Backend, Settings
from tests import fakes
from tests.builders import World

pytestmark = pytest.mark.anyio


class Keys:
    def __init__(self, *models):
        self.models = models

    async def find(self, secret):
        return Principal("app", "key_1", app_id="app_1", limits=Limits(models=self.models))

    def lists(self, origin):
        return False


def listed(*ids):
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in ids]}).encode()


def world(answers, *backends, models=()):
    async def answer(request):
        reply = answers[request.url.host.removesuffix(".test")]
        if isinstance(reply, Exception):
            raise reply
        status, body = reply if isinstance(reply, tuple) else (200, reply)
        return httpx.Response(status, headers={"content-type": "application/json"}, content=body)

    return World(
        settings=Settings(backends=backends), keyring=Keys(*models), transport=httpx.MockTransport(answer)
    )


def backend(name, **more):
    return Backend(name=name, url=f"http://{name}.test/v1", **more)


async def get(made, path="/v1/models"):
    client = fakes.AsgiClient(made.relay)
    await client.call("GET", path)
    return client


def ids(client):
    return [row["id"] for row in json.loads(client.body)["data"]]


async def test_all_backends_and_aliases_are_in_one_list():
    made = world(
        {"a": listed("gpt-4o", "hidden"), "b": listed("llama", "gpt-4o")},
        backend("a", models=("gpt-*",)),
        backend("b", aliases={"small": "llama"}),
    )
    client = await get(made)
    assert (client.status, ids(client)) == (200, ["gpt-4o", "llama", "small"])
    assert client.headers["x-attribution-id"].startswith("rct_")


async def test_a_key_sees_only_what_it_may_use():
    made = world({"a": listed("gpt-4o", "o3")}, backend("a"), models=("gpt-*",))
    assert ids(await get(made)) == ["gpt-4o"]
    refused = await get(made, "/v1/models/o3")
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (404, "model_not_found")
    assert (await get(made, "/v1/models/gpt%2D4o")).status == 200


async def test_one_backend_with_everything_is_passed_through_byte_for_byte():
    odd = b'{"data": [ {"id":"x", "n": 1.0} ] }'
    assert (await get(world({"a": odd}, backend("a")))).body == odd


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), (500, b"{}"), b"<html>"])
async def test_a_backend_that_gives_no_list_adds_only_its_aliases(failure):
    made = world({"a": failure, "b": listed("llama")}, backend("a", aliases={"small": "x"}), backend("b"))
    assert ids(await get(made)) == ["small", "llama"]


async def test_when_nobody_gives_a_list_that_is_said():
    made = world({"a": httpx.ConnectError("no"), "b": httpx.ConnectError("no")}, backend("a"), backend("b"))
    client = await get(made)
    assert (client.status, json.loads(client.body)["error"]["code"]) == (502, "backend_unreachable")


async def test_a_list_beyond_its_bound_is_no_list():
    long = listed(*(f"m{n}" + "x" * 1_000 for n in range(5_000)))
    made = world({"a": long, "b": listed("llama")}, backend("a"), backend("b"))
    assert ids(await get(made)) == ["llama"]
