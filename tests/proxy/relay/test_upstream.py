"""What a backend really receives and what comes back, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import ipaddress
import socket
import ssl

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.errors import BadRequest
from proxy.relay.upstream import Upstream, UpstreamFailed, check_path, proxy_for, upward
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


async def asked_of(backend_settings, *, path=b"/v1/chat/completions", query=b"", model=None, environ=None):
    """Return the request that a loopback backend gets under these settings."""
    async with await replying(fakes.http_reply(b"{}")) as backend:
        made = msgspec.structs.replace(backend_settings, url=backend.url.replace("/v1", backend_settings.url))
        upstream = Upstream((made,), environ=environ or {})
        answer = await upstream.open(made, "POST", path, query, [], b"{}", identity=False, model=model)
        await answer.aclose()
        await upstream.aclose()
    return backend.requests[0] if backend.requests else None


AZURE = Backend(url="/openai", api_version="2024-10-21", key_header="api-key", api_key_env="KEY")


@pytest.mark.parametrize(
    ("path", "query", "model", "target"),
    [
        (b"/v1/chat/completions", b"", "gpt 4/o", "/openai/deployments/gpt%204%2Fo/chat/completions?api-version=2024-10-21"),
        (b"/v1/embeddings", b"a=1", "e", "/openai/deployments/e/embeddings?a=1&api-version=2024-10-21"),
        (b"/v1/models", b"", None, "/openai/models?api-version=2024-10-21"),
        (b"/v1/files", b"", "m", "/openai/files?api-version=2024-10-21"),
        (b"/v1/models", b"api-version=9", None, "/openai/models?api-version=9"),
    ],
)  # fmt: skip
async def test_azure_is_asked_by_deployment_and_version_with_its_own_key_header(path, query, model, target):
    request = await asked_of(AZURE, path=path, query=query, model=model, environ={"KEY": "k1"})
    assert request.target == target
    headers = {name.lower(): value for name, value in request.headers}
    assert headers[b"api-key"] == b"k1"
    assert b"authorization" not in headers


@pytest.mark.parametrize(("is_on", "passes"), [(False, False), (True, True)])
async def test_proxies_of_the_environment_are_used_only_when_wanted(is_on, passes):
    async with await replying(fakes.http_reply(b"{}")) as proxy:
        environ = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}"}
        await asked_of(Backend(url="/v1", env_proxies=is_on), environ=environ)
    assert [request.target.startswith("http://127.0.0.1:") for request in proxy.requests] == [True] * passes


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxy"),
    [
        ("http://a.test/v1", "", "http://p"), ("https://a.test/v1", "", "http://s"), ("http://a.test/v1", "a.test", ""),
        ("http://a.test/v1", ".test", ""), ("http://a.test/v1", "x, *", ""), ("http://best/v1", "est", "http://p"),
    ],
)  # fmt: skip
def test_no_proxy_names_hosts_and_domains(url, no_proxy, proxy):
    environ = {"http_proxy": "http://p", "HTTPS_PROXY": "http://s", "NO_PROXY": no_proxy}
    assert proxy_for(url, environ) == proxy


def test_a_proxy_that_is_named_without_a_scheme_is_asked_in_the_clear():
    assert proxy_for("https://a.test/v1", {"HTTPS_PROXY": " proxy:3128"}) == "http://proxy:3128"


async def test_a_backend_behind_tls_is_asked_through_a_proxys_tunnel_and_only_it_shows_its_certificate(
    tmp_path,
):
    context, ca_file = certified(tmp_path)
    asked, handling = [], []

    async def tunnel(reader, writer):
        handling.append(asyncio.current_task())
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        host, _, port = asked[-1].split(b" ")[1].partition(b":")
        there, up = await asyncio.open_connection(host.decode(), int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(piped(reader, up), piped(there, writer))

    async def piped(source, sink):
        with contextlib.suppress(ConnectionError):
            while some := await source.read(65_536):
                sink.write(some)
                await sink.drain()
        await closed(sink)

    async def answers(reader, writer):
        handling.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(fakes.http_reply(b"{}"))
        await reader.read()
        await closed(writer)

    async def closed(writer):
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async with (
        await asyncio.start_server(answers, "127.0.0.1", 0, ssl=context) as behind,
        await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy,
    ):
        url = f"https://127.0.0.1:{behind.sockets[0].getsockname()[1]}/v1"
        backend = Backend(url=url, ca_file=ca_file, env_proxies=True, api_key_env="KEY")
        environ = {"HTTPS_PROXY": f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}", "KEY": "sk-secret"}
        upstream = Upstream((backend,), environ=environ)
        answer = await upstream.open(backend, "GET", b"/v1/models", b"", [], b"", identity=True)
        assert await answer.read() == b"{}"
        await answer.aclose()
        await upstream.aclose()
        await asyncio.gather(*handling)
    (head,) = asked
    assert head.startswith(b"CONNECT 127.0.0.1:")
    assert b"sk-secret" not in head


def certified(folder):
    """Return a server context and the file of the authority that signed it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    begin = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(begin).not_valid_after(begin + dt.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    plain = serialization.NoEncryption()
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context, str(folder / "ca.pem")


@pytest.mark.parametrize(
    ("tls_verify", "own_ca", "answers"), [(True, True, True), (True, False, False), (False, False, True)]
)
async def test_a_certificate_is_believed_only_from_the_authority_that_was_named(
    tmp_path, tls_verify, own_ca, answers
):
    context, ca_file = certified(tmp_path)

    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(fakes.http_reply(b"{}"))
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        asking = ask(
            None, url, body=b"", method="GET", tls_verify=tls_verify, ca_file=ca_file if own_ca else ""
        )
        if answers:
            assert (await asking)[1] == b"{}"
        else:
            with pytest.raises(UpstreamFailed) as caught:
                await asking
            assert caught.value.kind == "connect"
    finally:
        server.close()
        await server.wait_closed()


async def test_an_answer_knows_when_its_time_is_over():
    async with await replying(fakes.http_reply(b"{}")) as backend:
        before_s = asyncio.get_running_loop().time()
        answer, _ = await ask(backend, backend.url, whole_ms=5_000)
    assert 4.9 < answer.ends_s - before_s < 60


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


async def test_a_long_body_goes_up_whole_with_one_length():
    body = b"0123456789" * 100_000
    async with await replying(fakes.http_reply(b"{}")) as backend:
        await ask(backend, backend.url, body=body, headers=[(b"content-length", b"7")])
    (request,) = backend.requests
    lengths = [value for name, value in request.headers if name.lower() == b"content-length"]
    assert (request.body, lengths) == (body, [b"1000000"])


async def test_the_connection_sends_small_writes_at_once():
    async def script(request, write):
        await write(fakes.STREAM_HEAD)
        await asyncio.Event().wait()

    async with fakes.LoopbackBackend(script) as backend:
        upstream = Upstream((Backend(url=backend.url),), environ={})
        answer = await upstream.open(
            Backend(url=backend.url), "GET", b"/v1/models", b"", [], b"", identity=False
        )
        raw = answer._reply.connection._sock
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


async def test_silence_beyond_the_whole_time_is_a_timeout_too():
    async def script(request, write):
        await asyncio.Event().wait()

    assert await failing(script, whole_ms=30) == "timeout"


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


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/models",
        b"/v1/a..b/.hidden",
        b"/v1/...",
        b"/v1/models/a%2Fb%2D1",
        b"/v1/ft%3Aa%20b/x/",
        b"/v1/%C3%A4",
    ],
)
def test_ordinary_paths_pass(path):
    check_path(path)


@pytest.mark.parametrize("path", [b"/v1/..", b"/v1/./x", b"/v1/%2e./x", b"/v1/a%5C..%5Cb"])
def test_dot_segments_are_refused_in_every_spelling(path):
    with pytest.raises(BadRequest):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/chat/completion%73", b"/v1/chat%2Fcompletions", b"/v1//chat/completions", b"/v1/chat/completions//",
        b"/v1/chat%5ccompletions", b"/v1/chat\\completions", b"/v1/chat/completions;a=1", b"/v1/chat%3Bx/completions",
        b"/v1/chat%252Fcompletions", b"/v1/files%2ffile-1", b"/v1/files/file%2D1/content", b"/v1/%6dodels/a",
    ],
)  # fmt: skip
def test_a_path_that_becomes_another_when_it_is_decoded_is_refused(path):
    with pytest.raises(BadRequest) as caught:
        check_path(path)
    assert caught.value.code == "ambiguous_path"


def test_every_escape_of_what_needs_none_is_refused_and_no_other():
    unreserved = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~./\\;%"
    for byte in range(33, 256):
        path = b"/v1/x%%%02Xy" % byte
        try:
            check_path(path)
        except BadRequest:
            assert byte in unreserved
        else:
            assert byte not in unreserved


def test_keys_and_hop_headers_of_the_client_stay_here():
    headers = [(b"authorization", b"Bearer x"), (b"x-api-key", b"x"), (b"api-key", b"x"), (b"te", b"trailers"),
               (b"connection", b"keep-alive, x-a"), (b"x-a", b"1"), (b"x-b", b"2"), (b"host", b"h")]  # fmt: skip
    assert upward(headers, key="k", identity=False, body=b"") == [
        (b"x-b", b"2"),
        (b"authorization", b"Bearer k"),
    ]
