"""Ending an answer in the backend's place, where the replication guard says so; chat completions' way.

A stream gets one more event that a backend might have sent, with "content_filter" as the finish_reason, and
[DONE]. Of a whole reply two members of a choice change, the text and the finish_reason; every other byte
stays. What cannot be read so is passed on as it came, because half a change is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.wire.errors import WireError
from proxy.wire.spans import elements, member_of

REASON = "content_filter"  # OpenAI's own for text that was left out; clients refuse words they do not know

_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str).decode
_index = msgspec.json.Decoder(int).decode
_members = msgspec.json.Decoder(dict[str, Any]).decode


def ending(piece: bytes, choices: int) -> bytes:
    """Return the last events of a stream of which `piece` was the last that came.

    id, created, model and the like are those of the last event in it. Empty when it holds none.
    """
    for line in reversed(piece.splitlines()):
        if line.startswith(b"data:") and b"{" in line:
            try:
                said = _members(line.removeprefix(b"data:"))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return b""
            kept = {
                name: value for name, value in said.items() if name not in {"choices", "usage", "attribution"}
            }
            kept["choices"] = [
                {"index": number, "delta": {}, "logprobs": None, "finish_reason": REASON}
                for number in range(choices)
            ]
            return b"data: " + _encode(kept) + b"\n\ndata: [DONE]\n\n"
    return b""


def cut_reply(body: bytes, ends: Mapping[int, int]) -> bytes:
    """Return a whole reply, the text of these choices ended at these code points, and saying so."""
    try:
        return _cut(body, ends)
    except (WireError, msgspec.DecodeError, UnicodeDecodeError):
        return body


def _cut(body: bytes, ends: Mapping[int, int]) -> bytes:
    edits: list[tuple[int, int, bytes]] = []
    choices = member_of(body, body.find(b"{"), b"choices")
    for place, span in enumerate(elements(body, choices[0]) if choices is not None else ()):
        number = member_of(body, span[0], b"index")
        end = ends.get(place if number is None else _index(body[slice(*number)]))
        message = member_of(body, span[0], b"message")
        content = None if message is None else member_of(body, message[0], b"content")
        if end is None or content is None:
            continue
        edits.append((*content, _encode(_text(body[slice(*content)])[:end])))
        reason = member_of(body, span[0], b"finish_reason")
        if reason is not None:
            edits.append((*reason, _encode(REASON)))
    for first, last, written in sorted(edits, reverse=True):
        body = body[:first] + written + body[last:]
    return body
