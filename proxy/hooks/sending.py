"""The one file that speaks HTTP to webhooks' addresses.

A name is resolved here, every address it has must be one that everybody can reach, and the connection goes to
an address that was looked at: a name that means something else a moment later leads nowhere. The certificate
is checked for the name. Nothing is followed, an answer's body is not read, and nothing waits long.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx

from proxy.hooks.targets import is_public

TIMEOUT_S: Final = 15.0  # from resolving to the answer's head
Resolve = Callable[[str, int], Awaitable[list[str]]]


class Refused(Exception):
    """A target that must not be connected to."""


async def resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class Sender:
    """Sends messages. transport, resolve: stand in for the network."""

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

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[bool, str]:
        """Post a message; return (whether it was taken, what was answered or went wrong)."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._post(url, body, headers)
        except TimeoutError:
            return False, f"no answer within {TIMEOUT_S:g} s"
        except Refused as refused:
            return False, str(refused)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            return False, type(error).__name__
        return 200 <= status < 300, str(status)

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        addresses = await self._resolve(host, port)
        if parts.scheme != "https" or not addresses or not all(map(is_public, addresses)):
            raise Refused(f"{host} is not reachable by everybody")
        named = {"host": parts.netloc, "content-type": "application/json", "user-agent": "endcredits-webhook"}
        request = self._client.build_request(
            "POST",
            httpx.URL(url).copy_with(host=addresses[0]),
            content=body,
            headers=named | dict(headers),
            extensions={"sni_hostname": host},
        )
        answer = await self._client.send(request, stream=True)
        await answer.aclose()  # unread: its body says nothing to us, and may have no end
        return answer.status_code
