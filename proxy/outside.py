"""Asking hosts that others named: the one way out for webhooks and for identity providers.

A name is resolved here, every address it has must be one that everybody can reach, and the connection goes to
an address that was looked at: a name that means something else a moment later leads nowhere. The certificate
is checked for the name. Nothing is followed, nothing is unpacked, and neither time nor size has no end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from proxy.addresses import is_public
from proxy.errors import Unavailable

TIMEOUT_S: Final = 15.0  # of connecting, and of each wait after that; a whole question has its own limit
PORTS: Final = {"https": 443, "http": 80}
Resolve = Callable[[str, int], Awaitable[list[str]]]


class Refused(Exception):
    """A target that must not be connected to."""


class Failed(Unavailable):
    """No answer that could be used; its text says why, in words for an operator."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    body: bytes


async def resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class Outside:
    """Asks. transport, resolve: stand in for the network."""

    def __init__(
        self, *, transport: httpx.AsyncBaseTransport | None = None, resolve: Resolve = resolved
    ) -> None:
        self._resolve = resolve
        self._client = httpx.AsyncClient(
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            timeout=TIMEOUT_S,
            # Kept by address, a connection made under one name would be used under another.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.aclose()

    @contextlib.asynccontextmanager
    async def opened(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes = b"",
        private: bool = False,
    ) -> AsyncGenerator[httpx.Response]:
        """Give an answer whose body is not read yet.

        private: an operator said that this host stands in a network of their own; it may then be asked in
        the clear too. Raises Refused, OSError, and httpx's errors.
        """
        parts = urlsplit(url)
        host, scheme = parts.hostname or "", parts.scheme
        addresses = await self._resolve(host, parts.port or PORTS.get(scheme, 0)) if scheme in PORTS else []
        if not addresses or not (private or (scheme == "https" and all(map(is_public, addresses)))):
            raise Refused(f"{host} is not reachable by everybody")
        request = self._client.build_request(
            method,
            httpx.URL(url).copy_with(host=addresses[0]),
            content=content,
            headers={"host": parts.netloc} | dict(headers),
            extensions={"sni_hostname": host},
        )
        answer = await self._client.send(request, stream=True)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes = b"",
        private: bool = False,
        bytes_max: int,
        within_s: float,
    ) -> Answer:
        """Return an answer of up to `bytes_max`, whole within `within_s`. Raises Failed."""
        # What is packed small may be large: nothing is unpacked, so nothing packed is asked for.
        wanted = {"accept-encoding": "identity", "user-agent": "endcredits"} | dict(headers)
        try:
            async with (
                asyncio.timeout(within_s),
                self.opened(method, url, headers=wanted, content=content, private=private) as answer,
            ):
                body = bytearray()
                async for piece in answer.aiter_raw():
                    body += piece
                    if len(body) > bytes_max:
                        raise Failed(f"an answer of more than {bytes_max} bytes")
                return Answer(answer.status_code, bytes(body))
        except TimeoutError as error:
            raise Failed(f"no answer within {within_s:g} s") from error
        except Refused as error:
            raise Failed(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, ValueError) as error:
            raise Failed(type(error).__name__) from error
