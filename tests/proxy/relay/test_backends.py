"""Several backends behind one address: who is asked after whom, and what the client and the meter see of it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from proxy.settings import Backend, Routing, Server, Settings
from tests import fakes
from tests.builders import SSE, World, chat_reply, chat_request, chat_stream
from tests.misbehaving import Misbehaving

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json"}


def backend(name, **more):
    return Backend(name=name, url=f"http://{name}.test/v1", **more)


class Scripted:
    """Backends by host name; each answers its replies in turn, the last one for ever."""

    def __init__(self, **replies):
        self.replies = {f"{name}.test": list(answers) for name, answers in replies.items()}
        self.calls = []
        self.bodies = []
        self.closed = []

    async def answer(self, request):
        host = request.url.host
        self.calls.append(host.removesuffix(".test"))
        self.bodies.append(await request.aread())
        answers = self.replies[host]
        reply = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(reply, BaseException):
            raise reply
        status, headers, body = reply
        return httpx.Response(status, headers=headers, stream=Closing(body, self.closed, host))

    @property
    def transport(self):
        return httpx.MockTransport(self.answer)


class Closing(httpx.AsyncByteStream):
    """A body that tells when it was closed."""

    def __init__(self, body, closed, host):
        self.pieces, self.closed, self.host = body, closed, host

    async def __aiter__(self):
        for piece in self.pieces:
            yield piece

    async def aclose(self):
        self.closed.append(self.host.removesuffix(".test"))


GOOD = (200, JSON, [chat_reply()])
DOWN = httpx.ConnectError("refused")


def busy(status=429, after="0"):
    return (status, {**JSON, "retry-after": after}, [b'{"error":{"message":"busy %d"}}' % status])


def world(script, *backends, **routing):
    return World(script, settings=Settings(backends=backends, routing=Routing(**routing)))


@pytest.mark.parametrize("failure", [DOWN, busy(429), busy(503)])
async def test_a_retried_request_is_answered_by_the_next_and_metered_once(failure):
    script = Scripted(a=[failure], b=[GOOD])
    made = world(script, backend("a"), backend("b"))
    client = await made.ask()
    assert (client.status, script.calls) == (200, ["a", "b"])
    assert [used.backend for used in made.journal.used] == ["b"]
    assert len(made.journal.begun) == len(made.journal.attributed) == 1
    assert made.metrics.registry.get_sample_value("endcredits_backend_retries_total", {"backend": "b"}) == 1


@pytest.mark.parametrize(
    "failure", [httpx.ReadTimeout("slow"), httpx.ReadError("gone"), (500, JSON, [b'{"error":{}}'])]
)
async def test_a_request_that_may_have_cost_is_never_sent_twice(failure):
    script = Scripted(a=[failure], b=[GOOD])
    client = await world(script, backend("a"), backend("b")).ask()
    assert client.status >= 500
    assert script.calls == ["a"]


async def test_a_stream_that_breaks_off_is_not_begun_anew_elsewhere():
    async def cut():
        yield chat_stream()[0]
        raise httpx.ReadError("gone")

    class Cut(Closing):
        def __aiter__(self):
            return cut()

    script = Scripted(a=[(200, dict(SSE_HEADERS), [])], b=[GOOD])

    async def answer(request):
        script.calls.append(request.url.host)
        return httpx.Response(200, headers=SSE, stream=Cut([], script.closed, "a.test"))

    made = World(
        settings=Settings(backends=(backend("a"), backend("b"))), transport=httpx.MockTransport(answer)
    )
    client = await made.ask(chat_request(stream=True))
    assert script.calls == ["a.test"]
    assert not client.is_complete
    assert [used.outcome for used in made.journal.used] == ["cut"]


SSE_HEADERS = [("content-type", "text/event-stream")]


async def test_the_last_refusal_reaches_the_client_as_it_was():
    script = Scripted(a=[busy(429, "7")], b=[busy(503, "9")])
    client = await world(script, backend("a"), backend("b")).ask()
    assert (client.status, client.headers["retry-after"]) == (503, "9")
    assert client.body == b'{"error":{"message":"busy 503"}}'


async def test_a_refusal_is_better_than_nothing_when_the_next_cannot_be_reached():
    script = Scripted(a=[busy(429, "7")], b=[DOWN])
    client = await world(script, backend("a"), backend("b")).ask()
    assert (client.status, client.body) == (429, b'{"error":{"message":"busy 429"}}')


async def test_answers_that_gave_way_to_another_are_closed():
    script = Scripted(a=[busy()], b=[busy()], c=[GOOD])
    client = await world(script, backend("a"), backend("b"), backend("c")).ask()
    assert client.status == 200
    assert sorted(script.closed) == ["a", "b", "c"]


async def test_the_same_backend_is_asked_again_after_a_short_retry_after():
    script = Scripted(a=[busy(503, "0"), GOOD])
    client = await world(script, backend("a")).ask()
    assert (client.status, script.calls) == (200, ["a", "a"])


async def test_a_long_retry_after_is_the_clients_to_wait_for():
    script = Scripted(a=[busy(503, "30"), GOOD])
    client = await world(script, backend("a")).ask()
    assert (client.status, client.headers["retry-after"], script.calls) == (503, "30", ["a"])


async def test_attempts_are_bounded():
    script = Scripted(a=[DOWN], b=[DOWN], c=[GOOD])
    client = await world(script, backend("a"), backend("b"), backend("c"), attempts_max=2).ask()
    assert (client.status, script.calls) == (502, ["a", "b"])


async def test_a_broken_backend_is_left_alone_then_tried_once_and_well_again():
    script = Scripted(a=[DOWN, DOWN, GOOD])
    made = world(script, backend("a"), circuit_failures=2, circuit_ms=3_000)
    assert [(await made.ask()).status for _ in range(2)] == [502, 502]
    resting = await made.ask()
    assert (resting.status, resting.headers["retry-after"]) == (503, "3")
    assert json.loads(resting.body)["error"]["code"] == "backends_resting"
    assert len(script.calls) == 2
    made.clock.advance(3)
    assert (await made.ask()).status == 200
    assert [name for name, _ in made.log.events if name.startswith("backend_circuit")] == [
        "backend_circuit_opened",
        "backend_circuit_closed",
    ]
    gauge = made.metrics.registry.get_sample_value("endcredits_backend_circuit_open", {"backend": "a"})
    assert gauge == 0


@pytest.mark.parametrize("transport", ["own", "httpx"])
async def test_what_clients_do_to_their_uploads_is_no_failure_of_the_backend(transport):
    async with Misbehaving(reads_all) as server:
        there = Backend(name="a", url=server.url, transport=transport)
        limits = Server(passthrough_bytes_max=300_000)
        made = World(object(), settings=Settings(backends=(there,), server=limits))
        for _ in range(made.relay.settings.routing.circuit_failures):
            client = fakes.AsgiClient(fakes.in_chunks(made.relay))
            await client.call("POST", "/v1/files", {"transfer-encoding": "chunked"}, b"x" * 400_000)
            assert client.status == 413
        assert (await made.ask()).status == 200
        assert "backend_failed" not in [name for name, _ in made.log.events]
        await made.relay.aclose()


async def reads_all(connection):
    while True:
        if b"transfer-encoding" in (await connection.request()).lower():
            await connection.reader.readuntil(b"0\r\n\r\n")
        await connection.answer(chat_reply())


async def test_a_trial_whose_client_leaves_lets_the_next_one_try():
    script = Scripted(a=[DOWN, DOWN, asyncio.CancelledError(), GOOD])
    made = world(script, backend("a"), circuit_failures=2, circuit_ms=3_000)
    assert [(await made.ask()).status for _ in range(2)] == [502, 502]
    made.clock.advance(3)
    with pytest.raises(asyncio.CancelledError):
        await made.ask()
    assert (await made.ask()).status == 200


async def test_an_alias_goes_up_by_the_backends_own_name_and_the_reply_stays_as_it_came():
    script = Scripted(a=[GOOD])
    made = world(script, backend("a", models=(), aliases={"small-1": "llama-3.2-1b"}))
    client = await made.ask()
    sent = chat_request()
    assert script.bodies == [sent.replace(b'"small-1"', b'"llama-3.2-1b"')]
    assert json.loads(client.body)["model"] == "small-1-2026"
    assert made.journal.used[0].model == "small-1-2026"


async def test_a_fallback_gets_the_model_by_its_own_name():
    script = Scripted(a=[DOWN], b=[GOOD])
    made = world(script, backend("a"), backend("b", aliases={"small-1": "other"}))
    await made.ask()
    assert [json.loads(body)["model"] for body in script.bodies] == ["small-1", "other"]


async def test_an_alias_that_is_named_twice_is_refused_and_not_guessed():
    script = Scripted(a=[GOOD])
    made = world(script, backend("a", aliases={"small-1": "x"}))
    client = await made.ask(b'{"model":"x","model":"small-1","messages":[]}')
    assert (client.status, script.calls) == (400, [])


async def test_aliases_and_retries_hold_for_passed_through_requests_too():
    script = Scripted(a=[busy()], b=[(200, JSON, [b"{}"])])
    made = world(script, backend("a"), backend("b", aliases={"small-1": "e5"}))
    client = fakes.AsgiClient(made.relay)
    await client.call("POST", "/v1/embeddings", JSON, b'{"model":"small-1","input":"x"}')
    assert (client.status, script.calls) == (200, ["a", "b"])
    assert script.bodies[1] == b'{"model":"e5","input":"x"}'


async def test_a_body_that_is_a_stream_goes_up_once():
    script = Scripted(a=[DOWN], b=[GOOD])
    made = world(script, backend("a"), backend("b"))
    client = fakes.AsgiClient(made.relay)
    await client.call("POST", "/v1/files", {"content-type": "application/octet-stream"}, b"x" * 100)
    assert (client.status, script.calls) == (502, ["a"])


async def test_a_client_that_leaves_between_two_attempts_leaves_nothing_open():
    script = Scripted(a=[busy(503, "1")])
    made = world(script, backend("a"), retry_after_ms=5_000)
    task = asyncio.get_running_loop().create_task(made.ask())
    await made.log.heard("backend_failed").wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert script.closed == ["a"]
    assert made.journal.records == []


async def test_no_key_and_no_body_is_logged_when_backends_fail():
    settings = Settings(backends=(Backend(name="a", url="http://a.test/v1", api_key_env="KEY"),))
    made = World(Scripted(a=[busy(503, "99")]), settings=settings, environ={"KEY": "sk-secret"})
    await made.ask()
    assert "backend_failed" in [name for name, _ in made.log.events]
    assert not any(word in repr(made.log.events) for word in ("sk-secret", "ec_app_", "sea", "busy"))


@pytest.mark.parametrize(
    ("trusted", "peer", "passes"),
    [
        ((), "10.0.0.7", False), (("10.0.0.0/8",), "10.0.0.7", True), (("10.0.0.0/8",), "192.0.2.1", False),
        (("::1",), "::1", True), (("10.0.0.0/8",), "", False), (("10.0.0.0/8",), None, False),
    ],
)  # fmt: skip
async def test_whose_request_it_is_goes_up_only_from_a_proxy_that_is_trusted(trusted, peer, passes):
    settings = Settings(server=Server(trusted_proxies=trusted))
    made = World(fakes.FakeBackend([chat_reply()]), settings=settings)
    relay = made.relay

    async def from_peer(scope, receive, send):
        await relay({**scope, "client": None if peer is None else (peer, 5)}, receive, send)

    client = fakes.AsgiClient(from_peer)
    headers = {
        **JSON,
        "x-forwarded-for": "203.0.113.9",
        "forwarded": "for=x",
        "x-real-ip": "y",
        "x-other": "z",
    }
    await client.call("POST", "/v1/chat/completions", headers, chat_request())
    (request,) = made.backend.requests
    assert {"x-forwarded-for", "forwarded", "x-real-ip"} <= set(request.headers) or not passes
    assert ("x-forwarded-for" in request.headers) == passes
    assert request.headers["x-other"] == "z"
