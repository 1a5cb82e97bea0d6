"""The edge of /v1: who may ask, what is refused, and what is kept when things go wrong."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from proxy.relay.scored import Failed
from proxy.settings import Attribution, Backend, Server, Settings
from tests import fakes
from tests.builders import SSE, World, chat_reply, chat_request, chat_stream

pytestmark = pytest.mark.anyio


def error_of(client):
    return json.loads(client.body)["error"]


async def test_a_json_answer_is_credited_and_metered_once():
    world = World(fakes.FakeBackend([chat_reply()]))
    client = await world.ask()
    assert client.status == 200
    assert json.loads(client.body)["attribution"]["works"][0]["work"] == fakes.WORK
    assert [used.outcome for used in world.journal.used] == ["complete"]

    assert [record.id for record in world.journal.records] == [client.headers["x-attribution-id"]] * 3
    assert world.journal.used[0].price_grains == 10 * 11 + 20 * 7


async def test_a_streamed_answer_is_credited_and_metered_once():
    world = World(fakes.FakeBackend(chat_stream(), headers=SSE))
    client = await world.ask(chat_request(stream=True))
    assert client.is_complete
    assert client.body.endswith(b"data: [DONE]\n\n")
    assert len(world.journal.used) == len(world.journal.attributed) == len(world.journal.begun) == 1
    assert world.journal.used[0].output_tokens == 7
    assert not world.journal.used[0].estimated


class Unsalted(fakes.StillIssuer):
    """A month begins on a full disk."""

    def secrets_of(self, _occurred_us):
        raise OSError("no space left")

    def receipt(self, event):
        return str(self.secrets_of(event.occurred_us))


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_that_cannot_be_signed_is_given_and_metered_all_the_same(is_stream):
    answer = chat_stream() if is_stream else [chat_reply()]
    backend = fakes.FakeBackend(answer, **({"headers": SSE} if is_stream else {}))
    world = World(backend, issuer=Unsalted())
    client = await world.ask(chat_request(stream=is_stream))
    assert client.is_complete
    assert b'"share_ppm"' in client.body
    assert b'"receipt"' not in client.body
    assert [(used.outcome, used.output_digest) for used in world.journal.used] == [("complete", "")]
    assert len(world.journal.attributed) == 1


@pytest.mark.parametrize(
    ("headers", "key", "status", "code"),
    [
        ({}, None, 401, "invalid_api_key"),
        ({}, "ec_app_" + "z" * 32, 401, "invalid_api_key"),
        ({}, "sk-theirs", 401, "invalid_api_key"),
        ({}, fakes.MemoryKeys.creator_key, 403, "forbidden"),
        ({"x-api-key": fakes.MemoryKeys.app_key}, None, 200, None),
        ({"api-key": fakes.MemoryKeys.app_key}, None, 200, None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
async def test_only_an_apps_key_opens_v1(headers, key, status, code, path):
    world = World(fakes.FakeBackend([chat_reply()]))
    client = fakes.AsgiClient(world.relay)
    await client.call("POST", path, headers, chat_request(), key=key)
    assert client.status == status
    assert client.headers["x-attribution-id"].startswith("rct_")
    if code:
        assert error_of(client)["code"] == code
        assert world.backend.requests == []


async def test_the_apps_key_never_goes_up_and_the_backends_key_does():
    settings = Settings(backends=(Backend(url="http://backend.test/x/v1", api_key_env="KEY"),))
    world = World(fakes.FakeBackend([chat_reply()]), settings=settings, environ={"KEY": "sk-backend"})
    await world.ask(headers={"x-api-key": "other", "api-key": "third", "x-attribution-subject": "u7", "accept-encoding": "gzip",
                             "connection": "x-hop", "x-hop": "1"})  # fmt: skip
    (request,) = world.backend.requests
    assert str(request.url) == "http://backend.test/x/v1/chat/completions"
    assert request.headers.get_list("authorization") == ["Bearer sk-backend"]
    assert request.headers["accept-encoding"] == "identity"
    assert not {"x-api-key", "api-key", "x-attribution-subject", "x-hop"} & set(request.headers)


async def test_without_a_backend_key_nothing_is_sent_in_its_place():
    world = World(fakes.FakeBackend([chat_reply()]))
    await world.ask()
    assert "authorization" not in world.backend.requests[0].headers


@pytest.mark.parametrize(
    "path", ["/v1/../healthz", "/v1/%2e%2E/x", "/v1/a/./b", "/v1/a%2f..%2fb", "/v1/..\\x"]
)
async def test_a_path_that_would_leave_v1_is_refused(path):
    world = World()
    client = fakes.AsgiClient(world.relay)
    await client.call("GET", path)
    assert (client.status, error_of(client)["code"]) == (400, "dot_segment")
    assert world.backend.requests == []


async def test_a_body_over_the_limit_is_refused_before_it_is_read():
    world = World(settings=Settings(server=Server(body_bytes_max=50)))
    client = await world.ask(chat_request())
    assert (client.status, error_of(client)["code"]) == (413, "too_large")
    assert client.headers["connection"] == "close"


async def test_malformed_json_is_refused_naming_where():
    client = await World().ask(b'{"model": }')
    assert client.status == 400
    assert "byte 10" in error_of(client)["message"]


async def test_a_model_nobody_serves_is_not_found():
    world = World(settings=Settings(backends=(Backend(models=("gpt-*",)),)))
    client = await world.ask()
    assert (client.status, error_of(client)["code"]) == (404, "model_not_found")


async def test_a_full_backlog_refuses_with_retry_after():
    world = World()
    world.attributing.is_full = True
    client = await world.ask()
    assert (client.status, client.headers["retry-after"]) == (503, "2")
    assert world.journal.records == []


async def test_a_full_backlog_goes_on_unattributed_when_the_operator_chose_that():
    settings = Settings(attribution=Attribution(on_backlog_full="unattributed"))
    world = World(fakes.FakeBackend([chat_reply()]), settings=settings)
    world.attributing.is_full = True
    client = await world.ask()
    assert json.loads(client.body)["attribution"]["unattributed_ppm"] == 1_000_000
    assert world.journal.attributed[0].reason == "not_attributed"
    assert world.attributing.offered == {}


async def test_a_late_answer_waits_encrypted_and_is_settled_once_when_it_comes():
    world = World(fakes.FakeBackend([chat_reply()]), result=None)
    client = await world.ask()
    event_id = client.headers["x-attribution-id"]
    assert client.headers["x-attribution-status"] == "pending"
    assert "x-attribution" not in client.headers
    assert world.pending.texts == {event_id: ("app_1", {0: "The lamp burned all night."})}
    assert world.journal.attributed == []
    await world.relay.settle_late(event_id, fakes.scored())
    assert [record.id for record in world.journal.attributed] == [event_id]
    assert world.pending.texts == {}


@pytest.mark.parametrize("is_late", [False, True])
async def test_where_in_a_work_an_answer_found_its_evidence_is_told_once(is_late):
    told = []
    world = World(
        fakes.FakeBackend([chat_reply()]),
        result=None if is_late else fakes.scored(),
        drew=lambda event_id, stretches: told.append((event_id, stretches)),
    )
    event_id = (await world.ask()).headers["x-attribution-id"]
    if is_late:
        assert told == []
        await world.relay.settle_late(event_id, fakes.scored())
    assert told == [(event_id, {fakes.WORK: [(10, 15)]})]


async def test_shares_that_come_while_usage_is_being_recorded_are_booked_after_it():
    world = World(fakes.FakeBackend([chat_reply()]), result=None)
    world.journal.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(world.ask())
        await world.journal.is_waiting.wait()
        (event_id,) = world.pending.texts
        await world.relay.settle_late(event_id, fakes.scored())
        assert world.journal.used == []
        world.journal.gate.set()
    assert asking.result().status == 200
    assert [type(record).__name__ for record in world.journal.records] == ["Begun", "Used", "Attributed"]
    assert world.pending.texts == {}


async def test_late_shares_that_the_disk_refuses_are_tried_again_from_the_queue():
    world = World(fakes.FakeBackend([chat_reply()]), result=None)
    world.journal.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.ask())
        await world.journal.is_waiting.wait()
        (event_id,) = world.pending.texts
        await world.relay.settle_late(event_id, fakes.scored())
        world.journal.is_refusing = True
        world.journal.gate.set()
    assert [record.id for record in world.journal.attributed] == [event_id]
    assert event_id in world.pending.texts


async def test_an_answer_that_cannot_be_scored_is_unattributed_and_says_why():
    world = World(fakes.FakeBackend([chat_reply()]), result=Failed())
    client = await world.ask()
    assert json.loads(client.body)["attribution"]["status"] == "settled"
    assert world.journal.attributed[0].reason == "not_attributed"


async def test_usage_the_backend_never_reported_is_counted_and_marked():
    world = World(fakes.FakeBackend([chat_reply(usage=None)]))
    await world.ask()
    (used,) = world.journal.used
    assert (used.input_tokens, used.output_tokens, used.estimated) == (5, 5, True)


async def test_a_full_disk_means_no_answer_and_the_usage_is_kept_for_later():
    world = World(fakes.FakeBackend([chat_reply()]))
    world.journal.is_refusing = True
    client = await world.ask()
    assert (client.status, error_of(client)["code"]) == (503, "journal_unavailable")
    assert [used.outcome for used in world.journal.used] == ["cut"]


async def test_of_a_subject_is_stored_what_is_made_of_it_and_nothing_where_nobody_makes_anything():
    def hidden(app, model, endpoint, occurred_us, subject):
        return f"{endpoint}/{subject[::-1]}"

    world = World(fakes.FakeBackend([chat_reply()]), subject_of=hidden)
    await world.ask(headers={"x-attribution-subject": "user-7"})
    (used,) = world.journal.used
    assert used.subject_digest == "chat.completions/7-resu"
    plain = World(fakes.FakeBackend([chat_reply()]))
    await plain.ask(headers={"x-attribution-subject": "user-7"})
    assert plain.journal.used[0].subject_digest == ""
    assert "user-7" not in repr(world.journal.records)


async def test_no_text_and_no_key_is_logged():
    world = World(fakes.FakeBackend(chat_stream(), headers=SSE))
    await world.ask(chat_request(stream=True))
    (event,) = [fields for name, fields in world.log.events if name == "exchange_settled"]
    assert event["outcome"] == "complete"
    assert not any(word in repr(world.log.events) for word in ("lamp", "sea", "ec_app_"))


async def test_a_backend_that_cannot_be_reached_is_passed_over():
    calls: list[str] = []

    async def answer(request):
        calls.append(request.url.host)
        if request.url.host == "down.test":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, headers={"content-type": "application/json"}, content=chat_reply())

    settings = Settings(
        backends=(Backend(name="a", url="http://down.test/v1"), Backend(name="b", url="http://up.test/v1"))
    )
    world = World(settings=settings, transport=httpx.MockTransport(answer))
    for _ in range(4):
        assert (await world.ask()).status == 200
    assert calls == ["down.test", "up.test"] * 3 + ["up.test"]
    assert {used.backend for used in world.journal.used} == {"b"}


async def test_when_no_backend_can_be_reached_the_client_hears_502_and_nothing_is_metered():
    world = World(fakes.FakeBackend(error=httpx.ConnectError("refused")))
    client = await world.ask()
    assert (client.status, error_of(client)["code"]) == (502, "backend_unreachable")
    assert world.journal.records == []


async def test_a_backends_error_passes_with_status_and_body():
    body = b'{"error":{"message":"no such thing"}}'
    world = World(fakes.FakeBackend([body], status=418))
    client = await world.ask()
    assert (client.status, client.body) == (418, body)
    assert world.journal.records == []


async def test_a_websocket_without_a_key_is_closed_where_the_server_cannot_answer_a_handshake():
    sent: list = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "raw_path": b"/v1/realtime", "query_string": b"", "headers": []}
    await World().relay(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_request_that_is_cancelled_while_its_event_is_written_leaves_it_to_the_journal():
    world = World(fakes.FakeBackend([chat_reply()]))
    world.journal.gate = asyncio.Event()
    task = asyncio.get_running_loop().create_task(world.ask())
    await world.journal.is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await world.relay.aclose()
    assert [used.outcome for used in world.journal.used] == ["complete"]
    assert (len(world.journal.used), len(world.journal.attributed)) == (1, 1)
