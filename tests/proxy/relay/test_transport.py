"""What every transport must do, against a server on loopback that misbehaves byte by byte.

One suite for all: our own connections behind httpx's interface, and httpx's own transport, which is the way
through proxies. Where httpx differs, a test says so by name; it is never asked what only ours promises.
"""

from __future__ import annotations

import asyncio
import contextlib

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from proxy.relay.connection import Failed
from proxy.relay.connections import Connections
from proxy.relay.transport import OwnTransport, ThroughHttpx, httpx_transport, origin_of, trust
from proxy.relay.upstream import Upstream
from proxy.settings import Backend
from tests import misbehaving
from tests.fakes import FakeBackend
from tests.misbehaving import NAMED_JSON, NAMED_STREAMS, Connection, Misbehaving, head, replies, whole
from tests.proxy.relay.test_upstream import certified

pytestmark = pytest.mark.anyio
MADE = {"own": OwnTransport, "httpx": lambda: httpx_transport(trust())}
PATIENT = {"connect": 20.0, "read": 20.0, "write": 20.0, "pool": 20.0}  # a slow machine is no misbehaviour
BROKEN = (httpx.RemoteProtocolError, httpx.ReadError)
CUT = (httpx.RemoteProtocolError, httpx.ReadError)  # httpx calls a reply that stops a broken protocol


@pytest.fixture(params=MADE)
async def transport(request):
    made = MADE[request.param]()
    yield made
    await made.aclose()


@pytest.fixture
async def own():
    made = OwnTransport()
    yield made
    assert made.busy == 0, "every connection is given back or closed"
    await made.aclose()


async def ask(transport, server, *, method="POST", content=b"{}", headers=(), path="/chat", times=None):
    """Return status, headers, pieces and whether the whole body came."""
    request = httpx.Request(
        method,
        server.url + path,
        headers=list(headers),
        content=content,
        extensions={"timeout": times or PATIENT},
    )
    response = await transport.handle_async_request(request)
    try:
        return response, [piece async for piece in response.stream]
    finally:
        await response.aclose()


async def body_of(transport, server, **asked):
    response, pieces = await ask(transport, server, **asked)
    return response.status_code, b"".join(pieces)


# -- framing, each way a reply can end


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (whole(b"abc"), 200, b"abc"),
        (whole(b""), 200, b""),
        (head(*misbehaving.SSE_HEAD) + misbehaving.chunked(b"a", b"bc") + b"0\r\n\r\n", 200, b"abc"),
        (head(*misbehaving.SSE_HEAD) + b"3;x=1\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n", 200, b"abc"),
        (head(status="HTTP/1.0 200 OK") + b"until it closes", 200, b"until it closes"),
        (head("Connection: close") + b"until it closes", 200, b"until it closes"),
        (head(status="HTTP/1.1 204 No Content"), 204, b""),
        (head("Content-Length: 9", status="HTTP/1.1 304 Not Modified"), 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + whole(b"abc"), 200, b"abc"),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 5 + whole(b"abc"), 200, b"abc"),
        (whole(b"abc", status="HTTP/1.1 200"), 200, b"abc"),
        (whole(b"no", status="HTTP/1.1 503 Busy"), 503, b"no"),
    ],
)
async def test_a_reply_ends_where_it_says(transport, raw, status, body):
    async with Misbehaving(replies(raw)) as server:
        assert await body_of(transport, server) == (status, body)


async def test_a_reply_does_not_depend_on_where_the_network_cuts_it(transport):
    raw = head("X-A: b", *misbehaving.SSE_HEAD) + misbehaving.chunked(b"one", b"two") + b"0\r\n\r\n"

    async def script(connection: Connection) -> None:
        await connection.request()
        for at in range(len(raw)):
            await connection.write(raw[at : at + 1])
            await asyncio.sleep(0)

    async with Misbehaving(script) as server:
        response, pieces = await ask(transport, server)
        assert b"".join(pieces) == b"onetwo"
        assert response.headers.raw[0] == (b"X-A", b"b")


async def test_a_reply_to_head_has_no_body_whatever_length_it_says(transport):
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.write(head("Content-Length: 1000"))

    async with Misbehaving(script) as server:
        for _ in range(2):
            assert await body_of(transport, server, method="HEAD", content=b"") == (200, b"")


async def test_the_first_piece_is_there_before_the_second_is_sent(transport):
    seen = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.stream(b"first", end=False)
        await seen.wait()
        await connection.write(misbehaving.chunked(b"second") + b"0\r\n\r\n")

    async with Misbehaving(script) as server:
        request = httpx.Request("GET", server.url, extensions={"timeout": PATIENT})
        response = await transport.handle_async_request(request)
        pieces = aiter(response.stream)
        assert await anext(pieces) == b"first"
        seen.set()
        assert await anext(pieces) == b"second"
        assert await anext(pieces, None) is None
        await response.aclose()


async def test_headers_keep_their_case_their_order_and_their_repetitions(transport):
    async with Misbehaving(
        replies(whole(b"", "X-CamelCase: One", "Set-Cookie: a", "Set-Cookie: b"))
    ) as server:
        response, _ = await ask(transport, server, headers=[("X-Mine", "1"), ("x-mine", "2")])
        assert response.headers.raw[2:] == [
            (b"X-CamelCase", b"One"),
            (b"Set-Cookie", b"a"),
            (b"Set-Cookie", b"b"),
        ]
        lines = server.connections[0].heads[0].split(b"\r\n")
        assert [line for line in lines if line.lower().startswith(b"x-mine")] == [b"X-Mine: 1", b"x-mine: 2"]


# -- what cannot be understood in one way only

REFUSED = {
    "two lengths": head("Content-Length: 3", "Content-Length: 4") + b"abcd",
    "a length in two parts": head("Content-Length: 3, 4") + b"abcd",
    "a negative length": head("Content-Length: -1") + b"abcd",
    "a length with a sign": head("Content-Length: +3") + b"abc",
    "a space before a colon": head("Content-Length : 3") + b"abc",
    "a header without a colon": head("nonsense", "Content-Length: 3") + b"abc",
    "a null in a header": head("X: a\0b", "Content-Length: 3") + b"abc",
    "an unknown transfer encoding": head("Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "a chunk size that is no number": head(*misbehaving.SSE_HEAD) + b"zz\r\nabc\r\n",
    "a chunk size with a prefix": head(*misbehaving.SSE_HEAD) + b"0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than it says": head(*misbehaving.SSE_HEAD) + b"3\r\nabcd\r\n0\r\n\r\n",
    "a chunk beyond counting": head(*misbehaving.SSE_HEAD) + b"ffffffffffffffffffff\r\n",
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a header of a megabyte": head("X: " + "x" * (1 << 20), "Content-Length: 3") + b"abc",
}
# What h11 lets pass and llhttp does not, or what it reads in one of its two ways; ours alone refuses it.
REFUSED_BY_OURS = {
    "a length and chunks": head("Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunks and a length": head("Transfer-Encoding: chunked", "Content-Length: 3") + b"0\r\n\r\n",
    "the same length twice": head("Content-Length: 3", "Content-Length: 3") + b"abc",
    "a transfer encoding inside chunks": head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "a folded header": head("X: a", " b", "Content-Length: 3") + b"abc",
    "a line that ends without its return": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "a switch of protocols": head("Upgrade: x", "Connection: Upgrade", status="HTTP/1.1 101 Switching"),
    "bytes beyond its length": whole(b"abc") + b"GARBAGE",
    "a second reply": whole(b"abc") + whole(b"another user's"),
    "ten thousand headers": head(*(f"X-{n}: y" for n in range(10_000)), "Content-Length: 3") + b"abc",
    "a head of interim replies without end": b"HTTP/1.1 103 E\r\nX: y\r\n\r\n" * 10_000 + whole(b"abc"),
    "a trailer without end": head(*misbehaving.SSE_HEAD) + b"0\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n",
    "a chunk extension without end": head(*misbehaving.SSE_HEAD) + b"3;" + b"x" * (1 << 20) + b"\r\nabc",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_every_transport_refuses(transport, name):
    async with Misbehaving(replies(REFUSED[name])) as server:
        with pytest.raises(BROKEN):
            await ask(transport, server)


@pytest.mark.parametrize("name", REFUSED | REFUSED_BY_OURS)
async def test_ours_refuses_and_closes(own, name):
    async with Misbehaving(replies((REFUSED | REFUSED_BY_OURS)[name])) as server:
        with pytest.raises(BROKEN):
            await ask(own, server)
        assert own.busy == 0
        async with asyncio.timeout(20):
            await server.everything_closed()


@pytest.mark.parametrize("name", ["closes_in_the_body", "says_too_long_a_length", "closes_after_the_head"])
async def test_a_reply_that_stops_short_is_never_taken_for_whole(transport, name):
    async with Misbehaving(NAMED_JSON[name]) as server:
        with pytest.raises(CUT):
            await ask(transport, server)


@pytest.mark.parametrize("name", ["closes_in_mid_stream", "closes_inside_an_event"])
async def test_a_stream_that_stops_short_gives_its_bytes_and_then_the_failure(transport, name):
    async with Misbehaving(NAMED_STREAMS[name]) as server:
        request = httpx.Request("GET", server.url, extensions={"timeout": PATIENT})
        response = await transport.handle_async_request(request)
        pieces = aiter(response.stream)
        assert (await anext(pieces)).startswith(misbehaving.TOLD)
        with pytest.raises(CUT):  # noqa: PT012  httpx gives chunk by chunk
            while True:
                await anext(pieces)
        await response.aclose()


@pytest.mark.parametrize("name", [*NAMED_JSON, *NAMED_STREAMS])
async def test_no_transport_hangs_or_keeps_a_connection_of_a_backend_that(transport, name):
    short = name in {
        "says_nothing",
        "falls_silent_in_the_body",
        "falls_silent_in_mid_stream",
        "pings_and_falls_silent",
    }
    times = PATIENT | {"read": 0.2} if short else PATIENT
    patience_s = 0.3 if name.startswith(("never_ends", "trickles")) else 60
    async with Misbehaving((NAMED_JSON | NAMED_STREAMS)[name]) as server, asyncio.timeout(120):
        request = httpx.Request("POST", server.url, content=b"{}", extensions={"timeout": times})
        with contextlib.suppress(httpx.TransportError, TimeoutError):
            async with asyncio.timeout(patience_s):
                response = await transport.handle_async_request(request)
                async with contextlib.aclosing(response):
                    async for _ in response.stream:
                        pass
        assert getattr(transport, "busy", 0) == 0
        await transport.aclose()
        await server.everything_closed()


# -- time


@pytest.mark.parametrize(
    "raw", [b"", whole(b"abc")[:-1], head(*misbehaving.SSE_HEAD) + misbehaving.chunked(b"a")]
)
async def test_silence_is_a_timeout_before_the_reply_and_in_it(transport, raw):
    async with Misbehaving(misbehaving.silent_after(raw)) as server:
        with pytest.raises(httpx.ReadTimeout):
            await ask(transport, server, times=PATIENT | {"read": 0.1})


async def test_a_backend_that_goes_on_is_never_late_however_long_it_takes(transport):
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(head(*misbehaving.SSE_HEAD))
        for _ in range(12):
            await asyncio.sleep(0.1)
            await connection.write(misbehaving.chunked(b"x"))
        await connection.write(b"0\r\n\r\n")

    async with Misbehaving(script) as server:
        assert await body_of(transport, server, times=PATIENT | {"read": 1.0}) == (200, b"x" * 12)


async def test_a_port_that_nobody_listens_on_is_a_failed_connection(transport):
    async with Misbehaving(replies(b"")) as server:
        pass
    with pytest.raises(httpx.ConnectError):
        await ask(transport, server)


# -- bodies up


async def pieces_of(*pieces):
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize(
    ("headers", "framing"),
    [((), b"transfer-encoding: chunked"), ([("content-length", "6")], b"content-length: 6")],
)
async def test_a_streamed_body_goes_up_with_its_length_or_in_chunks(transport, headers, framing):
    bodies = []

    async def script(connection: Connection) -> None:
        await connection.head()
        bodies.append(await connection.reader.readexactly(6 if b"length" in framing else 21))
        await connection.answer(b"ok")

    async with Misbehaving(script) as server:
        assert await body_of(transport, server, content=pieces_of(b"abc", b"", b"def"), headers=headers) == (
            200,
            b"ok",
        )
        assert framing in server.connections[0].heads[0].lower()
    assert bodies == [b"abcdef" if headers else b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"]


async def test_a_body_that_breaks_off_is_never_taken_for_whole_by_the_backend(transport):
    ends = []

    async def script(connection: Connection) -> None:
        await connection.head()
        ends.append(await connection.reader.read(1 << 16))
        ends.append(await connection.reader.read(1 << 16))

    async def breaks():
        yield b"abc"
        raise ConnectionAbortedError("the client left")

    async with Misbehaving(script) as server:
        with pytest.raises((ConnectionAbortedError, httpx.TransportError)):
            await ask(transport, server, content=breaks())
        await transport.aclose()
        async with asyncio.timeout(20):
            await server.everything_closed()
    assert not b"".join(ends).endswith(b"0\r\n\r\n")


async def test_a_refusal_while_the_body_still_goes_up_is_heard(transport):
    async with Misbehaving(misbehaving.refuses_while_the_body_still_comes) as server:
        assert (await body_of(transport, server, content=b"x" * (8 << 20)))[0] == 400


@pytest.mark.parametrize(("said", "pieces"), [("5", (b"abc",)), ("2", (b"abc",)), ("3", (b"abc", b"d"))])
async def test_a_body_of_another_length_than_it_said_is_broken_off(own, said, pieces):
    async with Misbehaving(replies(whole(b"ok"))) as server:
        with pytest.raises((ConnectionAbortedError, httpx.TransportError)):
            await ask(own, server, content=pieces_of(*pieces), headers=[("content-length", said)])


async def test_both_sides_may_speak_at_once(own):
    heard = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.reader.readexactly(3)
        await connection.write(head("Content-Length: 6"))
        await connection.write(b"abc")
        await connection.reader.readexactly(3)
        await connection.write(b"def")

    async def waits():
        yield b"abc"
        await heard.wait()
        yield b"def"

    async with Misbehaving(script) as server:
        request = httpx.Request(
            "POST",
            server.url,
            content=waits(),
            headers={"content-length": "6"},
            extensions={"timeout": PATIENT},
        )
        response = await own.handle_async_request(request)
        pieces = aiter(response.stream)
        assert await anext(pieces) == b"abc"
        heard.set()
        assert await anext(pieces) == b"def"
        await response.aclose()


async def test_a_line_break_in_a_header_never_reaches_the_wire(own):
    async with Misbehaving(replies(whole(b"ok"))) as server:
        with pytest.raises(httpx.ConnectError, match="nothing was sent"):
            await ask(own, server, headers=[("x-a", "b\r\nx-injected: c")])
        assert server.requests == 0


async def test_expect_is_answered_by_an_interim_reply_or_a_refusal(transport):
    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.reader.readexactly(2)
        await connection.answer(b"ok")

    async with Misbehaving(script) as server:
        assert await body_of(transport, server, headers=[("expect", "100-continue")]) == (200, b"ok")
    refusal = whole(b"", "Connection: close", status="HTTP/1.1 417 No")
    async with Misbehaving(replies(refusal)) as server:
        assert await body_of(transport, server, headers=[("expect", "100-continue")]) == (417, b"")


# -- connections kept


async def test_a_connection_is_used_again_after_a_whole_reply(transport):
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.answer(b"ok")

    async with Misbehaving(script) as server:
        for _ in range(3):
            assert await body_of(transport, server) == (200, b"ok")
        assert len(server.connections) == 1


@pytest.mark.parametrize("last", ["Connection: close", "Content-Length: 0\r\nConnection: close"])
async def test_a_connection_that_says_it_closes_is_not_used_again(transport, last):
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(head(last))

    async with Misbehaving(script) as server:
        for _ in range(2):
            assert (await body_of(transport, server))[0] == 200
        assert len(server.connections) == 2


# -- as a way of the relay


async def test_a_way_through_httpx_names_the_same_kinds_of_failure():
    ways = {"says_nothing": "timeout", "closes_before_a_head": "cut", "says_two_lengths": "protocol"}
    for name, kind in ways.items():
        async with Misbehaving(NAMED_JSON[name]) as server:
            way = ThroughHttpx(httpx_transport(trust()), httpx.URL(server.url))
            with pytest.raises(Failed) as caught:
                await way.ask(
                    "POST",
                    b"/v1/x",
                    [],
                    b"{}",
                    connect_s=20,
                    first_byte_s=0.3 if kind == "timeout" else 20,
                    idle_s=20,
                )
            assert caught.value.kind == kind
            await way.aclose()


WAYS = {
    "own": lambda url: Connections(origin_of(url, None)),
    "httpx": lambda url: ThroughHttpx(httpx_transport(trust()), url),
}


@pytest.mark.parametrize("kind", WAYS)
async def test_the_time_that_a_body_takes_to_go_up_is_not_the_backends(kind):
    async def slowly():
        for _ in range(9):
            await asyncio.sleep(0.25)  # it is the time that is tested
            yield b"a"

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.reader.readuntil(b"0\r\n\r\n")
        await connection.answer(b"ok")

    times = {"connect_s": 20, "first_byte_s": 1.5, "idle_s": 20}
    async with Misbehaving(script) as server, Misbehaving(misbehaving.silent_after(b"")) as silent:
        way = WAYS[kind](httpx.URL(server.url))
        reply = await way.ask("POST", b"/v1/x", [], slowly(), **times)
        assert [await reply.read(), await reply.read()] == [b"ok", None]
        await way.aclose()
        way = WAYS[kind](httpx.URL(silent.url))
        with pytest.raises(Failed, match="timeout"):
            await way.ask("POST", b"/v1/x", [], pieces_of(b"a", b"b"), **times)
        await way.aclose()


async def test_a_way_through_a_given_transport_keeps_the_address_as_it_was_written():
    backend = FakeBackend()
    way = ThroughHttpx(backend.transport, httpx.URL("http://a.test:81/v1"))
    await way.ask("GET", b"/v1/a%2Fb?q=%2f", [(b"x-a", b"1")], b"", connect_s=1, first_byte_s=1, idle_s=1)
    (request,) = backend.requests
    assert (request.url.raw_path, request.headers["host"]) == (b"/v1/a%2Fb?q=%2f", "a.test:81")


class Bilingual(asyncio.Protocol):
    """Answers in the version that was agreed on, and says which."""

    def connection_made(self, transport):
        self.transport = transport
        self.is_new = transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        self.wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        if self.is_new:
            self.wire.initiate_connection()
            transport.write(self.wire.data_to_send())

    def data_received(self, data):
        if not self.is_new:
            self.transport.write(whole(b"HTTP/1.1"))
            return
        for event in self.wire.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                self.wire.send_headers(event.stream_id, [(":status", "200")])
                self.wire.send_data(event.stream_id, b"HTTP/2", end_stream=True)
        self.transport.write(self.wire.data_to_send())


@pytest.mark.parametrize(("kind", "version"), [("httpx", b"HTTP/2"), ("own", b"HTTP/1.1")])
async def test_a_backend_is_asked_in_http_2_through_httpx_and_never_by_ours(tmp_path, kind, version):
    context, ca_file = certified(tmp_path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    server = await asyncio.get_running_loop().create_server(Bilingual, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    backend = Backend(url=url, ca_file=ca_file, transport=kind)
    upstream = Upstream((backend,), environ={})
    answer = await upstream.open(backend, "POST", b"/v1/x", b"", [], b"{}", identity=True)
    assert (answer.status, await answer.read()) == (200, version)
    await answer.aclose()
    await upstream.aclose()
    server.close()
    await server.wait_closed()
