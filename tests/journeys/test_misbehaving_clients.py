"""Clients that break the rules, byte by byte over a real socket: each has one answer, and nobody else notices.

docs/wire.md, "Bad requests", has the table of these. Whatever they send, the next client is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.front import HEAD_BYTES_MAX
from proxy.metering import store as metering
from proxy.settings import Server
from tests.builders import chat_reply, chat_request
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio
BODY = chat_request()


@asynccontextmanager
async def server(tmp_path, **limits) -> AsyncIterator:
    """A proxy with an app's key, and a way to speak bytes to it."""
    async with live(settings_in(tmp_path / "data", server=Server(**{"client_idle_s": 2, **limits}))) as app:
        app.answers("the keeper counted the gulls")
        app.headers = app.key(name="shop")
        app.port = int(str(app.client.base_url).rpartition(":")[2].rstrip("/"))
        yield app
        # Whatever it was, the next one is served.
        assert (await app.chat(app.headers)).status_code == 200


def head(
    app, *more: bytes, length: int | None = len(BODY), line: bytes = b"POST /v1/chat/completions HTTP/1.1"
) -> bytes:
    key = app.headers["authorization"].encode()
    fields = [line, b"host: proxy", b"authorization: " + key, b"content-type: application/json", *more]
    if length is not None:
        fields.append(b"content-length: %d" % length)
    return b"\r\n".join(fields) + b"\r\n\r\n"


async def said(
    app, *pieces: bytes, pause_s: float = 0.0, half_closed: bool = False, within_s: float = 20
) -> bytes:
    """Send pieces, read until the other side ends or a whole answer with a length is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    got = b""
    try:
        async with asyncio.timeout(within_s):
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    if pause_s:
                        await asyncio.sleep(pause_s)
                if half_closed:
                    writer.write_eof()
                while some := await reader.read(65_536):
                    got += some
                    if is_whole(got):
                        break
            except ConnectionError:
                pass
    finally:
        writer.close()
    return got


async def said_before(reader: asyncio.StreamReader) -> bytes:
    """Return what came before the other side broke off, if that is still there."""
    try:
        return await reader.read(-1)
    except ConnectionError:
        return b""


def is_whole(got: bytes) -> bool:
    top, found, body = got.partition(b"\r\n\r\n")
    length = [
        line.split(b":")[1] for line in top.lower().split(b"\r\n") if line.startswith(b"content-length")
    ]
    return bool(found and length and len(body) >= int(length[0]))


def status(got: bytes) -> int:
    return int(got.split(b" ", 2)[1]) if got else 0


def code(got: bytes) -> str:
    return json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"]


def asked(app) -> int:
    return len(app.backend.requests)


async def test_a_head_that_never_ends_is_ended(tmp_path):
    async with server(tmp_path, client_idle_s=1) as app:
        got = await said(app, b"POST /v1/chat", b"/completions HTTP/1.1\r\n", b"host: a\r\n", pause_s=0.3)
        assert (status(got), code(got)) == (408, "client_idle")


async def test_a_connection_on_which_nothing_comes_is_closed(tmp_path):
    async with server(tmp_path, client_idle_s=1) as app:
        assert await said(app) == b""


@pytest.mark.parametrize("before", ["nothing", "an answer"])
async def test_blank_lines_begin_no_request_and_keep_no_connection(tmp_path, before):
    async with server(tmp_path, client_idle_s=1) as app:
        first = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n" if before == "an answer" else b""
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(first + b"\r\n")
        async with asyncio.timeout(20):
            got = await reader.read(-1)
        writer.close()
        assert got.count(b"HTTP/1.1 ") == (before == "an answer")


async def test_the_rest_of_a_body_behind_its_answer_keeps_no_connection(tmp_path):
    async with server(tmp_path, client_idle_s=1) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n")
        got = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x")
        async with asyncio.timeout(20):
            await reader.read(-1)
        writer.close()
        assert status(got) == 401


async def test_a_trailer_is_no_header(tmp_path):
    async with server(tmp_path) as app:
        key = app.headers["authorization"].encode()
        for name, value in ((b"authorization", key), (b"x-attribution", b"nonsense")):
            lines = [b"POST /v1/chat/completions HTTP/1.1", b"host: a", b"transfer-encoding: chunked"]
            if name != b"authorization":
                lines.append(b"authorization: " + key)
            top = b"\r\n".join(lines) + b"\r\n\r\n"
            trailer = b"0\r\n" + name + b": " + value + b"\r\n\r\n"
            got = await said(app, top + b"%x\r\n" % len(BODY) + BODY + b"\r\n" + trailer)
            assert status(got) == (401 if name == b"authorization" else 200)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("part", [b"x-a: b\r\n", b"b"], ids=["many trailers", "one without end"])
async def test_trailers_without_end_are_ended(tmp_path, is_known, part):
    async with server(tmp_path) as app:
        top = head(app, b"transfer-encoding: chunked", length=None)
        top = top if is_known else top.replace(b"Bearer ec_app_", b"Bearer ec_app_x")
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(top + b"2\r\nhi\r\n0\r\nx-first: ")
        sent, piece = 0, part * (16_384 // len(part))
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                for _ in range(2_560):  # 40 MB: more than sockets hold
                    writer.write(piece)
                    await writer.drain()
                    sent += 1
        got = await said_before(reader)
        writer.close()
        assert sent < 2_560
        assert got.count(b"HTTP/1.1 ") <= 1
        assert asked(app) == 0


async def test_a_body_that_stops_is_ended(tmp_path):
    async with server(tmp_path, client_idle_s=1) as app:
        got = await said(app, head(app), BODY[:10])
        assert (status(got), code(got)) == (408, "client_idle")
        assert asked(app) == 0


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/files", b"/api/policies"])
async def test_a_body_that_trickles_is_ended(tmp_path, path):
    async with server(tmp_path, client_idle_s=1) as app:
        app.headers = app.key("operator") if path.startswith(b"/api") else app.headers
        top = head(app, length=10_000, line=b"POST " + path + b" HTTP/1.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(top)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while not reader.at_eof() and not reader._buffer:  # pyright: ignore[reportAttributeAccessIssue]
                    writer.write(b"x" * 5)
                    await writer.drain()
                    await asyncio.sleep(0.2)
        got = await said_before(reader)
        writer.close()
        # Who goes on writing may be reset before it has read why.
        assert got == b"" or (status(got), code(got)) == (408, "client_idle")
        assert asked(app) == 0
        app.headers = app.key(name="shop")


@pytest.mark.parametrize(
    ("least", "words"), [(100, 400), (0, 2)], ids=["as fast as it must", "where none is asked"]
)
async def test_a_body_that_comes_slowly_but_steadily_is_taken(tmp_path, least, words):
    async with server(tmp_path, client_idle_s=2, client_bytes_per_s=least) as app:
        body = chat_request(messages=[{"role": "user", "content": "sea " * words}])
        step = -(-len(body) // 15)  # longer in all than it may be silent, or too slow
        pieces = [body[at : at + step] for at in range(0, len(body), step)]
        got = await said(app, head(app, length=len(body)), *pieces, pause_s=0.25)
        assert status(got) == 200


async def test_who_may_trickle_may_not_fall_silent(tmp_path):
    async with server(tmp_path, client_idle_s=1, client_bytes_per_s=0) as app:
        app.headers = app.key("operator")
        got = await said(app, head(app, length=500, line=b"POST /api/policies HTTP/1.1"), b"{")
        assert (status(got), code(got)) == (408, "client_idle")
        app.headers = app.key(name="shop")


@pytest.mark.parametrize(
    "more",
    [
        [b"x-long: " + b"a" * HEAD_BYTES_MAX],
        [b"x-%d: b" % number for number in range(10_000)],
        [b"x-long: " + b"a" * 1_048_576],
    ],
    ids=["one header", "many headers", "a megabyte"],
)
async def test_a_head_over_its_limit_is_refused(tmp_path, more):
    async with server(tmp_path) as app:
        got = await said(app, head(app, *more), BODY)
        assert (status(got), code(got)) == (431, "head_too_large")
        assert asked(app) == 0


async def test_a_path_over_the_heads_limit_is_refused(tmp_path):
    async with server(tmp_path) as app:
        got = await said(app, head(app, line=b"POST /v1/" + b"a" * HEAD_BYTES_MAX + b" HTTP/1.1"), BODY)
        assert (status(got), code(got)) == (431, "head_too_large")


async def test_a_large_body_behind_a_small_head_is_no_large_head(tmp_path):
    async with server(tmp_path) as app:
        body = chat_request(messages=[{"role": "user", "content": "sea " * 60_000}])
        assert status(await said(app, head(app, length=len(body)) + body)) == 200


@pytest.mark.parametrize(
    ("more", "length", "body"),
    [
        ([b"transfer-encoding: chunked"], len(BODY), b"0\r\n\r\n" + BODY),
        ([b"transfer-encoding: chunked", b"transfer-encoding: identity"], None, b"0\r\n\r\n"),
        ([b"transfer-encoding: gzip, chunked, identity"], None, b"0\r\n\r\n"),
        ([b"transfer-encoding: gzip, chunked"], None, b"0\r\n\r\n"),
        ([b"host: other"], len(BODY), BODY),
        ([b"content-length: 3"], len(BODY), BODY),
        ([b"content-length: +5"], None, BODY),
        ([b"content-length: 5, 5"], None, BODY),
        ([b"transfer-encoding: chunked"], None, b"zz\r\nnot a length\r\n0\r\n\r\n"),
        ([b"transfer-encoding: chunked"], None, b"5\r\nhello!!\r\n0\r\n\r\n"),
        ([b"transfer-encoding: chunked"], None, b"ffffffffffffffffff\r\n"),
        ([b"x-a: b\x00c"], len(BODY), BODY),
        ([b"x-a: b\rc: d"], len(BODY), BODY),
        ([b"x a: b"], len(BODY), BODY),
        ([b" folded: b"], len(BODY), BODY),
        ([b": nameless"], len(BODY), BODY),
    ],
    ids=[
        "length and chunks", "two codings", "chunks not last", "packed chunks", "two hosts", "two lengths", "signed length", "list of lengths",
        "no chunk length", "chunk too long", "endless chunk", "NUL", "bare CR", "space in a name", "folded", "no name",
    ],
)  # fmt: skip
async def test_what_two_readers_could_read_in_two_ways_is_refused_and_goes_nowhere(
    tmp_path, more, length, body
):
    async with server(tmp_path) as app:
        smuggled = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
        got = await said(app, head(app, *more, length=length) + body + smuggled)
        assert got.startswith(b"HTTP/1.1 400 ")
        assert got.count(b"HTTP/1.1 ") == 1
        assert asked(app) == 0


async def test_chunks_in_a_version_that_has_none_are_refused(tmp_path):
    async with server(tmp_path) as app:
        line = b"POST /v1/chat/completions HTTP/1.0"
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
        got = await said(app, head(app, b"transfer-encoding: chunked", length=None, line=line) + chunks)
        assert (status(got), code(got)) == (400, "bad_http")
        assert asked(app) == 0


@pytest.mark.parametrize(
    "line",
    [
        b"GET",
        b"GET /v1/models",
        b"GET /v1/models HTTP/9.9",
        b"\x16\x03\x01\x02\x00\x01",
        b"CONNECT a:443 HTTP/1.1",
        b"GET /v1/\xff HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET /v1/mo dels HTTP/1.1",
    ],
)
async def test_what_is_no_request_is_refused(tmp_path, line):
    async with server(tmp_path) as app:
        got = await said(app, line + b"\r\nhost: a\r\n\r\n")
        assert status(got) in {400, 408}
        assert asked(app) == 0


async def test_whoever_waits_for_leave_to_send_gets_it_once(tmp_path):
    async with server(tmp_path) as app:
        got = await said(app, head(app, b"expect: 100-continue"), BODY, pause_s=0.2)
        assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert status(got.partition(b"\r\n\r\n")[2]) == 200
        assert asked(app) == 1


async def test_whoever_waits_for_leave_to_send_too_much_is_refused_first(tmp_path):
    async with server(tmp_path, body_bytes_max=1_000) as app:
        got = await said(app, head(app, b"expect: 100-continue", length=2_000_000))
        assert (status(got), code(got)) == (413, "too_large")


async def test_a_body_that_grows_over_its_limit_without_having_said_so_is_refused(tmp_path):
    async with server(tmp_path, body_bytes_max=1_000) as app:
        chunk = b"400\r\n" + b"a" * 1_024 + b"\r\n"
        got = await said(app, head(app, b"transfer-encoding: chunked", length=None), *[chunk] * 50)
        assert (status(got), code(got)) == (413, "too_large")
        assert asked(app) == 0


async def test_a_packed_body_is_not_unpacked(tmp_path):
    async with server(tmp_path) as app:
        bomb = gzip.compress(bytes(50_000_000))
        got = await said(app, head(app, b"content-encoding: gzip", length=len(bomb)) + bomb)
        assert status(got) == 400
        assert asked(app) == 0


@pytest.mark.parametrize("pause_s", [0.0, 0.3])
async def test_a_client_that_ends_its_side_has_left_and_what_was_asked_for_it_is_metered_once(
    tmp_path, pause_s
):
    async with server(tmp_path) as app:
        await said(app, head(app) + BODY, pause_s=pause_s, half_closed=True)
        assert (await app.chat(app.headers)).status_code == 200  # by then the other is over
        async with asyncio.timeout(20):
            while len(list(metering.usage(app.running.engine))) < asked(app):  # noqa: ASYNC110  no event
                await asyncio.sleep(0.02)
        found = list(metering.usage(app.running.engine))
        assert len({event.id for event in found}) == len(found) == asked(app)


async def test_requests_one_behind_the_other_are_answered_in_their_order(tmp_path):
    async with server(tmp_path) as app:
        stranger = head(app).replace(b"Bearer ec_app_", b"Bearer ec_app_x") + BODY
        alive = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
        unreadable = head(app, length=5) + b"{nope"
        chunked = head(app, b"transfer-encoding: chunked", length=None) + b"%x\r\n" % len(BODY) + BODY
        asked_for = [head(app) + BODY, unreadable, alive, chunked + b"\r\n0\r\n\r\n", stranger, alive]
        last = head(app, b"connection: close") + BODY
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(b"".join(asked_for) + last)
        answers: list[tuple[int, bytes, bytes]] = []
        async with asyncio.timeout(30):
            for _ in range(len(asked_for) + 1):
                top = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in top.split(b"\r\n") if line.startswith(b"content-length"))
                body = await reader.readexactly(int(length.split(b":")[1]))
                answers.append((status(top), top, body))
            assert await reader.read() == b""
        writer.close()
        assert [one[0] for one in answers] == [200, 400, 200, 200, 401, 200, 200]
        assert [b'"alive"' in one[2] for one in answers] == [False, False, True, False, False, True, False]
        named = b"x-attribution-id"
        ids = [line for _, top, _ in answers for line in top.split(b"\r\n") if line.startswith(named)]
        assert len(set(ids)) == len(ids) == 5
        assert asked(app) == 3
        async with asyncio.timeout(20):
            while len(list(metering.usage(app.running.engine))) < 3:  # noqa: ASYNC110  no event
                await asyncio.sleep(0.02)


HTTP_2 = [b"connection: Upgrade, HTTP2-Settings, close", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQA"]


async def test_an_offer_to_go_on_in_http_2_is_passed_over_and_the_request_is_read(tmp_path):
    async with server(tmp_path) as app:
        whole = head(app, *HTTP_2) + BODY
        chunked = head(app, b"transfer-encoding: chunked", *HTTP_2, length=None)
        chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
        for pieces in ([whole], [chunked], [head(app, *HTTP_2), BODY], [whole[:60], whole[60:]]):
            got = await said(app, *pieces, pause_s=0.1)
            assert status(got) == 200
            assert b"connection: close" in got
        offer = b"\r\n".join(HTTP_2).replace(b", close", b"")
        alive = b"GET /healthz HTTP/1.1\r\nhost: a\r\n" + offer + b"\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(2 * alive + head(app, *HTTP_2) + BODY)
        async with asyncio.timeout(20):
            got = await reader.read()
        writer.close()
        assert got.count(b"HTTP/1.1 200 OK") == 3
        sent = [name.lower() for request in app.backend.requests for name, _ in request.headers.raw]
        assert not {b"upgrade", b"http2-settings"} & set(sent)


async def test_an_answer_read_a_byte_at_a_time_is_whole(tmp_path):
    async with server(tmp_path) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(head(app, b"connection: close") + BODY)
        got = b""
        async with asyncio.timeout(30):
            while one := await reader.read(1):
                got += one
        writer.close()
        assert is_whole(got)
        assert status(got) == 200


HOSTILE = 'A "work"\r\nset-cookie: stolen=1\r\n\r\n<script>alert(1)</script>\u2028\u2029\x00\x1b[31m'


async def test_a_works_title_begins_no_header_and_no_line(tmp_path):
    async with server(tmp_path) as app:
        catalogue = app.catalogue
        from proxy.catalogue.works import NewWork

        catalogue.add_creator(HOSTILE, ref="eve")
        (done,) = catalogue.add_works([NewWork("eve-1", "eve", HOSTILE, "the keeper counted the gulls")])
        await app.running.registry.refresh()
        app.backend.requests.clear()
        app.answers(f"{done.work_id} beside it")
        got = await said(app, head(app, b"x-attribution: full") + BODY)
        top, _, body = got.partition(b"\r\n\r\n")
        assert b"stolen" not in top
        assert b"\n" not in top.replace(b"\r\n", b"")
        shown = json.loads(body)["attribution"]["works"]
        assert all(one not in shown[0]["title"] for one in "\r\n\x00\x1b\u2028\u2029")


@pytest.mark.parametrize("name", ["x-request-id", "x-attribution-subject", "x-attribution"])
async def test_a_requests_header_comes_back_in_no_other(tmp_path, name):
    async with server(tmp_path) as app:
        got = await said(app, head(app, name.encode() + b": a\xe2\x80\xa8b\xff\x7f, set-cookie") + BODY)
        top = got.partition(b"\r\n\r\n")[0]
        assert b"\nset-cookie" not in top.lower()


async def test_a_models_name_from_the_backend_reaches_no_header(tmp_path):
    async with server(tmp_path) as app:
        app.backend.pieces = [chat_reply("the sea", model="a\r\nset-cookie: stolen=1")]
        got = await said(app, head(app) + BODY)
        assert b"stolen" not in got.partition(b"\r\n\r\n")[0]
        app.answers("again")
