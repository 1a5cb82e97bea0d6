"""Ending an answer in the backend's place, where the replication guard says so.

A stream gets the events that a backend sends when its own filter ends one, in the words that clients of that
wire know: "content_filter" is OpenAI's for text that was left out, "refusal" Anthropic's for a stream that a
classifier ended. Clients with checked types refuse words they do not know. Of a whole reply the text and the
reason change, and every other byte stays. What cannot be read so is passed on as it came, because half a
change is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from proxy.wire.errors import WireError
from proxy.wire.spans import Span, elements, member_of

REASON = "content_filter"
REFUSAL = "refusal"
EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_DETAILS = b'{"reason":"content_filter"}'

_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str).decode
_index = msgspec.json.Decoder(int).decode
_members = msgspec.json.Decoder(dict[str, Any]).decode
Edits = list[tuple[int, int, bytes]]


class Cutter:
    """What is remembered of a stream so that it can be ended anywhere between two events."""

    def __init__(self) -> None:
        self._last = b""  # the last piece, at a stream's own size

    @property
    def is_between(self) -> bool:
        """Whether what was seen so far ends with an event: the client may have half of one that does not."""
        return self._last.endswith(EVENT_ENDS)

    def saw(self, piece: bytes) -> None:
        """Take what goes to the client."""
        self._last = piece

    def ending(self, choices: int) -> bytes:  # noqa: ARG002  a default cannot
        """Return the events that end the stream here; empty: it cannot be ended."""
        return b""


class ChoicesCutter(Cutter):
    """Ends chat and legacy completions: one more event with a reason for every choice, and [DONE]."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        """said: what a choice that says nothing has for a text."""
        super().__init__()
        self._said = dict(said)

    def ending(self, choices: int) -> bytes:
        """Return them with the id, created, model and the like of the last event; empty when it has none."""
        for line in reversed(self._last.splitlines()):
            if line.startswith(b"data:") and b"{" in line:
                try:
                    said = _members(line.removeprefix(b"data:"))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    return b""
                kept = {
                    name: value
                    for name, value in said.items()
                    if name not in {"choices", "usage", "attribution"}
                }
                kept["choices"] = [
                    {"index": number, **self._said, "logprobs": None, "finish_reason": REASON}
                    for number in range(choices)
                ]
                return b"data: " + _encode(kept) + b"\n\ndata: [DONE]\n\n"
        return b""


def cut_chat(body: bytes, ends: Mapping[int, int]) -> bytes:
    """Return a whole chat completion, the text of these choices ended at these code points."""
    return _edited(body, lambda: _choices_cut(body, ends, (b"message", b"content")))


def cut_completions(body: bytes, ends: Mapping[int, int]) -> bytes:
    """Return a whole legacy completion, the text of these choices ended at these code points."""
    return _edited(body, lambda: _choices_cut(body, ends, (b"text",)))


def cut_response(body: bytes, ends: Mapping[int, int]) -> bytes:
    """Return a whole response, its joined text ended at this code point; its status is then incomplete."""
    return _edited(body, lambda: _response_cut(body, ends.get(0)))


def cut_message(body: bytes, ends: Mapping[int, int]) -> bytes:
    """Return a whole message of Anthropic's, its joined text ended at this code point."""
    return _edited(body, lambda: _message_cut(body, ends.get(0)))


def _edited(body: bytes, edits: Callable[[], Edits]) -> bytes:
    try:
        found = edits()
    except (WireError, msgspec.DecodeError, UnicodeDecodeError):
        return body
    for first, last, written in sorted(found, reverse=True):
        body = body[:first] + written + body[last:]
    return body


def _choices_cut(body: bytes, ends: Mapping[int, int], path: tuple[bytes, ...]) -> Edits:
    edits: Edits = []
    choices = member_of(body, body.find(b"{"), b"choices")
    for place, span in enumerate(elements(body, choices[0]) if choices is not None else ()):
        number = member_of(body, span[0], b"index")
        end = ends.get(place if number is None else _index(body[slice(*number)]))
        text: Span | None = span
        for name in path:
            text = None if text is None else member_of(body, text[0], name)
        if end is None or text is None:
            continue
        edits.append((*text, _encode(_text(body[slice(*text)])[:end])))
        edits += _said_instead(body, span, b"finish_reason", _encode(REASON))
    return edits


def _response_cut(body: bytes, end: int | None) -> Edits:
    whole = (body.find(b"{"), len(body))
    if end is None:
        return []
    edits: Edits = []
    begun = 0
    for item in _objects(body, member_of(body, whole[0], b"output")):
        if _string(body, item, b"type") == b'"message"':
            content = member_of(body, item[0], b"content")
            texts, length = _texts_cut(body, content, b'"output_text"', end - begun)
            begun += length
            edits += texts
            edits += _said_instead(body, item, b"status", b'"incomplete"') if texts else []
    if edits:
        edits += _said_instead(body, whole, b"status", b'"incomplete"')
        details = member_of(body, whole[0], b"incomplete_details")
        added = (whole[0] + 1, whole[0] + 1, b'"incomplete_details":' + _DETAILS + b",")
        edits.append((*details, _DETAILS) if details is not None else added)
    return edits


def _message_cut(body: bytes, end: int | None) -> Edits:
    start = body.find(b"{")
    if end is None:
        return []
    edits, _ = _texts_cut(body, member_of(body, start, b"content"), b'"text"', end)
    if edits:
        edits += _said_instead(body, (start, len(body)), b"stop_reason", _encode(REFUSAL))
    return edits


def _texts_cut(body: bytes, parts: Span | None, kind: bytes, end: int) -> tuple[Edits, int]:
    """Return the edits that end the joined text of these parts, and how long it was."""
    edits: Edits = []
    begun = 0
    for part in _objects(body, parts):
        text = member_of(body, part[0], b"text") if _string(body, part, b"type") == kind else None
        if text is None:
            continue
        said = _text(body[slice(*text)])
        if begun + len(said) > end:
            edits.append((*text, _encode(said[: max(0, end - begun)])))
        begun += len(said)
    return edits, begun


def _said_instead(body: bytes, holder: Span, name: bytes, value: bytes) -> Edits:
    place = member_of(body, holder[0], name)
    return [] if place is None else [(*place, value)]


def _objects(body: bytes, array: Span | None) -> Iterator[Span]:
    if array is not None and body[array[0] : array[0] + 1] == b"[":
        yield from (span for span in elements(body, array[0]) if body[span[0] : span[0] + 1] == b"{")


def _string(body: bytes, holder: Span, name: bytes) -> bytes:
    place = member_of(body, holder[0], name)
    return b"" if place is None else body[slice(*place)]
