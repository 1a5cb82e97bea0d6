"""An ASGI application behind the server that clients of the proxy meet, for tests over raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from proxy.front import Front

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


TYPE = [(b"Content-Type", b"text/event-stream")]
WHOLE = [{**START, "headers": [(b"content-length", b"5"), (b"x-one", b"a\tb")]}, piece(b"hello", more=False)]
