"""Closing a period from a page, in a process of its own: what closes needs numpy and a processor for itself.

A server that closed a month in a thread would hold up the streams that it carries meanwhile. So the page asks
a child, which reads the settings as the server's own processes do, prints what it found as JSON, and is gone.
One at a time: two closes would only wait for each other.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Final

import msgspec

from proxy.errors import BadRequest, Problem, Unavailable
from proxy.settings import Settings, handed_over

CLOSE_S: Final = 1_800.0  # a million answers take a minute or two of one core
_ERROR: Final = "error"


class Closer:
    """Asks for one close at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._one = asyncio.Semaphore(1)

    async def close(self, label: str, *, dry_run: bool) -> dict[str, Any]:
        """Return what closing `label` books, or would book. Raises Problem as the command does."""
        if not label or not label.isascii() or not label.isprintable() or label.startswith("-"):
            raise BadRequest("this cannot name a period", remedy="use a month, like 2026-11")
        if self._one.locked():
            raise Unavailable("a period is being closed already", remedy="wait until that one is done")
        async with self._one:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy.portal.closer", label, "dry" if dry_run else "real",
                env=os.environ | handed_over(self._settings),
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                async with asyncio.timeout(CLOSE_S):
                    said, _ = await child.communicate()
            except TimeoutError as error:
                child.kill()
                raise Unavailable(
                    "closing took too long for a page", remedy="close it by the command"
                ) from error
        return answer_of(said)


def answer_of(said: bytes) -> dict[str, Any]:
    """Return what the child found. Raises Problem for what it was refused, or for what is no answer."""
    try:
        told = msgspec.json.decode(said, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Unavailable("closing broke", remedy="the operator's log says more") from error
    if _ERROR in told:
        refused = told[_ERROR]
        raise Problem(
            str(refused["cause"]),
            remedy=str(refused["remedy"]),
            code=str(refused["code"]),
            status=int(refused["status"]),
        )
    return told
