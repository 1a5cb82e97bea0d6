"""Addresses of websockets at backends, and what a failed handshake is called."""

from __future__ import annotations

import asyncio

import pytest

from proxy.relay.sockets import address, open_socket
from proxy.relay.upstream import UpstreamFailed
from proxy.settings import Backend
from tests import fakes

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "query", "version", "said"),
    [
        ("https://api.example/v1", b"model=a", "", "wss://api.example/v1/realtime?model=a"),
        ("http://h:1/x/v1/", b"", "", "ws://h:1/x/v1/realtime"),
        ("https://n.azure.example/openai", b"deployment=d", "2025-04-01", "wss://n.azure.example/openai/realtime?deployment=d&api-version=2025-04-01"),
        ("https://n.azure.example/openai", b"api-version=1", "2", "wss://n.azure.example/openai/realtime?api-version=1"),
    ],
)  # fmt: skip
def test_a_websocket_has_the_backends_address(url, query, version, said):
    assert address(Backend(url=url, api_version=version), b"/v1/realtime", query) == said


async def opened(url, **more):
    backend = Backend(url=url, **more)
    return await open_socket(backend, b"/v1/realtime", b"", [], [], environ={})


async def test_one_that_is_silent_is_given_up():
    async def waiting(request, write):
        await asyncio.Event().wait()

    async with fakes.LoopbackBackend(waiting) as backend:
        with pytest.raises(UpstreamFailed) as caught:
            await opened(backend.url, connect_ms=50, first_byte_ms=50)
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    "said",
    [b"rubbish\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
)
async def test_one_that_speaks_no_websocket_breaks_the_protocol(said):
    async def odd(request, write):
        await write(said)

    async with fakes.LoopbackBackend(odd) as backend:
        with pytest.raises(UpstreamFailed) as caught:
            await opened(backend.url)
    assert caught.value.kind == "protocol"
