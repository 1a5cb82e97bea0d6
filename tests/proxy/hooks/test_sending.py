import asyncio
import datetime as dt
import ssl

import anyio
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy import outside
from proxy.hooks import sending
from proxy.hooks.sending import Sender

pytestmark = pytest.mark.anyio
URL = "https://hooks.example:8443/in?a=%2F"


def names(*addresses):
    async def resolve(host, port):
        assert (host, port) == ("hooks.example", 8443)
        return list(addresses)

    return resolve


async def sent(answer, *, addresses=("8.8.8.8",), url=URL):
    """(what was told of it, the requests that went out)."""
    requests = []

    async def handle(request):
        requests.append(request)
        return answer(request) if callable(answer) else answer

    sender = Sender(transport=httpx.MockTransport(handle), resolve=names(*addresses))
    try:
        return await sender.send(url, b"{}", {"webhook-id": "msg_1"}), requests
    finally:
        await sender.aclose()


async def test_a_message_goes_to_an_address_that_was_looked_at_under_its_own_name():
    told, (request,) = await sent(httpx.Response(204), addresses=("8.8.8.8", "2606:4700::1"))
    assert told == (True, "204")
    assert (request.url.host, request.url.port, request.url.raw_path) == ("8.8.8.8", 8443, b"/in?a=%2F")
    assert request.headers["host"] == "hooks.example:8443"
    assert request.extensions["sni_hostname"] == "hooks.example"
    assert (request.method, request.content, request.headers["webhook-id"]) == ("POST", b"{}", "msg_1")


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("169.254.169.254",), ("::ffff:127.0.0.1",), ()]
)
async def test_a_name_that_leads_inside_is_never_connected_to(addresses):
    told, requests = await sent(httpx.Response(200), addresses=addresses)
    assert not told[0]
    assert "not reachable by everybody" in told[1]
    assert requests == []


async def test_nothing_goes_out_in_the_clear():
    told, requests = await sent(httpx.Response(200), url=URL.replace("https", "http"))
    assert (told[0], requests) == (False, [])


async def test_no_redirect_is_followed():
    told, requests = await sent(httpx.Response(302, headers={"location": "https://127.0.0.1/"}))
    assert (told, len(requests)) == ((False, "302"), 1)


async def test_an_answer_without_an_end_is_not_read():
    async def endless():
        while True:
            yield b"x" * 1_024

    told, _ = await sent(lambda _: httpx.Response(200, content=endless()))
    assert told == (True, "200")


async def test_whoever_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.01)

    async def silent(request):
        await anyio.sleep_forever()

    sender = Sender(transport=httpx.MockTransport(silent), resolve=names("8.8.8.8"))
    assert await sender.send(URL, b"", {}) == (False, "no answer within 0.01 s")
    await sender.aclose()


async def test_a_name_that_is_not_there_and_a_connection_that_breaks_are_told():
    async def nowhere(host, port):
        raise OSError("no such host")

    sender = Sender(resolve=nowhere)
    assert await sender.send(URL, b"", {}) == (False, "OSError")
    await sender.aclose()

    def breaks(request):
        raise httpx.ReadError("gone")

    assert (await sent(breaks))[0] == (False, "ReadError")


async def test_names_are_resolved_by_the_system():
    assert await outside.resolved("127.0.0.1", 443) == ["127.0.0.1"]


def certified(folder, name):
    """Return a server context whose certificate is for `name`, and a client context that believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    begin = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(begin).not_valid_after(begin + dt.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(plain)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=str(folder / "ca.pem"))


@pytest.mark.parametrize(("name", "is_taken"), [("hooks.example", True), ("other.example", False)])
async def test_the_certificate_must_be_for_the_name_and_not_for_the_address(
    tmp_path, monkeypatch, name, is_taken
):
    server_context, client_context = certified(tmp_path, name)
    heads = []

    async def serve(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    async def here(host, port):
        return ["127.0.0.1"]

    monkeypatch.setattr(outside, "is_public", lambda address: True)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    sender = Sender(transport=httpx.AsyncHTTPTransport(verify=client_context), resolve=here)
    try:
        told = await sender.send(f"https://hooks.example:{port}/in", b"{}", {"webhook-id": "msg_1"})
    finally:
        await sender.aclose()
        server.close()
        await server.wait_closed()
    assert told == ((True, "204") if is_taken else (False, "ConnectError"))
    assert len(heads) == is_taken
    assert all(f"host: hooks.example:{port}".encode() in head.lower() for head in heads)
