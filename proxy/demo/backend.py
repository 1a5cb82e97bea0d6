"""A demonstration backend: the OpenAI wire over prepared answers, so the demo needs no model and no account.

It says what it is: the only model is `demo-credits-1`, every reply carries the fingerprint
`demonstration-backend`, and answers come from `answers.py`. The wire is real: JSON and server-sent events,
the role chunk first, a finish_reason chunk for each choice, usage when asked for, errors in OpenAI's shape
(`chat.py`). Here are the socket and the pace.

Run it with `python -m proxy.demo.backend --port N`; port 0 picks a free one. One JSON line says which.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn

from proxy.clock import Clock, SystemClock
from proxy.demo.answers import Repertoire, load_repertoire
from proxy.demo.chat import FINGERPRINT, MODEL, Refusal, choices_for, chunks, completion, decode_request

BODY_BYTES_MAX = 1 << 20  # a long conversation fits; a client that never stops sending does not
PIECE_MS = 15  # about the pace of a small model, and slow enough to be seen streaming

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class DemoBackend:
    """The ASGI application. `piece_ms` is the pause before each streamed chunk."""

    def __init__(
        self, repertoire: Repertoire, *, piece_ms: int = PIECE_MS, clock: Clock | None = None
    ) -> None:
        self._repertoire = repertoire
        self._clock = clock or SystemClock()
        self._piece_s = piece_ms / 1000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; other kinds of scope are ignored."""
        if scope["type"] != "http":
            return
        try:
            match (scope["method"], scope["path"].rstrip("/")):
                case ("GET", "/v1/models"):
                    await _send_json(send, 200, {"object": "list", "data": [_model()]})
                case ("GET", path) if path == f"/v1/models/{MODEL}":
                    await _send_json(send, 200, _model())
                case ("POST", "/v1/chat/completions"):
                    await self._chat(await _read_body(receive), receive, send)
                case (method, path):
                    await _send_error(
                        send, Refusal(404, f"Unknown request URL: {method} {path}", "unknown_url")
                    )
        except Refusal as refusal:
            await _send_error(send, refusal)

    async def _chat(self, body: bytes, receive: Receive, send: Send) -> None:
        request = decode_request(body)
        choices = choices_for(request, self._repertoire)
        reply_id = "chatcmpl-demo-" + hashlib.sha256(body).hexdigest()[:24]
        created_s = self._clock.now_us() // 1_000_000
        if request.stream:
            await self._stream(chunks(request, choices, reply_id, created_s), receive, send)
        else:
            await _send_json(send, 200, completion(request, choices, reply_id, created_s))

    async def _stream(self, parts: Iterator[dict[str, Any]], receive: Receive, send: Send) -> None:
        await send(_start(200, b"text/event-stream; charset=utf-8"))
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(_disconnected(receive))
            for part in parts:
                if leaving.done():
                    return
                await send(_body(b"data: " + _encode(part) + b"\n\n", more=True))
                await asyncio.sleep(self._piece_s)
            await send(_body(b"data: [DONE]\n\n"))
            leaving.cancel()


async def _disconnected(receive: Receive) -> None:
    """Return when the client has left; the body was read, so nothing else can come."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _model() -> dict[str, Any]:
    return {"id": MODEL, "object": "model", "created": 1_767_225_600, "owned_by": FINGERPRINT}


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise Refusal(413, f"The body is longer than {BODY_BYTES_MAX} bytes", "too_large")
        if not message.get("more_body", False):
            return bytes(body)


async def _send_error(send: Send, refusal: Refusal) -> None:
    error = {"message": refusal.message, "type": "invalid_request_error", "param": None, "code": refusal.code}
    await _send_json(send, refusal.status, {"error": error})


async def _send_json(send: Send, status: int, value: dict[str, Any]) -> None:
    await send(_start(status, b"application/json"))
    await send(_body(_encode(value)))


def _start(status: int, content_type: bytes) -> MutableMapping[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]}


def _body(data: bytes, *, more: bool = False) -> MutableMapping[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def main(argv: list[str] | None = None) -> None:
    """Serve on loopback until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.backend", description="demonstration backend")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--piece-ms", type=int, default=PIECE_MS, help="pause before each streamed piece")
    options = parser.parse_args(argv)
    listener = socket.create_server(("127.0.0.1", options.port))
    port = listener.getsockname()[1]
    print(json.dumps({"port": port, "base_url": f"http://127.0.0.1:{port}/v1"}), flush=True)
    app = DemoBackend(load_repertoire(), piece_ms=options.piece_ms)
    config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
