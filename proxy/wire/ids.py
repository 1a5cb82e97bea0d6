"""Ids of things that backends keep: where a request names them, and what a reply says was made.

A response, a file, a batch is fetched later by its id, at the backend that made it and by nobody else. So the
ids in a path count, and those members of a body by which one thing leads to another. An id in a text counts
nothing: inside a JSON string the quotes around it are escaped. Members written with escaped letters are read
like plain ones, because a decoder would read them so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote

import msgspec

ID_BYTES_MAX = 256
IDS_MAX = 64  # looked up at once; a request names a few
PEEKED_BYTES_MAX = 64 << 10  # of a reply that may say what was made; such replies are a few hundred bytes
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{3,255}")
_WORD = re.compile(r"[a-z]+(?:_[a-z]+)*")  # "input_items": a place in an address, and no id
_MEMBERS = (
    rb"previous_response_id|conversation(?:_id)?|file_ids?|input_file_id|training_file|validation_file|"
    rb"vector_store_ids?|container(?:_id)?|batch_id|video(?:_id)?|assistant_id|thread_id|upload_id|prompt_id"
)
_VALUE = rb'"([A-Za-z0-9._:-]{4,256})"'
_HOLDER = rb'\{\s*"id"\s*:\s*' + _VALUE
_LIST = rb"\[([^\[\]{}]{0,16384})\]"
_NAMED = re.compile(rb'"(?:' + _MEMBERS + rb')"\s*:\s*(?:' + _VALUE + rb"|" + _HOLDER + rb"|" + _LIST + rb")")
_HINTS = (b"_id", b"_file", b"conversation", b"container", b'"video"')  # most requests have none of them
_LISTED = re.compile(_VALUE)
_ESCAPED = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
_NO_IDS = frozenset({"models"})  # /v1/models/NAME: a model is everybody's


class _Made(msgspec.Struct, frozen=True):
    id: Any = None
    thread_id: Any = None
    output_file_id: Any = None
    error_file_id: Any = None
    file: Any = None
    response: Any = None


_made = msgspec.json.Decoder(_Made)


def ids_in_path(raw_path: bytes) -> list[str]:
    """Return what may be ids in a path with its /v1, in order; words of the address itself are none."""
    segments = [unquote(part) for part in raw_path.decode("latin-1").split("/")[2:]]
    if not segments or segments[0] in _NO_IDS:
        return []
    return [one for one in segments[1:] if _ID.fullmatch(one) and not _WORD.fullmatch(one)][:IDS_MAX]


def ids_in_body(body: bytes) -> list[str]:
    """Return the ids by which a JSON request leads to things that are kept, each once."""
    if body[:64].lstrip()[:1] != b"{":
        return []
    if b"\\u00" in body:
        body = _ESCAPED.sub(lambda match: _letter(match.group(1)), body)
    for hint in _HINTS:
        if hint in body:
            break
    else:
        return []
    found: dict[str, None] = {}
    for match in _NAMED.finditer(body):
        for one in _values(match):
            found[one.decode("ascii")] = None
            if len(found) == IDS_MAX:
                return list(found)
    return list(found)


def made_in(reply: bytes) -> list[str]:
    """Return the ids of what a JSON reply (or a stream's event) says is there now; empty for no object."""
    try:
        said = _made.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    inner = [_id_of(said.file), _id_of(said.response)]
    given = (said.id, said.thread_id, said.output_file_id, said.error_file_id, *inner)
    return [one for one in given if isinstance(one, str) and _ID.fullmatch(one)]


def _values(match: re.Match[bytes]) -> Iterator[bytes]:
    plain, inner, listed = match.groups()
    if listed is None:
        yield plain or inner
    else:
        yield from (one.group(1) for one in _LISTED.finditer(listed))


def _letter(digits: bytes) -> bytes:
    letter = bytes([int(digits, 16)])
    return letter if letter.isalnum() or letter in b"_-.:" else b"\\u00" + digits


def _id_of(value: Any) -> Any:
    return cast("dict[str, Any]", value).get("id") if isinstance(value, dict) else None
