"""Where a page of a list ends: what `next_cursor` is made of, for lists that are ordered by a time.

The time and the id of the last row that was shown. A row that is added or decided between two pages moves no
other one, so nothing is left out and nothing comes twice.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from proxy.errors import BadRequest

INT64_MAX = 2**63 - 1  # more is in neither store
Place = tuple[int, str]
T = TypeVar("T")


def cursor_of(at_us: int, name: str) -> str:
    """Return the cursor that goes on behind this row."""
    return base64.urlsafe_b64encode(f"{at_us} {name}".encode()).decode()


def place_in(cursor: str) -> Place | None:
    """Return the row behind which a page begins, None for the first page. Raises BadRequest."""
    if not cursor:
        return None
    try:
        at_us, _, name = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        place = int(at_us), name
    except ValueError as error:
        raise BadRequest("`cursor` cannot be read", remedy="pass next_cursor as it came") from error
    if not 0 <= place[0] <= INT64_MAX or not name.isprintable():
        raise BadRequest("`cursor` is none of ours", remedy="pass next_cursor as it came")
    return place


def page_of(
    found: Sequence[T], limit: int, row: Callable[[T], Any], place: Callable[[T], Place]
) -> dict[str, Any]:
    """Return the first `limit` of what was found, of which one more was asked for, as a reply's body."""
    following = cursor_of(*place(found[limit - 1])) if len(found) > limit else None
    return {"items": [row(one) for one in found[:limit]], "next_cursor": following}
