"""Where things are in JSON bytes, so that one member can change while every other byte stays.

A decoder gives values and forgets places; a splice needs places. This walks the tokens of one container
(never the whole document unless it must) and says where each member or element begins and ends. Input is JSON
that a real decoder has already accepted. The walk is bounded: past TOKENS_MAX every function here raises
WireError, and the callers leave the bytes as they came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxy.wire.errors import WireError

TOKENS_MAX = 200_000  # a tenth of a second; a body made of brackets would hold up everybody for many
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(rb"(" + _STRING + rb'|[{}\[\],:]|[^\s"{}\[\],:]+)', re.DOTALL)
# Inside a member only brackets matter: strings and scalars are passed over in one step. The quantifiers are
# possessive, so that no input makes the search go back over what it has passed.
_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+([{}\[\]])", re.DOTALL)
_OPEN, _CLOSE = (b"{", b"["), (b"}", b"]")

Span = tuple[int, int]


def members(data: bytes, start: int) -> Iterator[tuple[bytes, Span]]:
    """Yield (raw key without its quotes, span of the value) of the object that opens at `start`."""
    key = b""
    for token, span, is_key in _walk(data, start):
        if is_key:
            key = token[1:-1]
        else:
            yield key, span


def elements(data: bytes, start: int) -> Iterator[Span]:
    """Yield the span of each element of the array that opens at `start`."""
    for _, span, _ in _walk(data, start):
        yield span


def member_of(data: bytes, start: int, key: bytes) -> Span | None:
    """Return the span of the value under `key` (the last, if it is there twice, as decoders do)."""
    found: Span | None = None
    for name, span in members(data, start):
        if name == key:
            found = span
    return found


def last_brace(data: bytes) -> int:
    """Return where the last `}` is, if only white space follows it; else -1."""
    end = data.rfind(b"}")
    return end if end >= 0 and not data[end + 1 :].strip() else -1


def is_empty_container(data: bytes, end: int) -> bool:
    """Say whether the container that closes at `end` has nothing in it."""
    return data[:end].rstrip()[-1:] in _OPEN


def _walk(data: bytes, start: int) -> Iterator[tuple[bytes, Span, bool]]:
    """Yield (token, span, is it a key) for each key and value directly in the container at `start`."""
    depth = 0
    in_object = awaits_key = data[start : start + 1] == b"{"
    first = place = start  # first: where the member that is being walked over begins
    for _ in range(TOKENS_MAX):
        token = (_TOKEN if depth <= 1 else _BRACKET).search(data, place)
        if token is None:
            return
        text, place = token.group(1), token.end()
        if text in _OPEN:
            depth += 1
            if depth == 2:
                first = token.start(1)
        elif text in _CLOSE:
            depth -= 1
            if depth == 0:
                return
            if depth == 1:
                yield b"", (first, place), False
        elif text == b":":
            awaits_key = False
        elif text == b",":
            awaits_key = in_object
        else:
            yield text, token.span(1), awaits_key
    raise WireError(f"JSON with more than {TOKENS_MAX} tokens to walk over", code="json_too_wide")
