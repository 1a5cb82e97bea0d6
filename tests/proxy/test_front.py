"""Front over raw sockets: what clients of both HTTP/1 versions read, and what they are never sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.front import Front
from proxy.relay.needs import GONE
from tests.commands import Commands
from tests.processes import serving
from tests.proxy.test_crew import backend

pytestmark = pytest.mark.anyio
START = {"type": "http.response.start", "status": 200}
SOON_S = 30
GET = b"GET /v1/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
OLD = b"GET /v1/x HTTP/1.0\r\n\r\n"


@contextlib.asynccontextmanager
async def front(app: Any, http: Any = Front, **more: Any) -> AsyncIterator[int]:
    """Serve an ASGI application; yield its port."""
    config = uvicorn.Config(app, port=0, http=http, lifespan="off", log_config=None, server_header=False,
                            date_header=False, timeout_graceful_shutdown=1, **more)  # fmt: skip
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    ticking = asyncio.get_running_loop().create_task(server.main_loop())
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await ticking
        await server.shutdown()


async def told(port: int, request: bytes) -> bytes:
    """Send a request and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), SOON_S)
    finally:
        writer.close()


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def replying(*messages: dict[str, Any]):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


EVENTS = (b"data: one\n\n", b"", b"data: two\n\n", b"data: [DONE]\n\n")
TYPE = [(b"Content-Type", b"text/event-stream")]
STREAM = [{**START, "headers": TYPE}, *map(piece, EVENTS), piece(b"", more=False)]
WHOLE = [{**START, "headers": [(b"content-length", b"5"), (b"x-one", b"a\tb")]}, piece(b"hello", more=False)]
REPLIES = {
    "stream": STREAM,
    "stream that ends with its last piece": [START, piece(b"a"), piece(b"b", more=False)],
    "whole": WHOLE,
    "empty": [{**START, "status": 204}, piece(b"", more=False)],
    "not modified": [{**START, "status": 304, "headers": TYPE}, piece(b"", more=False)],
    "said to be chunked": [
        {**START, "headers": [(b"transfer-encoding", b"chunked")]},
        piece(b"a"),
        piece(b"", more=False),
    ],
    "closing": [{**START, "headers": [(b"connection", b"x, close")]}, piece(b"a", more=False)],
}


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_a_client_reads_what_the_server_that_this_is_made_of_would_have_sent(reply, method):
    request = GET.replace(b"GET", method)
    async with front(replying(*reply)) as ours, front(replying(*reply), HttpToolsProtocol) as theirs:
        mine, other = await told(ours, request), await told(theirs, request)
    head, _, body = mine.partition(b"\r\n\r\n")
    other_head, _, other_body = other.partition(b"\r\n\r\n")
    assert sorted(head.split(b"\r\n")) == sorted(other_head.split(b"\r\n"))
    assert dechunked(head, body) == dechunked(other_head, other_body)


def dechunked(head: bytes, body: bytes) -> bytes:
    if b"transfer-encoding: chunked" not in head:
        return body
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole


@pytest.mark.parametrize("headers", [TYPE, [(b"transfer-encoding", b"chunked")]])
async def test_a_client_of_the_older_version_gets_no_chunks_and_the_connection_ends_the_answer(headers):
    async with front(replying({**START, "headers": headers}, *STREAM[1:])) as port:
        head, _, body = (await told(port, OLD)).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"".join(EVENTS)


async def test_a_client_of_the_older_version_gets_a_length_where_there_is_one():
    async with front(replying(*WHOLE)) as port:
        head, _, body = (await told(port, OLD)).partition(b"\r\n\r\n")
    assert b"content-length: 5" in head
    assert body == b"hello"


async def test_an_answer_that_breaks_off_is_not_taken_for_whole_by_either():
    async with front(replying(*STREAM[:-1])) as port:
        assert not (await told(port, GET)).endswith(b"0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await told(port, OLD)


@pytest.mark.parametrize(
    "header",
    [(b"x", b"a\r\nset-cookie: b"), (b"x", b"a\nb"), (b"x", b"a\rb"), (b"x", b"a\0b"), (b"x: y\r\nz", b"a")],
)
async def test_a_header_that_would_begin_another_is_never_sent(header):
    async with front(replying({**START, "headers": [header]}, piece(b"", more=False))) as port:
        said = await told(port, GET)
    assert b"set-cookie" not in said
    assert said.startswith((b"HTTP/1.1 500 ",)) or said == b""


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_fault_of_ours_is_told_as_the_clients_of_the_path_read_it(path):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("a bug")

    async with front(app) as port:
        said = await told(port, GET.replace(b"/v1/x", path.encode()))
    body = json.loads(said.partition(b"\r\n\r\n")[2])
    assert said.startswith(b"HTTP/1.1 500 ")
    assert body["error"]["code"] == "internal"
    assert b"bug" not in said
    assert ("type" in body) == (path == "/v1/messages")


@pytest.mark.parametrize("said", [b"4", b"6"])
async def test_a_reply_of_another_length_than_it_says_breaks_off(said):
    headers = [(b"content-length", said)]
    async with front(replying({**START, "headers": headers}, piece(b"hello", more=False))) as port:
        body = (await told(port, GET)).partition(b"\r\n\r\n")[2]
    assert len(body) != int(said)


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body_may_say_a_length_and_keeps_its_connection(status):
    head = {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"9")]}
    async with front(replying(head, piece(b"", more=False))) as port:
        got = await told(port, GET.replace(b"connection: close\r\n", b"") + GET)
    assert got.count(b"HTTP/1.1 %d " % status) == 2
    assert got.count(b"content-length: 9") == (2 if status == 304 else 0), "204 has no length"


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
