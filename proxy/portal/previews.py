"""`POST /api/policies/{id}/preview`: what a period would have paid by another policy or other prices.

It is computed by a process of its own, as a close is: a month is read and rated twice, which wants numpy and
a processor for itself. One at a time, and it ends when it takes too long. Nothing is written by it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, Any, Final

import msgspec
from litestar import Router, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody

from proxy.access.guards import requires
from proxy.access.keys import Action
from proxy.errors import Unavailable
from proxy.portal.closing import answer_of
from proxy.settings import Settings, handed_over

PREVIEW_S: Final = 600.0  # a million answers take one or two minutes of one core
ROWS_MAX: Final = 500


class PreviewIn(msgspec.Struct, forbid_unknown_fields=True):
    """Of which period, "" for what is not closed yet. prices: the text of a price file, to price all anew."""

    period: str = ""
    prices: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)] = 100


class Asked(PreviewIn):
    """What the child is asked. policy: an id, or "settings"."""

    policy: str = ""


class Previewer:
    """Asks for one preview at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._one = asyncio.Semaphore(1)

    async def preview(self, asked: Asked) -> dict[str, Any]:
        """Return the preview as `preview.told` says it. Raises Problem as the command does."""
        if self._one.locked():
            raise Unavailable("a preview is being computed already", remedy="wait until that one is done")
        async with self._one:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy.portal.previewer",
                env=os.environ | handed_over(self._settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                async with asyncio.timeout(PREVIEW_S):
                    said, _ = await child.communicate(msgspec.json.encode(asked))
            except TimeoutError as error:
                raise Unavailable(
                    "the preview took too long for a page",
                    remedy="`endcredits policies preview` has no limit",
                ) from error
            finally:
                if child.returncode is None:  # too long, or whoever asked is gone
                    child.kill()
                    await child.wait()
        return answer_of(said)


def previews_router(previewer: Previewer) -> Router:
    """Return the route."""

    @post("/policies/{policy:str}/preview", guards=[requires(Action.OPERATE)], status_code=200)
    async def preview(policy: FromPath[str], data: JSONBody[PreviewIn]) -> dict[str, Any]:
        """What a period would have paid by this policy ("settings": as they are), beside what it pays."""
        asked = Asked(period=data.period, prices=data.prices, limit=data.limit, policy=policy)
        return await previewer.preview(asked)

    handlers: list[BaseRouteHandler] = [preview]
    return Router("/api", route_handlers=handlers)
