"""Telling a webhook's address something: posted, and what came of it in a word.

Where it may go is decided at the door outside (`proxy.outside`). An answer's body is not read, and nothing
waits long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import httpx

from proxy.outside import Outside, Refused, Resolve, resolved

TIMEOUT_S: Final = 15.0  # from resolving to the answer's head


class Sender:
    """Sends messages. transport, resolve: stand in for the network."""

    def __init__(
        self, *, transport: httpx.AsyncBaseTransport | None = None, resolve: Resolve = resolved
    ) -> None:
        self._outside = Outside(transport=transport, resolve=resolve)

    async def aclose(self) -> None:
        """Close connections."""
        await self._outside.aclose()

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[bool, str]:
        """Post a message; return (whether it was taken, what was answered or went wrong)."""
        named = {"content-type": "application/json", "user-agent": "endcredits-webhook"} | dict(headers)
        try:
            # Its body says nothing to us, and may have no end.
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._outside.opened("POST", url, headers=named, content=body) as answer,
            ):
                status = answer.status_code
        except TimeoutError:
            return False, f"no answer within {TIMEOUT_S:g} s"
        except Refused as refused:
            return False, str(refused)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            return False, type(error).__name__
        return 200 <= status < 300, str(status)
