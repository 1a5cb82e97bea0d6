"""Answers that a backend only promised: given at once, looked for, metered once."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest

from proxy.relay.promises import FOLLOWED_MAX
from proxy.settings import Attribution, Routing, Settings
from tests import fakes
from tests.builders import World
from tests.proxy.relay.test_endpoints import ask, response

pytestmark = pytest.mark.anyio


class Promising:
    """A backend that promises an answer and has it after some looks. looks: what each GET finds."""

    def __init__(self, *looks: tuple[int, dict[str, Any]] | Exception) -> None:
        self.looks = list(looks)
        self.requests: list[httpx.Request] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await request.aread()
        if request.method == "POST":
            return httpx.Response(200, json=response("", status="queued", output=[], usage=None))
        look = self.looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return httpx.Response(look[0], json=look[1])

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)


BACKGROUND = b'{"model":"small-1","input":"a b c","background":true}'
UNDER_WAY = (200, response("", status="in_progress", output=[], usage=None))


async def test_a_background_answer_is_promised_at_once_and_metered_when_it_is_there():
    backend = Promising(UNDER_WAY, httpx.ConnectError("away"), (503, {}), (200, response("The sea")))
    world = World(backend, promise_wait_s=0)
    client = await ask(world, "/v1/responses", BACKGROUND)
    assert client.headers["x-attribution-status"] == "pending"
    assert json.loads(client.body)["attribution"]["status"] == "pending"
    assert client.is_complete
    assert [message["type"] for message in client.messages] == ["http.response.start", "http.response.body"]
    looked = [request for request in backend.requests if request.method == "GET"]
    assert {request.url.path for request in looked} == {"/v1/responses/resp_1"}
    assert all("authorization" not in request.headers for request in looked)
    (used,) = world.journal.used
    assert used.id == client.headers["x-attribution-id"]
    assert (used.outcome, used.input_tokens, used.output_tokens, used.estimated) == ("complete", 11, 7, False)
    assert world.attributing.offered[used.id] == [(0, "The sea")]
    assert world.relay.promises.open == 0


@pytest.mark.parametrize(
    ("looks", "result"), [([(200, response("The sea"))], "kept"), ([(404, {})], "withdrawn")]
)
async def test_how_a_promise_ended_is_counted(looks, result):
    world = World(Promising(UNDER_WAY, *looks), promise_wait_s=0)
    await ask(world, "/v1/responses", BACKGROUND)
    assert world.metrics.promises.labels(result)._value.get() == 1
    assert world.metrics.promises_open._value.get() == 0


async def test_the_first_look_waits_as_the_settings_say():
    world = World(Promising((200, response("a"))), settings=Settings(routing=Routing(promise_wait_ms=1)))
    assert world.relay.promises._wait_s == 0.001
    await ask(world, "/v1/responses", BACKGROUND)
    assert [used.outcome for used in world.journal.used] == ["complete"]


async def test_the_promise_leaves_before_the_answer_is_there():
    world = World(Promising((200, response("The sea"))), promise_wait_s=0)
    client = fakes.AsgiClient(world.relay)
    world.journal.gate = gate = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            client.call("POST", "/v1/responses", {"content-type": "application/json"}, BACKGROUND)
        )
        await world.journal.is_waiting.wait()
        assert client.is_complete
        client.leave()
        gate.set()
    assert [used.outcome for used in world.journal.used] == ["complete"]
    assert world.metrics.client_left._value.get() == 0


async def test_a_promise_that_is_withdrawn_is_cut_and_its_money_held():
    world = World(Promising(UNDER_WAY, (404, {})), promise_wait_s=0)
    await ask(world, "/v1/responses", BACKGROUND)
    (used,) = world.journal.used
    assert (used.outcome, used.estimated, used.output_tokens) == ("cut", True, 0)
    assert [shares.reason for shares in world.journal.attributed] == ["not_attributed"]


async def test_a_background_answer_that_is_there_at_once_is_an_ordinary_one():
    world = World(fakes.FakeBackend(pieces=[json.dumps(response("The sea")).encode()]))
    client = await ask(world, "/v1/responses", BACKGROUND)
    assert json.loads(client.body)["attribution"]["status"] == "settled"
    assert len(world.backend.requests) == 1


async def test_fetching_a_response_meters_nothing_and_changes_nothing():
    raw = json.dumps(response("The sea")).encode()
    world = World(fakes.FakeBackend(pieces=[raw]))
    for query in ("", "stream=true&starting_after=5"):
        client = fakes.AsgiClient(world.relay)
        await client.call("GET", "/v1/responses/resp_1", query=query)
        assert client.body == raw
    assert world.journal.records == []


async def test_too_many_promises_are_refused_before_they_are_made():
    world = World(Promising(), settings=Settings(attribution=Attribution()))
    world.relay.promises.open = FOLLOWED_MAX
    client = await ask(world, "/v1/responses", BACKGROUND)
    assert (client.status, json.loads(client.body)["error"]["code"]) == (503, "backlog_full")
    assert world.backend.requests == []


async def test_what_never_comes_is_given_up_as_cut():
    world = World(Promising(*[UNDER_WAY] * 9), promise_wait_s=0)

    class Later(fakes.FrozenClock):
        def monotonic_s(self) -> float:
            self.advance(1_000)
            return super().monotonic_s()

    world.relay.clock = Later()
    await ask(world, "/v1/responses", BACKGROUND)
    assert [used.outcome for used in world.journal.used] == ["cut"]
    assert world.relay.promises.open == 0


async def test_a_packed_or_broken_look_is_read_or_tried_again():
    packed = gzip.compress(json.dumps(response("The sea")).encode())

    class Packing(Promising):
        async def answer(self, request: httpx.Request) -> httpx.Response:
            if request.method == "POST" or self.looks:
                return await super().answer(request)
            return httpx.Response(
                200, headers={"content-encoding": "gzip"}, stream=fakes._Pieces(fakes._each([packed]))
            )

    world = World(Packing((200, {"error": "odd"}), (200, response("", status="queued"))), promise_wait_s=0)
    await ask(world, "/v1/responses", BACKGROUND)
    assert [used.output_tokens for used in world.journal.used] == [7]


async def test_a_server_that_stops_books_what_was_promised_as_cut():
    looking = asyncio.Event()

    class Endless(Promising):
        async def answer(self, request: httpx.Request) -> httpx.Response:
            if request.method == "GET":
                looking.set()
                await asyncio.Event().wait()
            return await super().answer(request)

    world = World(Endless(), promise_wait_s=0)
    task = asyncio.get_running_loop().create_task(ask(world, "/v1/responses", BACKGROUND))
    await looking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (used,) = world.journal.used
    assert (used.outcome, used.estimated, used.output_tokens) == ("cut", True, 0)
    assert [shares.reason for shares in world.journal.attributed] == ["not_attributed"]
