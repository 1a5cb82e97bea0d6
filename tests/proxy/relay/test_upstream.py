"""What a backend really receives and what comes back, over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import socket

import pytest

from proxy.errors import BadRequest
from proxy.relay.upstream import Upstream, UpstreamFailed, check_path, upward
from proxy.settings import Backend
from tests import fakes

pytestmark = pytest.mark.anyio


async def ask(
    backend, url, *, method="POST", path=b"/v1/chat/completions", query=b"", headers=(), body=b"{}", **limits
):
    upstream = Upstream((Backend(url=url, **limits),), environ={})
    try:
        answer = await upstream.open(
            Backend(url=url, **limits), method, path, query, list(headers), body, identity=True
        )
        try:
            pieces = []
            while (piece := await answer.read()) is not None:
                pieces.append(piece)
            return answer, b"".join(pieces)
        finally:
            await answer.aclose()
    finally:
        await upstream.aclose()


async def replying(data):
    async def script(request, write):
        await write(data)

    return fakes.LoopbackBackend(script)


async def test_nothing_is_added_to_a_request_but_host_length_and_identity():
    async with await replying(fakes.http_reply(b"{}")) as backend:
        await ask(backend, backend.url, headers=[(b"X-One", b"a"), (b"Content-Type", b"application/json")])
    (request,) = backend.requests
    assert sorted((name.lower(), value) for name, value in request.headers) == [
        (b"accept-encoding", b"identity"), (b"content-length", b"2"), (b"content-type", b"application/json"),
        (b"host", f"127.0.0.1:{backend.port}".encode()), (b"x-one", b"a"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (b"/v1/files/a%2Fb%20c", b""), (b"/v1/files/x", b"a=%2f%3D&b=1+2&c"), (b"/v1/models/a:b@c,d;e", b""), (b"/v1/x//y/", b"q=%C3%A9"),
    ],
)  # fmt: skip
async def test_path_and_query_arrive_as_they_were_written(path, query):
    async with await replying(fakes.http_reply(b"{}")) as backend:
        await ask(backend, backend.url, method="GET", path=path, query=query, body=b"")
    assert backend.requests[0].target == (path + (b"?" + query if query else b"")).decode()


async def test_a_path_prefix_of_the_backend_comes_before_what_follows_v1():
    async with await replying(fakes.http_reply(b"{}")) as backend:
        await ask(backend, backend.url.replace("/v1", "/x/v1"))
    assert backend.requests[0].target == "/x/v1/chat/completions"


async def test_headers_and_compressed_bytes_come_back_untouched():
    packed = gzip.compress(b"hello")
    more = "X-CamelCase: One\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Encoding: gzip\r\n"
    async with await replying(fakes.http_reply(packed, more=more)) as backend:
        answer, body = await ask(backend, backend.url)
    assert body == packed
    assert (b"X-CamelCase", b"One") in answer.headers
    assert [value for name, value in answer.headers if name == b"Set-Cookie"] == [b"a", b"b"]


async def test_a_streamed_body_goes_up_as_it_comes_with_its_own_length():
    async def pieces():
        yield b"abc"
        yield b"def"

    async with await replying(fakes.http_reply(b"{}")) as backend:
        await ask(backend, backend.url, body=pieces(), headers=[(b"content-length", b"6")])
    (request,) = backend.requests
    assert request.body == b"abcdef"
    assert b"transfer-encoding" not in {name.lower() for name, _ in request.headers}


async def test_the_connection_sends_small_writes_at_once():
    async def script(request, write):
        await write(fakes.STREAM_HEAD)
        await asyncio.Event().wait()

    async with fakes.LoopbackBackend(script) as backend:
        upstream = Upstream((Backend(url=backend.url),), environ={})
        answer = await upstream.open(
            Backend(url=backend.url), "GET", b"/v1/models", b"", [], b"", identity=False
        )
        connection = vars(answer._response.stream)["_aiohttp_response"].connection
        raw = connection.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await answer.aclose()
        await upstream.aclose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def failing(script, **limits):
    async with fakes.LoopbackBackend(script) as backend:
        with pytest.raises(UpstreamFailed) as caught:
            await ask(backend, backend.url, **limits)
    return caught.value.kind


async def test_a_closed_port_is_a_connect_failure():
    with pytest.raises(UpstreamFailed) as caught:
        await ask(None, f"http://127.0.0.1:{free_port()}/v1")
    assert caught.value.kind == "connect"


async def test_silence_before_the_head_is_a_timeout():
    async def script(request, write):
        await asyncio.Event().wait()

    assert await failing(script, first_byte_ms=30) == "timeout"


async def test_silence_after_the_head_is_a_timeout():
    async def script(request, write):
        await write(fakes.STREAM_HEAD)
        await asyncio.Event().wait()

    assert await failing(script, idle_ms=30) == "timeout"


async def test_a_connection_closed_without_an_answer_is_a_cut():
    async def script(request, write):
        pass

    assert await failing(script) == "cut"


async def test_a_connection_closed_inside_the_answer_is_a_cut():
    async def script(request, write):
        await write(fakes.STREAM_HEAD + fakes.http_chunk(b"data: 1\n\n"))

    assert await failing(script) == "cut"


async def test_what_is_no_http_is_a_protocol_failure():
    async def script(request, write):
        await write(b"SSH-2.0-OpenSSH\r\n\r\n")

    assert await failing(script) == "protocol"


@pytest.mark.parametrize("path", [b"/v1/models", b"/v1/a..b/.hidden", b"/v1/...", b"/v1/%2541"])
def test_ordinary_paths_pass(path):
    check_path(path)


@pytest.mark.parametrize("path", [b"/v1/..", b"/v1/./x", b"/v1/%2e./x", b"/v1/a%5C..%5Cb"])
def test_dot_segments_are_refused_in_every_spelling(path):
    with pytest.raises(BadRequest):
        check_path(path)


def test_keys_and_hop_headers_of_the_client_stay_here():
    headers = [(b"authorization", b"Bearer x"), (b"x-api-key", b"x"), (b"api-key", b"x"), (b"te", b"trailers"),
               (b"connection", b"keep-alive, x-a"), (b"x-a", b"1"), (b"x-b", b"2"), (b"host", b"h")]  # fmt: skip
    assert upward(headers, key="k", identity=False, body=b"") == [
        (b"x-b", b"2"),
        (b"authorization", b"Bearer k"),
    ]
