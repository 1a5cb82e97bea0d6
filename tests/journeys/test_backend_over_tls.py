"""The whole application asks a backend over TLS: only one whose certificate it can trust hears of a request."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from proxy.settings import Backend
from tests import fakes
from tests.builders import chat_reply, chat_stream
from tests.live import live, settings_in
from tests.proxy.relay.test_upstream import certified

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def secured(folder, heard):
    """A backend behind TLS that answers whole or streamed; yield its base URL and its authority's file."""
    context, ca_file = certified(folder)

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(one for one in head.lower().split(b"\r\n") if one.startswith(b"content-length"))
            body = await reader.readexactly(int(length.split(b":")[1]))
            heard.append(head)
            if json.loads(body).get("stream"):
                events = b"".join(chat_stream(["The sea ", "has a shore."]))
                writer.write(fakes.http_reply(events, kind="text/event-stream"))
            else:
                writer.write(fakes.http_reply(chat_reply("The sea has a shore.")))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", ca_file
    finally:
        server.close()


@pytest.mark.parametrize("transport", ["own", "httpx"])
@pytest.mark.parametrize("trusts", [True, False])
async def test_a_backend_behind_tls_is_asked_only_under_an_authority_that_was_named(
    tmp_path, transport, trusts
):
    heard: list[bytes] = []
    async with secured(tmp_path, heard) as (url, ca_file):
        backend = Backend(url=url, ca_file=ca_file if trusts else "", transport=transport)
        settings = settings_in(tmp_path / "data", backends=(backend,))
        async with live(settings, transport=None) as app:
            headers = app.key()
            whole = await app.chat(headers)
            streamed = await app.chat(headers, stream=True)
    if trusts:
        assert whole.json()["attribution"]["status"] == "settled"
        assert streamed.text.rstrip().endswith("data: [DONE]")
        assert b"ec_app_" not in b"".join(heard)
    else:
        assert (whole.status_code, streamed.status_code) == (502, 502)
        assert whole.json()["error"]["code"] == "backend_unreachable"
        assert not heard
