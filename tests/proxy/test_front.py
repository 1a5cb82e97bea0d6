"""Front over raw sockets: clients that leave, send one request behind the other, or read slowly."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from proxy.front import LINGER_BYTES_MAX
from proxy.relay.needs import GONE
from tests.commands import Commands
from tests.processes import serving
from tests.proxy.fronts import GET, SOON_S, START, TYPE, WHOLE, front, piece, replying, told
from tests.proxy.test_crew import backend

pytestmark = pytest.mark.anyio
BODY_BYTES = 1 << 22  # more than the buffers of two sockets hold
WHOLE_AND_CLOSED = [
    {**START, "headers": [(b"content-length", b"5"), (b"connection", b"close")]},
    piece(b"hello", more=False),
]


async def test_whoever_asked_hears_that_the_client_left_though_another_request_was_sent_behind_the_first():
    left, begun = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope[GONE](left.set)
        await send({**START, "headers": TYPE})
        begun.set()
        await left.wait()

    async with front(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET.replace(b"close", b"keep-alive") * 2)
        await asyncio.wait_for(begun.wait(), SOON_S)
        writer.close()
        await asyncio.wait_for(left.wait(), SOON_S)


async def test_nobody_hears_of_a_client_that_leaves_after_its_whole_answer():
    heard, over = [], asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope[GONE](lambda: heard.append(True))
        await replying(*WHOLE)(scope, receive, send)
        over.set()

    async with front(app) as port:
        await told(port, GET)
        await asyncio.wait_for(over.wait(), SOON_S)
    assert heard == []


async def test_whoever_asks_too_late_hears_it_too():
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope[GONE](left.set)
        await left.wait()

    async with front(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        writer.close()
        await asyncio.wait_for(left.wait(), SOON_S)


async def test_requests_sent_one_behind_the_other_are_answered_in_their_order():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = scope["raw_path"]
        await asyncio.sleep(0.01 if body == b"/1" else 0)
        await send({**START, "headers": [(b"content-length", b"2")]})
        await send(piece(body, more=False))

    asked = b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\nconnection: close\r\n\r\n"
    async with front(app) as port:
        said = await told(port, asked)
    assert [part[-2:] for part in said.split(b"HTTP/1.1 200 OK")[1:]] == [b"/1", b"/2", b"/3"]


async def test_a_stream_through_the_whole_server_is_read_by_a_client_of_the_older_version(tmp_path):
    key = Commands(tmp_path / "data").json("keys", "create", "--role", "app").row["key"]
    question = [{"role": "user", "content": "Tell me about bees"}]
    body = json.dumps({"model": "demo-credits-1", "stream": True, "messages": question}).encode()
    request = b"POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (
        key.encode(), len(body), body
    )  # fmt: skip
    with backend() as upstream, serving(tmp_path / "data", "--upstream", upstream) as base:
        head, _, events = (await told(int(base.rpartition(":")[2]), request)).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")
    assert b'"attribution":{' in events


async def test_a_hundred_requests_at_once_are_all_answered():
    async with front(replying(*WHOLE)) as port, asyncio.TaskGroup() as group:
        answers = [group.create_task(told(port, GET)) for _ in range(100)]
    assert all(answer.result().endswith(b"hello") for answer in answers)


LARGE = 32 << 20  # more than the sockets of both sides hold


async def half_read(port: int, pause_s: float, read_bytes: int) -> int:
    """Ask, read `read_bytes` after each pause, four times; then read on. Return how much came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
    writer.write(b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n")
    got = 0
    with contextlib.suppress(ConnectionError):
        for _ in range(4):
            await asyncio.sleep(pause_s)  # it is the silence that is tested
            got += len(await reader.read(read_bytes))
        async with asyncio.timeout(SOON_S):
            while got < LARGE and (some := await reader.read(1 << 20)):
                got += len(some)
    writer.close()
    return got


async def test_a_whole_answer_that_nobody_reads_keeps_no_connection():
    async with front(replying(START, piece(b"x" * LARGE, more=False)), timeout_keep_alive=1) as port:
        assert await half_read(port, 1.2, 0) < LARGE


async def test_a_whole_answer_that_is_read_slowly_is_whole():
    async with front(replying(START, piece(b"x" * LARGE, more=False)), timeout_keep_alive=1) as port:
        assert await half_read(port, 0.5, 4 << 20) >= LARGE


@pytest.mark.parametrize("refusal", ["of the application", "of the server"])
async def test_a_client_that_sends_all_before_it_reads_hears_why_it_is_refused(refusal):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"5"), (b"connection", b"close")]
        await send({**START, "status": 413, "headers": headers})
        await send(piece(b"large", more=False))

    begins = b"POST /v1/x HTTP/1.1\r\nhost: x\r\n"
    ours = refusal == "of the server"
    says = b"broken\r\n\r\n" if ours else b"content-length: %d\r\n\r\n" % BODY_BYTES
    async with front(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begins + says)
        for _ in range(BODY_BYTES >> 16):
            writer.write(bytes(1 << 16))
            await asyncio.wait_for(writer.drain(), SOON_S)  # reset, this raises
        answer = await asyncio.wait_for(reader.read(), SOON_S)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400 " if ours else b"HTTP/1.1 413 ")


async def test_a_client_that_sends_without_end_is_reset_whatever_it_was_answered():
    async with front(replying(*WHOLE_AND_CLOSED)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(4 * LINGER_BYTES_MAX >> 16):
                writer.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                await asyncio.wait_for(writer.drain(), SOON_S)
        writer.close()


async def test_a_whole_answer_to_an_unread_request_keeps_no_connection_if_nobody_reads_it():
    started = {**START, "headers": [(b"connection", b"close")]}
    async with front(replying(started, piece(b"x" * LARGE, more=False)), timeout_keep_alive=1) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
        writer.write(b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
        with pytest.raises(ConnectionError):  # noqa: PT012
            async with asyncio.timeout(SOON_S):
                while True:  # what is sent where nothing is read fails once the connection is reset
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)
        writer.close()


async def test_who_is_refused_behind_a_request_that_is_answered_hears_nothing_of_its_answer(caplog):
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for message in WHOLE:
            await send(message)
        left.set()

    async with front(app) as port:
        said = await told(port, b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\nno request at all\r\n\r\n")
        await asyncio.wait_for(left.wait(), SOON_S)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert "Exception in ASGI" not in caplog.text


async def test_an_answer_that_comes_behind_a_refusal_is_dropped_and_breaks_nothing(caplog):
    over, go_on = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        for message in WHOLE:
            await send(message)
        over.set()

    async with front(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\nno request at all\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), SOON_S)
        go_on.set()
        await asyncio.wait_for(over.wait(), SOON_S)
        writer.close()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert "Exception in ASGI" not in caplog.text
