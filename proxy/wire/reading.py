"""Reading JSON that others wrote: strict with requests, tolerant with answers.

A request that cannot be read is refused by name, because answering it would meter something nobody asked for.
An answer that cannot be read says nothing and still goes by as it came: backends differ, and a client may
understand what we do not.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TypeVar

import msgspec

from proxy.wire.errors import WireError
from proxy.wire.output import TokenCounts
from proxy.wire.spans import member_of

T = TypeVar("T")
INTEGER_MAX = 2**53  # what every JSON reader can count to
Count = int | float | None  # as backends write counts
NULL = msgspec.Raw(b"null")
# A duration as a number or as text that holds one, both in as many digits as anybody measures.
_SECONDS = re.compile(rb'(")?([0-9]{1,16}(?:\.[0-9]{1,64})?(?:[eE][+-]?[0-9]{1,2})?)(?(1)")')


class Part(msgspec.Struct, frozen=True):
    """One part of a message: text, or something that is not."""

    type: str = ""
    text: str | None = None


Content = str | list[Part] | None


def decoded(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """Return a request's JSON. Raises WireError with the member at fault; what: as in "a chat request"."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        param = place.rstrip("`") or None
        raise WireError(
            f"the request body cannot be read: {message}" + (f" at '{param}'" if param else ""),
            remedy=f"send {what} as a JSON object",
            param=param,
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(
            f"the request body is not JSON: {error}",
            remedy="send one JSON object in UTF-8",
            code="invalid_json",
        ) from error


def tolerated(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T | None:
    """Return an answer's JSON, or None when it cannot be read as that."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # a thousand brackets are JSON too, and no answer


def natural(number: Count) -> int | None:
    """Return a count as an integer; a backend that reports nonsense has reported nothing."""
    if number is None or not 0 <= number < INTEGER_MAX or number != int(number):
        return None
    return int(number)


def milliseconds_of(seconds: bytes | msgspec.Raw) -> int | None:
    """Return a JSON value of seconds in milliseconds, rounded up; None for what is no duration.

    Its digits are read as they were written, so no binary fraction comes between.
    """
    number = _SECONDS.fullmatch(bytes(seconds))
    if number is None:
        return None
    exact = Fraction(number.group(2).decode("ascii")) * 1000
    milliseconds = -(-exact.numerator // exact.denominator)
    return milliseconds if milliseconds < INTEGER_MAX else None


def counts_of(given: Count, told: Count) -> TokenCounts:
    """Return token counts as reported."""
    return TokenCounts(natural(given), natural(told))


def plain(content: Content) -> str:
    """Return the text of a message's content, given as a string or as parts."""
    if isinstance(content, list):
        return "".join(
            part.text or "" for part in content if part.type in {"text", "output_text", "input_text"}
        )
    return content or ""


def asking_for_usage(body: bytes) -> bytes:
    """Return the body with `stream_options.include_usage` true; every other byte as it came.

    Without `stream_options` it is put in first. With it, only that member changes: a missing `include_usage`
    is added inside, a false one becomes true, null becomes an object. A body too wide to walk stays as it is:
    usage is then estimated.
    """
    try:
        return _asking_for_usage(body)
    except WireError:
        return body


def _asking_for_usage(body: bytes) -> bytes:
    start = body.index(b"{")
    options = member_of(body, start, b"stream_options") if b'"stream_options"' in body else None
    if options is None:
        return body[: start + 1] + b'"stream_options":{"include_usage":true},' + body[start + 1 :]
    first, last = options
    if body[first:last] == b"null":
        return body[:first] + b'{"include_usage":true}' + body[last:]
    flag = member_of(body, first, b"include_usage")
    if flag is not None:
        return body[: flag[0]] + b"true" + body[flag[1] :]
    comma = b"" if body[first + 1 : last - 1].strip() == b"" else b","
    return body[: first + 1] + b'"include_usage":true' + comma + body[first + 1 :]
