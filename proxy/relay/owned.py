"""Lists of what a backend keeps show an app its own things, and none that another app made.

A backend's account is everybody's here, so its lists have the things of every app. A row goes when the proxy
knows who made it and that is somebody else; what was made past the proxy stays, and can be fetched by its id.
A page of which nothing is left is passed over for the next, because clients take an empty page for the last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from proxy.errors import Problem
from proxy.relay.needs import Scope
from proxy.relay.upstream import Answer
from proxy.wire import METERED_PATHS
from proxy.wire.coding import INFLATABLE, Inflater
from proxy.wire.errors import WireError
from proxy.wire.headers import field_of
from proxy.wire.ids import ids_in_path, made_in
from proxy.wire.lists import behind, read_list, without

if TYPE_CHECKING:
    from proxy.relay.makers import Makers

LIST_BYTES_MAX = 16 << 20  # a page of a hundred batches or answers with all they say; pages have a limit
PAGES_MAX = 20  # looked through for the first own row: 2,000 rows of others where a page has 100


def asks_for_list(scope: Scope) -> bool:
    """Tell whether a request may be for a list of things: no id in its path, and no list of models."""
    path: bytes = scope["raw_path"]
    if scope["method"] != "GET" or path in METERED_PATHS or path.split(b"/", 3)[2:3] in ([b"models"], [b""]):
        return False
    return not ids_in_path(path)


def is_list(answer: Answer) -> bool:
    """Tell whether a reply may be a list."""
    return answer.status == 200 and field_of(answer.headers, b"content-type") == b"application/json"


async def narrowed(
    answer: Answer, scope: Scope, makers: Makers, app_id: str, ask: Callable[[Scope], Awaitable[Answer]]
) -> bytes:
    """Return the reply without other apps' rows. Raises UpstreamFailed, and Problem when it cannot be told.

    ask: opens the request for another page.
    """
    for left in reversed(range(PAGES_MAX)):
        body = await _whole(answer)
        page = read_list(body)
        if page is None:
            return body  # one thing, or nothing that we read: it has no rows
        ids = {one: row for one, row in zip(page.ids, page.rows, strict=True) if one is not None}
        others = await makers.others(list(ids), app_id)
        for one, row in ids.items():
            if one not in others:
                makers.lead_to(one, made_in(row), app_id)
        if not others:
            return body
        if len(others) < len(ids) or None in page.ids or not (page.has_more and left):
            return without(page, others)
        scope = {**scope, "query_string": behind(scope["query_string"], scope["raw_path"], list(ids)[-1])}
        answer = await ask(scope)
        if not is_list(answer):
            await answer.aclose()
            return without(page, others)
    raise AssertionError("the last page is returned whatever it has")


async def _whole(answer: Answer) -> bytes:
    coding = field_of(answer.headers, b"content-encoding")
    inflater = Inflater(LIST_BYTES_MAX) if coding in INFLATABLE else None
    body = bytearray()
    async with contextlib.aclosing(answer):
        try:
            while (piece := await answer.read()) is not None:
                body += piece if inflater is None else inflater.feed(piece)
                if len(body) > LIST_BYTES_MAX:
                    raise _unreadable("is longer than we read")
        except WireError as error:
            raise _unreadable("is compressed in a way that cannot be read") from error
    if coding not in INFLATABLE | {b"", b"identity"} or (inflater is not None and inflater.is_cut):
        raise _unreadable("is compressed in a way that cannot be read")
    return bytes(body)


def _unreadable(why: str) -> Problem:
    return Problem(
        f"the backend's list {why}, and has rows of every app",
        remedy="ask for fewer rows with `limit`",
        code="backend_protocol",
        status=502,
    )
