"""Websockets to backends: opened like any request, with the backend's key and without the app's.

Nothing is compressed, nothing is followed, nothing is added but what the handshake needs. Messages wait on
the wire when nobody reads them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from proxy.relay.transport import trust
from proxy.relay.upstream import UpstreamFailed, proxy_for, upward
from proxy.settings import Backend
from proxy.wire.headers import RawHeaders

MESSAGE_BYTES_MAX = 16 << 20  # a backend takes 15 MiB of audio in one
WAITING_MAX = 4  # messages read ahead
PING_S = 20.0
CLOSE_S = 5.0
_OF_A_HANDSHAKE = (b"sec-websocket-", b"content-", b"origin", b"accept-encoding")


class Refused(Exception):
    """The backend answered the handshake with something else."""

    def __init__(self, status: int, headers: RawHeaders, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status, self.headers, self.body = status, headers, body


class _Direct(connect):
    """A handshake that follows no redirect: our key goes where the operator said and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_socket(
    backend: Backend,
    raw_path: bytes,
    query: bytes,
    headers: RawHeaders,
    protocols: Sequence[str],
    *,
    environ: Mapping[str, str] = os.environ,
    is_vouched: bool = False,
) -> ClientConnection:
    """Return a websocket to this backend. Raises Refused, or UpstreamFailed when it gives no answer."""
    key = environ.get(backend.api_key_env, "") if backend.api_key_env else ""
    kept = upward(
        headers, key=key, key_header=backend.key_header, identity=False, body=b"", is_vouched=is_vouched
    )
    shown = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in kept
        if not name.lower().startswith(_OF_A_HANDSHAKE)
    ]
    url = address(backend, raw_path, query)
    more: dict[str, Any] = {}  # a plain address takes no `ssl`
    if url.startswith("wss:"):
        more["ssl"] = trust(verify=backend.tls_verify, ca_file=backend.ca_file)
    try:
        async with asyncio.timeout((backend.connect_ms + backend.first_byte_ms) / 1000):
            return await _Direct(
                url,
                subprotocols=[Subprotocol(one) for one in protocols] or None,
                compression=None,
                additional_headers=shown,
                user_agent_header=None,
                proxy=(proxy_for(backend.url, environ) or None) if backend.env_proxies else None,
                open_timeout=None,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                close_timeout=CLOSE_S,
                max_size=MESSAGE_BYTES_MAX,
                max_queue=WAITING_MAX,
                **more,
            )
    except InvalidStatus as error:
        reply = error.response
        if not 200 <= reply.status_code <= HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED:
            raise UpstreamFailed("protocol", backend.name, f"status {reply.status_code}") from error
        said = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.raw_items()
        ]
        raise Refused(reply.status_code, said, bytes(reply.body or b"")) from error
    except (InvalidHandshake, InvalidURI) as error:
        raise UpstreamFailed("protocol", backend.name, type(error).__name__) from error
    except TimeoutError as error:
        raise UpstreamFailed("timeout", backend.name, "handshake") from error
    except OSError as error:
        raise UpstreamFailed("connect", backend.name, type(error).__name__) from error


def address(backend: Backend, raw_path: bytes, query: bytes) -> str:
    """Return the address of a websocket at this backend; raw_path as the client sent it, with /v1."""
    path, asked = raw_path.removeprefix(b"/v1").decode("latin-1"), query.decode("latin-1")
    if backend.api_version and "api-version=" not in asked:
        asked += ("&" if asked else "") + "api-version=" + backend.api_version
    return "ws" + backend.url.rstrip("/").removeprefix("http") + path + ("?" + asked if asked else "")
