"""One request on its way, in real time: proven by events that one side waits for, not by sleeping."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from proxy.errors import Unavailable
from proxy.settings import Backend, Routing, Server, Settings
from tests import fakes
from tests.builders import DONE, SSE, World, chat_reply, chat_request, chat_stream, chunk, usage_chunk

pytestmark = pytest.mark.anyio


class Stepwise:
    """A stream whose next piece comes only when the test lets it."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.is_closed = False

    async def pieces(self):
        try:
            while (piece := await self.queue.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.is_closed = True

    def world(self, **more) -> World:
        return World(fakes.FakeBackend(self.pieces, headers=SSE), **more)


def asking(world, client, body=None):
    sent = chat_request(stream=True) if body is None else body
    return asyncio.get_running_loop().create_task(client.call("POST", "/v1/chat/completions", {}, sent))


async def test_the_first_byte_is_forwarded_before_the_second_arrives():
    steps = Stepwise()
    world = steps.world()
    client = fakes.AsgiClient(world.relay)
    task = asking(world, client)
    for piece in [chunk("The "), chunk("lamp")]:
        steps.queue.put_nowait(piece)
        while (message := await client.sent.get())["type"] != "http.response.body":
            assert dict(message["headers"])[b"x-attribution-id"]
        assert message["body"] == piece  # and nothing more has been given to the proxy yet
    for piece in [chunk(finish="stop"), DONE, None]:
        steps.queue.put_nowait(piece)
    await task
    assert client.is_complete


async def test_the_final_frame_waits_until_usage_is_on_disk():
    world = World(fakes.FakeBackend(chat_stream(), headers=SSE))
    world.journal.gate = asyncio.Event()
    client = fakes.AsgiClient(world.relay)
    task = asking(world, client)
    await world.journal.is_waiting.wait()
    assert b'"stop"' not in client.body
    assert client.body.endswith(chat_stream()[2])
    world.journal.gate.set()
    await task
    assert client.body.endswith(DONE)


async def test_a_client_that_leaves_mid_stream_is_one_cut_event_with_the_backends_own_usage():
    steps = Stepwise()
    world = steps.world()
    client = fakes.AsgiClient(world.relay)
    task = asking(world, client)
    steps.queue.put_nowait(chunk("The "))
    while (await client.sent.get())["type"] != "http.response.body":
        pass
    client.leave()
    await world.log.heard("client_left").wait()
    for piece in [chunk("lamp"), chunk(finish="stop"), usage_chunk(11, 2), DONE, None]:
        steps.queue.put_nowait(piece)
    await task
    (used,) = world.journal.used
    assert (used.outcome, used.output_tokens, used.estimated) == ("cut", 2, False)
    assert len(world.journal.attributed) == 1
    assert client.body == chunk("The ")
    assert steps.is_closed


async def test_where_the_operator_says_so_the_backend_is_left_with_the_client_and_what_was_told_is_estimated():
    steps = Stepwise()
    world = steps.world(settings=Settings(routing=Routing(client_left="abort")))
    client = fakes.AsgiClient(world.relay)
    task = asking(world, client)
    steps.queue.put_nowait(chunk("The lamp burned"))
    while (await client.sent.get())["type"] != "http.response.body":
        pass
    client.leave()
    await task
    (used,) = world.journal.used
    assert (used.outcome, used.estimated) == ("cut", True)
    assert used.output_tokens > 0
    assert len(world.journal.attributed) == 1
    assert steps.is_closed


async def test_a_backend_that_talks_on_after_the_client_left_is_given_up_in_time():
    steps = Stepwise()
    world = steps.world(drain_s=0.05)
    client = fakes.AsgiClient(world.relay)
    task = asking(world, client)
    steps.queue.put_nowait(chunk("The lamp"))
    while (await client.sent.get())["type"] != "http.response.body":
        pass
    client.leave()
    await task  # ends although the backend never does
    (used,) = world.journal.used
    assert (used.outcome, used.output_tokens, used.estimated) == ("cut", 2, True)
    assert steps.is_closed


async def test_a_shutdown_in_mid_stream_leaves_one_cut_event_and_its_text_waiting():
    steps = Stepwise()
    world = steps.world()
    client = fakes.AsgiClient(world.relay)
    task = asking(world, client)
    steps.queue.put_nowait(chunk("The lamp"))
    while (await client.sent.get())["type"] != "http.response.body":
        pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (used,) = world.journal.used
    assert (used.outcome, used.estimated) == ("cut", True)
    assert world.pending.texts[used.id] == ("app_1", {0: "The lamp"})
    assert world.journal.attributed == []
    assert world.attributing.forgotten == []


async def test_a_backend_that_breaks_off_is_one_cut_event_and_a_broken_off_reply():
    steps = Stepwise()
    world = steps.world()
    client = fakes.AsgiClient(world.relay)
    task = asking(world, client)
    for piece in [chunk("a"), httpx.ReadError("reset")]:
        steps.queue.put_nowait(piece)
    await task
    assert [used.outcome for used in world.journal.used] == ["cut"]
    assert not client.is_complete


async def test_a_backend_that_falls_silent_is_cut_after_its_idle_time():
    steps = Stepwise()
    world = steps.world(settings=Settings(backends=(Backend(idle_ms=30),)))
    client = fakes.AsgiClient(world.relay)
    task = asking(world, client)
    steps.queue.put_nowait(chunk("a"))
    await task
    assert [used.outcome for used in world.journal.used] == ["cut"]
    assert not client.is_complete


async def test_a_backend_that_does_not_begin_in_time_is_504():
    async def answer(request):
        await asyncio.Event().wait()

    settings = Settings(backends=(Backend(first_byte_ms=30),))
    world = World(settings=settings, transport=httpx.MockTransport(answer))
    client = await world.ask()
    assert client.status == 504
    assert world.journal.records == []


async def test_what_was_offered_is_forgotten_when_nothing_is_metered():
    world = World(fakes.FakeBackend([chat_reply()]))
    await world.ask()
    assert world.attributing.forgotten == []


async def test_fifty_streams_at_once_are_fifty_events():
    world = World(fakes.FakeBackend(chat_stream, headers=SSE))
    world.backend.pieces = chat_stream()
    clients = await asyncio.gather(*(world.ask(chat_request(stream=True)) for _ in range(50)))
    ids = {client.headers["x-attribution-id"] for client in clients}
    assert len(ids) == 50
    assert (
        {used.id for used in world.journal.used} == ids == {record.id for record in world.journal.attributed}
    )
    assert len(world.journal.records) == 150


async def test_a_client_that_takes_nothing_is_given_up_and_metered():
    steps = Stepwise()
    world = steps.world(settings=Settings(server=Server(client_idle_s=1)))
    client = fakes.AsgiClient(world.relay)
    relay = client.app

    async def stuck(scope, receive, send):
        async def sending(message):
            await send(message)
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        await relay(scope, receive, sending)

    client.app = stuck
    steps.queue.put_nowait(chunk("The lamp"))
    await asking(world, client)
    assert [(used.outcome, used.output_tokens) for used in world.journal.used] == [("cut", 2)]
    assert steps.is_closed


async def test_a_client_that_never_takes_the_end_has_its_event_all_the_same():
    world = World(fakes.FakeBackend([chat_reply()]), settings=Settings(server=Server(client_idle_s=1)))
    client = fakes.AsgiClient(world.relay)
    relay = client.app

    async def stuck(scope, receive, send):
        async def sending(message):
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()
            await send(message)

        await relay(scope, receive, sending)

    client.app = stuck
    await asking(world, client, chat_request())
    assert [used.outcome for used in world.journal.used] == ["complete"]


async def test_a_client_that_leaves_before_a_json_answer_is_there_is_metered_with_the_backends_usage():
    may_answer = asyncio.Event()

    async def answer(request):
        await may_answer.wait()
        return httpx.Response(200, headers={"content-type": "application/json"}, content=chat_reply())

    world = World(transport=httpx.MockTransport(answer))
    client = fakes.AsgiClient(world.relay)
    task = asking(world, client, chat_request())
    client.leave()
    await world.log.heard("client_left").wait()
    may_answer.set()
    await task
    assert [(used.outcome, used.output_tokens) for used in world.journal.used] == [("cut", 7)]
    assert client.messages == []


async def test_a_client_that_leaves_while_the_backend_never_begins_is_no_event():
    async def answer(request):
        await asyncio.Event().wait()

    world = World(transport=httpx.MockTransport(answer), drain_s=0.02)
    client = fakes.AsgiClient(world.relay)
    client.leave()
    await asking(world, client)
    assert world.journal.records == []


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_fault_of_ours_in_mid_answer_leaves_one_cut_event_and_nothing_behind_in_the_scorer(is_full):
    world = World(fakes.FakeBackend(chat_stream(), headers=SSE))

    def broken(scored):
        raise ZeroDivisionError

    world.relay.credits = broken
    if is_full:
        world.pending.put = refusing
    with pytest.raises(ZeroDivisionError):
        await world.ask(chat_request(stream=True))
    (used,) = world.journal.used
    assert used.outcome == "cut"
    assert world.attributing.forgotten == [used.id]
    assert world.journal.attributed == []
    assert list(world.pending.texts) == ([] if is_full else [used.id])


def refusing(*_):
    raise Unavailable("the disk is full", remedy="make room")


async def test_a_client_that_read_nothing_and_then_left_is_metered_with_the_backends_own_usage():
    steps = Stepwise()
    world = steps.world()
    client = fakes.AsgiClient(world.relay)
    relay, is_stuck = client.app, asyncio.Event()

    async def full(scope, receive, send):
        async def sending(message):
            await send(message)
            if message["type"] == "http.response.body":
                is_stuck.set()
                await asyncio.Event().wait()

        await relay(scope, receive, sending)

    client.app = full
    task = asking(world, client)
    steps.queue.put_nowait(chunk("The lamp "))
    await is_stuck.wait()
    for piece in [chunk("burned"), chunk(finish="stop"), usage_chunk(11, 2), DONE, None]:
        steps.queue.put_nowait(piece)
    client.leave()
    await task
    (used,) = world.journal.used
    assert (used.outcome, used.output_tokens, used.estimated) == ("cut", 2, False)
    assert world.attributing.offered[used.id] == [(0, "The lamp "), (0, "burned")]


async def test_of_a_client_that_takes_nothing_the_backends_usage_is_read_all_the_same():
    steps = Stepwise()
    world = steps.world(settings=Settings(server=Server(client_idle_s=1)))
    client = fakes.AsgiClient(world.relay)
    relay = client.app

    async def stuck(scope, receive, send):
        async def sending(message):
            await send(message)
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        await relay(scope, receive, sending)

    client.app = stuck
    for piece in [chunk("The lamp "), chunk("burned"), chunk(finish="stop"), usage_chunk(11, 9), DONE, None]:
        steps.queue.put_nowait(piece)
    await asking(world, client)
    (used,) = world.journal.used
    assert (used.outcome, used.output_tokens, used.estimated) == ("cut", 9, False)
    assert world.attributing.offered[used.id] == [(0, "The lamp "), (0, "burned")]
