"""A websocket through the relay: the same messages, the same limits, one event for each answer."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from proxy.access.limits import Limits
from proxy.relay import realtime
from proxy.settings import Backend, Settings
from tests import fakes
from tests.builders import World
from tests.live import live, settings_in
from tests.proxy.relay.test_admission import Keys, Months

pytestmark = pytest.mark.anyio
KEY = {"authorization": f"Bearer {fakes.MemoryKeys.app_key}"}
CREATED = {"type": "response.created", "response": {"id": "resp_1"}}
TOLD = {"type": "response.output_text.delta", "response_id": "resp_1", "delta": "The sea, the sea"}
DONE = {"type": "response.done", "response": {"id": "resp_1", "status": "completed",
                                             "usage": {"input_tokens": 11, "output_tokens": 7}}}  # fmt: skip


async def answering(socket):
    """Answer every message with one whole response."""
    async for _ in socket:
        for event in (CREATED, TOLD, DONE):
            await socket.send(json.dumps(event))


@asynccontextmanager
async def session_world(script=answering, *, backend=None, **changes):
    """A relay on loopback in front of a websocket backend that plays `script`."""
    seen = []

    async def play(socket):
        seen.append(socket)
        await script(socket)

    def choose(_, offered):
        return "realtime" if "realtime" in offered else None

    async with serve(play, "127.0.0.1", 0, select_subprotocol=choose, max_size=1 << 25) as server:
        port = server.sockets[0].getsockname()[1]
        named = backend or Backend(url=f"http://127.0.0.1:{port}/v1", api_key_env="KEY")
        made = World(object(), settings=Settings(backends=(named,)), environ={"KEY": "sk-backend"}, **changes)
        made.seen, made.port = seen, port
        async with fakes.served(made.relay) as base:
            made.base = base.replace("http:", "ws:")
            yield made
        await made.relay.aclose()


def to(made, path="/v1/realtime?model=small-1", **more):
    given = {"additional_headers": KEY, "proxy": None, "compression": None, **more}
    return connect(made.base + path, **given)


async def test_messages_pass_both_ways_unchanged_and_each_answer_is_one_event():
    async with session_world() as made, to(made) as socket:
        for _ in range(2):
            await socket.send('{"type": "response.create" }')
            assert [json.loads(await socket.recv()) for _ in range(3)] == [CREATED, TOLD, DONE]
        first, second = made.journal.used
        assert first.id != second.id
        assert (first.endpoint, first.model, first.backend, first.outcome) == (
            "realtime",
            "small-1",
            "default",
            "complete",
        )
        assert (first.input_tokens, first.output_tokens, first.estimated) == (11, 7, False)
        assert [shares.reason for shares in made.journal.attributed] == ["not_attributed"] * 2
        assert [begun.id for begun in made.journal.begun] == [first.id, second.id]


async def test_text_and_bytes_of_any_size_pass_as_they_came():
    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async with session_world(echo) as made, to(made, "/v1/anything/else", max_size=1 << 25) as socket:
        for message in ("", "é🌊\u0000", b"", bytes(range(256)) * 20_000, "x" * 3_000_000):
            await socket.send(message)
            assert await socket.recv() == message
        assert made.journal.records == []


async def test_the_backend_hears_its_own_key_and_never_the_apps():
    protocols = ["realtime", f"openai-insecure-api-key.{fakes.MemoryKeys.app_key}"]
    async with (
        session_world() as made,
        to(made, additional_headers={"x-odd": "1"}, subprotocols=protocols) as socket,
    ):
        assert socket.subprotocol == "realtime"
        assert socket.response.headers["x-attribution-id"].startswith("rct_")
        request = made.seen[0].request
        assert request.headers["authorization"] == "Bearer sk-backend"
        assert request.headers["sec-websocket-protocol"] == "realtime"
        assert (request.path, request.headers["x-odd"]) == ("/v1/realtime?model=small-1", "1")
        assert fakes.MemoryKeys.app_key not in str(request.headers)


@pytest.mark.parametrize(
    ("headers", "path", "status", "code"),
    [
        ({}, "/v1/realtime", 401, "invalid_api_key"),
        ({"authorization": "Bearer ec_app_" + "z" * 32}, "/v1/realtime", 401, "invalid_api_key"),
        ({"authorization": f"Bearer {fakes.MemoryKeys.creator_key}"}, "/v1/realtime", 403, "forbidden"),
        ({**KEY, "origin": "https://elsewhere.example"}, "/v1/realtime", 403, "forbidden"),
        (KEY, "/v1/realtime?model=a&model=b", 400, "invalid_request"),
        (KEY, "/v1/%2e%2e/realtime", 400, "dot_segment"),
    ],
)
async def test_what_is_refused_is_refused_before_the_handshake_with_the_reason(headers, path, status, code):
    async with session_world() as made:
        with pytest.raises(InvalidStatus) as caught:
            await to(made, path, additional_headers=headers)
        assert caught.value.response.status_code == status
        assert json.loads(caught.value.response.body)["error"]["code"] == code
        assert made.seen == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/realtime?model=big-1", "model_not_allowed"),
        ("/v1/realtime", "bad_request"),
        ("/v1/other", "bad_request"),
    ],
)
async def test_an_allow_list_holds_for_the_address(path, code):
    async with session_world(keyring=Keys(Limits(models=("small-*",)))) as made:
        with pytest.raises(InvalidStatus) as caught:
            await to(made, path)
        assert json.loads(caught.value.response.body)["error"]["code"] == code


async def test_an_allow_list_holds_for_the_session_too():
    async with session_world(keyring=Keys(Limits(models=("small-*",)))) as made, to(made) as socket:
        await socket.send('{"type":"session.update","session":{"model":"big-1"}}')
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd.code == 1008


async def test_an_alias_is_the_backends_own_name_in_the_address():
    async with session_world() as made:
        named = Backend(url=f"http://127.0.0.1:{made.port}/v1", aliases={"talk": "gpt-realtime"})
        async with session_world(backend=named) as renaming, to(renaming, "/v1/realtime?a=1&model=talk"):
            assert made.seen[0].request.path == "/v1/realtime?a=1&model=gpt-realtime"


async def test_a_backends_refusal_reaches_the_client_as_it_was():
    async def refuse(request, write):
        await write(fakes.http_reply(b'{"error":{"message":"no such model"}}', status="404 Not Found"))

    async with (
        fakes.LoopbackBackend(refuse) as backend,
        session_world(backend=Backend(url=backend.url)) as made,
    ):
        with pytest.raises(InvalidStatus) as caught:
            await to(made)
        assert caught.value.response.status_code == 404
        assert json.loads(caught.value.response.body)["error"]["message"] == "no such model"


async def test_a_redirect_reaches_the_client_and_is_not_followed():
    async def redirect(request, write):
        await write(
            fakes.http_reply(b"", status="302 Found", more="Location: ws://127.0.0.1:9/v1/realtime\r\n")
        )

    async with (
        fakes.LoopbackBackend(redirect) as backend,
        session_world(backend=Backend(url=backend.url)) as made,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        handshake = {**KEY, "connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
                     "sec-websocket-key": "x" * 22 + "=="}  # fmt: skip
        reply = await client.get(made.base.replace("ws:", "http:") + "/v1/realtime", headers=handshake)
        assert (reply.status_code, reply.headers["location"]) == (302, "ws://127.0.0.1:9/v1/realtime")
        assert len(backend.requests) == 1


async def test_a_backend_that_is_not_there_is_said_so():
    async with session_world(backend=Backend(url="http://127.0.0.1:9/v1")) as made:
        with pytest.raises(InvalidStatus) as caught:
            await to(made)
        assert (
            caught.value.response.status_code,
            json.loads(caught.value.response.body)["error"]["code"],
        ) == (
            502,
            "backend_unreachable",
        )


async def test_close_codes_are_carried_over_both_ways():
    heard = []

    async def closing(socket):
        try:
            if await socket.recv() == "you first":
                await socket.close(4_001, "enough")
            else:
                await socket.recv()
        except ConnectionClosed as closed:
            heard.append((closed.rcvd.code, closed.rcvd.reason))
            gone.set()

    gone = asyncio.Event()
    async with session_world(closing) as made:
        async with to(made) as socket:
            await socket.send("you first")
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4_001, "enough")
        async with to(made) as socket:
            await socket.send("me first")
            await socket.close(4_002, "done")
        await gone.wait()
        assert heard == [(4_002, "done")]


async def test_what_a_leaving_client_began_is_read_on_for_its_usage():
    told = asyncio.Event()

    async def slow(socket):
        await socket.recv()
        await socket.send(json.dumps(CREATED))
        await told.wait()
        await socket.send(json.dumps(DONE))
        await socket.wait_closed()

    async with session_world(slow) as made:
        async with to(made) as socket:
            await socket.send("go")
            await socket.recv()
        told.set()
        await made.seen[0].wait_closed()
        assert [(used.outcome, used.output_tokens, used.estimated) for used in made.journal.used] == [
            ("cut", 7, False)
        ]


async def test_an_answer_that_breaks_off_is_cut_and_counted_by_its_text():
    async def breaking(socket):
        await socket.recv()
        await socket.send(json.dumps(CREATED))
        await socket.send(json.dumps(TOLD))
        socket.transport.abort()

    async with session_world(breaking) as made, to(made) as socket:
        await socket.send("go")
        assert [json.loads(await socket.recv()) for _ in range(2)] == [CREATED, TOLD]
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd.code == 1011
        (used,) = made.journal.used
        assert (used.outcome, used.output_tokens, used.estimated) == ("cut", 4, True)
        assert [shares.reason for shares in made.journal.attributed] == ["not_attributed"]


async def test_an_answer_whose_event_cannot_be_recorded_is_not_completed():
    async with session_world() as made, to(made) as socket:
        made.journal.is_refusing = True
        await socket.send("go")
        got = [json.loads(await socket.recv()) for _ in range(2)]
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert got == [CREATED, TOLD]
        assert caught.value.rcvd.code == 1013
        assert len(made.journal.used) == 1, "it waits in the queue"


async def test_a_budget_that_is_used_up_ends_the_session_and_opens_no_other():
    months = Months()
    limits = Limits(budget_grains=100, currency="USD")
    async with session_world(
        keyring=Keys(limits), budgets=months, price_of=lambda *_: ("p1", 100, "USD")
    ) as made:
        async with to(made) as socket:
            await socket.send("go")
            assert [json.loads(await socket.recv()) for _ in range(3)] == [CREATED, TOLD, DONE]
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd.code == 1008
        await made.relay.admission.aclose()
        with pytest.raises(InvalidStatus) as caught:
            await to(made)
        assert json.loads(caught.value.response.body)["error"]["code"] == "insufficient_quota"
        assert months.spent == 100


async def test_a_key_that_ends_takes_its_sessions_with_it(monkeypatch):
    monkeypatch.setattr(realtime, "LOOK_S", 0.01)
    keys = fakes.MemoryKeys()
    async with session_world(keyring=keys) as made, to(made) as socket:
        keys.app_key = "ec_app_" + "q" * 32
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd.code == 1008


@pytest.mark.parametrize("seconds", [realtime.IDLE_S, realtime.SESSION_S_MAX])
async def test_silence_and_time_end_a_session(monkeypatch, seconds):
    monkeypatch.setattr(realtime, "LOOK_S", 0.01)
    async with session_world() as made, to(made) as socket:
        made.clock.advance(seconds)
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd.code == 1001


async def test_the_whole_application_serves_websockets(tmp_path):
    async with serve(answering, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = settings_in(tmp_path, backends=(Backend(url=f"http://127.0.0.1:{port}/v1"),))
        async with live(settings) as app:
            shop, base = app.key(name="shop"), app.base.replace("http:", "ws:")
            async with connect(
                f"{base}/v1/realtime?model=small-1", additional_headers=shop, proxy=None
            ) as socket:
                await socket.send("go")
                assert [json.loads(await socket.recv()) for _ in range(3)] == [CREATED, TOLD, DONE]
            await app.running.sink.drain()
            (usage,) = (await app.client.get("/api/usage", headers=shop)).json()["items"]
            assert (usage["endpoint"], usage["tokens"]["output"]) == ("realtime", 7)
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"{base}/v1/realtime", proxy=None)
            assert json.loads(caught.value.response.body)["error"]["code"] == "invalid_api_key"


async def test_the_official_client_holds_a_session_as_with_the_backend_itself(tmp_path):
    async with serve(answering, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = settings_in(tmp_path, backends=(Backend(url=f"http://127.0.0.1:{port}/v1"),))
        async with live(settings) as app:
            key = app.key(name="shop")["authorization"].removeprefix("Bearer ")
            async with (
                AsyncOpenAI(base_url=f"{app.base}/v1", api_key=key) as client,
                client.realtime.connect(
                    model="small-1", websocket_connection_options={"proxy": None}
                ) as held,
            ):
                await held.response.create()
                heard = [(await held.recv()).type for _ in range(3)]
            assert heard == ["response.created", "response.output_text.delta", "response.done"]
