"""What a platform may ask of its credits by request header, and how they are told by response header.

A value that cannot be followed is refused by name, with the values that can: a header that is silently
ignored is a promise that was silently broken. Response values are ASCII and bounded, because proxies on the
way drop answers whose header block is too long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, cast

import msgspec

from proxy.wire.errors import WireError

View = Literal["off", "headers", "body", "full", "annotations"]
Mode = Literal["inline", "deferred"]
Status = Literal["settled", "pending", "off"]
RawHeaders = Sequence[tuple[bytes, bytes]]

_VIEWS = ("off", "headers", "body", "full", "annotations")
_MODES = ("inline", "deferred")
WORKS_MAX = 50
DEADLINE_MS_MAX = 60_000
SUBJECT_CHARACTERS_MAX = 256  # an opaque id, not a document
# Hop by hop, or ours to say; a length is said anew where a body may change.
_NOT_FORWARDED = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip
_DIGESTS = frozenset({b"content-digest", b"repr-digest", b"digest", b"content-md5"})  # RFC 9530; RFC 3230
CREDITS_BYTES_MAX = 4_096  # nginx and others refuse header blocks of 8 KiB; half is left to the backend


class Wishes(msgspec.Struct, frozen=True):
    """How this exchange's credits are shown: the app's settings, changed by the request's headers."""

    view: View = "body"
    works_top: int = 10
    mode: Mode = "inline"
    deadline_ms: int = 250
    subject: str = ""


def read_wishes(headers: RawHeaders, defaults: Wishes) -> Wishes:
    """Return the defaults with what the headers change. Raises WireError naming header and values."""
    given: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.lower()
        if name.startswith(b"x-attribution"):
            key = name.decode("latin-1")
            if key in given:
                raise WireError(f"the header {key} is given twice", remedy="send it once", param=key)
            given[key] = raw_value.decode("latin-1").strip()
    if not given:
        return defaults
    return Wishes(
        view=cast("View", _one_of(given, "x-attribution", _VIEWS, defaults.view)),
        works_top=_number(given, "x-attribution-top", 1, WORKS_MAX, defaults.works_top),
        mode=cast("Mode", _one_of(given, "x-attribution-mode", _MODES, defaults.mode)),
        deadline_ms=_number(given, "x-attribution-deadline-ms", 0, DEADLINE_MS_MAX, defaults.deadline_ms),
        subject=_subject(given),
    )


def _one_of(given: dict[str, str], name: str, values: tuple[str, ...], default: str) -> str:
    value = given.get(name, default)
    if value not in values:
        raise WireError(
            f"the header {name} is '{value[:64]}'", remedy=f"use one of: {', '.join(values)}", param=name
        )
    return value


def _number(given: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise WireError(
            f"the header {name} is '{text[:64]}'",
            remedy=f"use a whole number from {least} to {most}",
            param=name,
        )
    return int(text)


def _subject(given: dict[str, str]) -> str:
    name = "x-attribution-subject"
    text = given.get(name, "")
    if len(text) > SUBJECT_CHARACTERS_MAX or not all(" " <= character <= "~" for character in text):
        raise WireError(
            f"the header {name} is no opaque id of visible ASCII characters",
            remedy=f"use at most {SUBJECT_CHARACTERS_MAX} characters from space to tilde",
            param=name,
        )
    return text


def id_header(event_id: str) -> tuple[bytes, bytes]:
    """Return the header every reply carries before its first byte."""
    return b"x-attribution-id", event_id.encode("ascii")


def status_header(status: Status) -> tuple[bytes, bytes]:
    """Return how far the credits are."""
    return b"x-attribution-status", status.encode("ascii")


def credit_headers(shares: Iterable[tuple[str, int]], unattributed_ppm: int) -> list[tuple[bytes, bytes]]:
    """Return `x-attribution` and `x-attribution-unattributed`.

    shares: (work, ppm), largest first; as many are listed as fit into CREDITS_BYTES_MAX, so the list may be
    shorter than the body's. No works: no `x-attribution`, because an empty RFC 9651 list is no field at all.
    """
    listed: list[str] = []
    room = CREDITS_BYTES_MAX
    for work, ppm in shares:
        item = f"{work};ppm={ppm}"
        room -= len(item) + 2
        if room < 0:
            break
        listed.append(item)
    headers = [(b"x-attribution", ", ".join(listed).encode("ascii"))] if listed else []
    return [*headers, (b"x-attribution-unattributed", b"%d" % unattributed_ppm)]


def named_by_connection(headers: RawHeaders) -> set[bytes]:
    """Return the lower-case names of headers that `Connection` declares to be for one hop only."""
    return {
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }


def downward(headers: RawHeaders, *, may_change: bool = False) -> list[tuple[bytes, bytes]]:
    """Return the headers that reach the client, as they came, less those for our hop or ours to say.

    may_change: the body may be another than came, so that digests of it say nothing.
    """
    dropped = (_NOT_FORWARDED | _DIGESTS if may_change else _NOT_FORWARDED) | named_by_connection(headers)
    return [
        (name, value)
        for name, value in headers
        if (lower := name.lower()) not in dropped and not lower.startswith(b"x-attribution")
    ]


def field_of(headers: RawHeaders, name: bytes) -> bytes:
    """Return a header's first value without its parameters, lower case; empty when it is not there."""
    for given, value in headers:
        if given.lower() == name:
            return value.split(b";", 1)[0].strip().lower()
    return b""


def kind_of(headers: RawHeaders) -> bytes:
    """Return the content type with its parameters, where a form says its boundary; empty without one."""
    return next((value for name, value in headers if name.lower() == b"content-type"), b"")


def sized(
    kept: list[tuple[bytes, bytes]], length: int, extra: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Return the headers kept with the length said anew, and what is added."""
    others = [(name, value) for name, value in kept if name.lower() != b"content-length"]
    return [*others, (b"content-length", b"%d" % length), *extra]
