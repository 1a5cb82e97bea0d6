"""Everything that is not metered goes by, both ways, whatever its size."""

from __future__ import annotations

import hashlib
import json

import httpx
import pytest

from proxy.settings import Backend, Server, Settings
from tests import fakes
from tests.builders import World, chat_request

pytestmark = pytest.mark.anyio


async def call(world, method="GET", path="/v1/models", headers=None, body=b"", **more):
    client = fakes.AsgiClient(world.relay)
    await client.call(method, path, headers, body, **more)
    return client


async def test_an_unknown_path_passes_with_its_bytes_and_is_not_metered():
    world = World(
        fakes.FakeBackend(
            [b"\x00\x01", b"\xff"], status=207, headers=[(b"X-Odd", b"1"), (b"Content-Length", b"3")]
        )
    )
    client = await call(world, "PATCH", "/v1/new%3Athing", query="a=%2f", body=b"abc")
    assert (client.status, client.body) == (207, b"\x00\x01\xff")
    assert (client.headers["x-odd"], client.headers["content-length"]) == ("1", "3")
    assert client.headers["x-attribution-id"].startswith("rct_")
    assert client.headers["x-attribution-status"] == "off"
    assert world.journal.records == []
    assert world.backend.bodies == [b"abc"]
    assert world.backend.requests[0].url.raw_path == b"/v1/new%3Athing?a=%2f"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completion%73"),
        ("POST", "/v1//chat/completions"),
        ("GET", "/v1/files%2Ffile-1%2Fcontent"),
    ],
)
async def test_no_spelling_of_a_route_passes_by_its_metering_or_its_owner(method, path):
    world = World()
    client = await call(world, method, path, body=b"{}" if method == "POST" else b"")
    assert (client.status, json.loads(client.body)["error"]["code"]) == (400, "ambiguous_path")
    assert world.backend.requests == []


async def test_a_route_in_upper_case_is_the_same_route():
    world = World()
    client = await call(
        world, "POST", "/v1/Chat/Completions", {"content-type": "application/json"}, chat_request()
    )
    assert client.status == 200
    assert len(world.journal.used) == 1


async def test_a_body_of_unknown_length_over_the_limit_is_refused():
    world = World(settings=Settings(server=Server(passthrough_bytes_max=10)))
    client = fakes.AsgiClient(fakes.in_chunks(world.relay))
    await client.call("POST", "/v1/files", {"transfer-encoding": "chunked"}, b"x" * 11)
    assert client.status == 413


async def test_among_several_backends_a_short_json_request_goes_by_its_model():
    hosts: list[str] = []

    async def answer(request):
        hosts.append(request.url.host)
        return httpx.Response(200, content=b"{}")

    settings = Settings(
        backends=(Backend(name="a", url="http://a.test/v1", models=("big-*",)),
                  Backend(name="b", url="http://b.test/v1", models=("small-*",)))
    )  # fmt: skip
    world = World(settings=settings, transport=httpx.MockTransport(answer))
    kind = {"content-type": "application/json"}
    await call(world, "POST", "/v1/rerank", kind, b'{"model":"small-1"}')
    await call(world, "POST", "/v1/rerank", kind, b'{"odd": ')
    assert hosts == ["b.test", "a.test"]
    client = await call(world, "POST", "/v1/rerank", kind, b'{"model":"other"}')
    assert (client.status, json.loads(client.body)["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(("error", "status"), [(httpx.ConnectError("x"), 502), (httpx.ReadTimeout("x"), 504)])
async def test_a_backend_that_gives_no_answer_is_our_error(error, status):
    client = await call(World(fakes.FakeBackend(error=error)))
    assert client.status == status


async def test_an_answer_that_breaks_off_breaks_off_for_the_client_too():
    async def pieces():
        yield b"part"
        raise httpx.ReadError("reset")

    client = await call(World(fakes.FakeBackend(pieces)))
    assert client.body == b"part"
    assert not client.is_complete


async def test_a_hundred_megabytes_go_up_and_come_down_unchanged():
    piece = bytes(range(256)) * 4096  # 1 MiB
    count = 100

    async def script(request, write):
        assert request.body_bytes == count << 20
        await write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (count << 20))
        for _ in range(count):
            await write(piece)

    async def upload():
        for _ in range(count):
            yield piece

    async with fakes.LoopbackBackend(script) as backend:
        world = World(backend, settings=Settings(backends=(Backend(url=backend.url),)))
        async with fakes.served(world.relay) as url, httpx.AsyncClient(trust_env=False, timeout=60) as client:
            headers = {
                "authorization": f"Bearer {fakes.MemoryKeys.app_key}",
                "content-length": str(count << 20),
            }
            digest = hashlib.sha256()
            async with client.stream("POST", f"{url}/v1/files", headers=headers, content=upload()) as reply:
                async for part in reply.aiter_raw():
                    digest.update(part)
        await world.relay.aclose()
    assert digest.hexdigest() == hashlib.sha256(piece * count).hexdigest()


async def test_a_client_that_leaves_ends_the_backends_answer():
    async def script(request, write):
        await write(fakes.STREAM_HEAD)
        while True:  # until the proxy hangs up
            await write(fakes.http_chunk(b"x" * 10_000))

    async with fakes.LoopbackBackend(script) as backend:
        world = World(backend, settings=Settings(backends=(Backend(url=backend.url),)))
        client = fakes.AsgiClient(world.relay)
        waited = client.app

        async def leaving(scope, receive, send):
            async def counted(message):
                await send(message)
                if len(client.messages) > 5:
                    client.leave()

            await waited(scope, receive, counted)

        client.app = leaving
        await client.call("GET", "/v1/files/x/content")
        assert not client.is_complete
        await world.relay.aclose()
