"""Lists of things that a backend keeps, page by page: rows with ids, of which some are left out.

OpenAI's lists and Anthropic's have the same form: `data`, and where there are more pages `has_more` with
`first_id` and `last_id`. The next page is asked for behind a row: `after`, with Anthropic `after_id`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import msgspec

from proxy.wire.reading import tolerated


class Listed(msgspec.Struct, frozen=True):
    """One page. ids: of its rows, None for a row that has none."""

    members: dict[str, msgspec.Raw]
    rows: list[msgspec.Raw]
    ids: list[str | None]
    has_more: bool


class _Row(msgspec.Struct, frozen=True):
    id: Any = None


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_row = msgspec.json.Decoder(_Row)
_encode = msgspec.json.Encoder().encode


def read_list(body: bytes) -> Listed | None:
    """Return the page in a reply, None when it is none."""
    members = tolerated(_members, body)
    rows = None if members is None else tolerated(_rows, members.get("data", msgspec.Raw(b"0")))
    if members is None or rows is None:
        return None
    ids = [_id_of(row) for row in rows]
    return Listed(members, rows, ids, bytes(members.get("has_more", b"")) == b"true")


def without(page: Listed, left_out: Collection[str]) -> bytes:
    """Return the page without the rows of these ids; every other row as it came.

    `first_id` and `last_id` name rows that are left, and where none is, what the backend said last: whoever
    asks on behind it finds what comes after.
    """
    kept = [(one, row) for one, row in zip(page.ids, page.rows, strict=True) if one not in left_out]
    members = {**page.members, "data": msgspec.Raw(_encode([row for _, row in kept]))}
    named = [one for one, _ in kept if one is not None]
    for name, place in (("first_id", 0), ("last_id", -1)):
        if name in members and named:
            members[name] = msgspec.Raw(_encode(named[place]))
    return _encode(members)


def behind(query: bytes, raw_path: bytes, last_id: str) -> bytes:
    """Return the query of the page behind this row."""
    name = b"after_id" if raw_path.startswith(b"/v1/messages/") else b"after"
    kept = [part for part in query.split(b"&") if part and part.partition(b"=")[0] != name]
    return b"&".join((*kept, name + b"=" + quote(last_id, safe="").encode("ascii")))


def _id_of(row: msgspec.Raw) -> str | None:
    said = tolerated(_row, row)
    return said.id if said is not None and isinstance(said.id, str) else None
