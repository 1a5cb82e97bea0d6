"""Replies over raw sockets: what clients of both HTTP/1 versions read, and what they are never sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.front import Front
from tests.proxy.fronts import GET, OLD, SOON_S, START, TYPE, WHOLE, front, piece, replying, told

pytestmark = pytest.mark.anyio
EVENTS = (b"data: one\n\n", b"", b"data: two\n\n", b"data: [DONE]\n\n")
STREAM = [{**START, "headers": TYPE}, *map(piece, EVENTS), piece(b"", more=False)]
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


class Counted(Front):
    """Counts what is given to the socket."""

    writes: ClassVar[list[bytes]] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        write = transport.write

        class Watched:
            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

            def write(self, data: bytes) -> None:
                Counted.writes.append(data)
                write(data)

        self.transport = Watched()


async def test_a_head_leaves_with_the_first_piece_of_its_body_in_one_write():
    Counted.writes.clear()
    async with front(replying(*WHOLE), Counted) as port:
        assert (await told(port, GET)).endswith(b"hello")
    (write,) = Counted.writes
    assert write.startswith(b"HTTP/1.1 200 ")
    assert write.endswith(b"hello")


async def test_a_head_whose_body_is_still_to_come_does_not_wait_for_it():
    has_read_head = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": TYPE})
        await asyncio.wait_for(has_read_head.wait(), SOON_S)
        await send(piece(b"data: one\n\n"))
        raise OSError

    async with front(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SOON_S)
        assert head.startswith(b"HTTP/1.1 200 ")
        has_read_head.set()
        assert b"data: one" in await asyncio.wait_for(reader.read(), SOON_S)
        writer.close()


async def test_a_reply_that_breaks_off_before_its_body_has_its_head_all_the_same():
    async with front(replying({**START, "headers": TYPE})) as port:
        answer = await told(port, GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(b"0\r\n\r\n")
