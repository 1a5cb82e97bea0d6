"""Ending streams that are told as a tree of items or blocks: what was opened must be closed in its order.

Clients of Responses and of Messages build the answer from these events, and take the last one for the whole
of it. So the tree is kept as it is told, as far as an ending needs it and within KEPT_BYTES_MAX; a stream
that tells more than that cannot be ended and goes on.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from proxy.wire.cutting import REASON, REFUSAL, Cutter
from proxy.wire.errors import WireError
from proxy.wire.sse import SseDecoder

KEPT_BYTES_MAX = 8 << 20  # of one answer: its text twice over, tool calls, a drawing
_encode = msgspec.json.Encoder().encode
_event = msgspec.json.Decoder(dict[str, Any]).decode


class _TreeCutter(Cutter):
    """Follows a stream's events."""

    def __init__(self, frame_bytes_max: int) -> None:
        super().__init__()
        self._decoder = SseDecoder(frame_bytes_max)
        self._room = KEPT_BYTES_MAX
        self._is_lost = False

    def saw(self, piece: bytes) -> None:
        """Take what goes to the client."""
        super().saw(piece)
        if self._is_lost:
            return
        try:
            for frame in self._decoder.feed(piece):
                if frame.data:
                    self._told(_event(frame.data), len(frame.data))
        except (
            WireError,
            msgspec.DecodeError,
            ValueError,
            RecursionError,
            TypeError,
            KeyError,
            AttributeError,
        ):
            self._is_lost = True  # it is told in a way that we do not know

    def ending(self, choices: int) -> bytes:  # noqa: ARG002  there is one
        """Return the events that end the stream here; empty: it cannot be ended."""
        return b"" if self._is_lost else b"".join(self._closing())

    def _told(self, event: dict[str, Any], size: int) -> None:
        raise NotImplementedError

    def _closing(self) -> list[bytes]:
        raise NotImplementedError

    def _keep(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ValueError("too much to keep")


class ResponsesCutter(_TreeCutter):
    """Ends a response: its open part, its open items, then `response.incomplete` with all of them."""

    def __init__(self, frame_bytes_max: int) -> None:
        super().__init__(frame_bytes_max)
        self._response: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}  # by output_index, as they were last told whole
        self._open: dict[int, None] = {}
        self._parts: dict[tuple[int, int], list[str]] = {}  # text of parts under way
        self._number = -1

    def _told(self, event: dict[str, Any], size: int) -> None:
        self._number = int(event.get("sequence_number", self._number))
        match event.get("type"):
            case "response.created" | "response.in_progress":
                self._response = event["response"]
            case "response.output_item.added":
                self._keep(size)
                self._items[event["output_index"]] = event["item"]
                self._open[event["output_index"]] = None
            case "response.output_item.done":
                self._keep(size)
                self._items[event["output_index"]] = event["item"]
                self._open.pop(event["output_index"], None)
            case "response.output_text.delta":
                self._keep(len(event["delta"]))
                self._parts.setdefault(_place(event), []).append(event["delta"])
            case "response.content_part.added" if event["part"].get("type") == "output_text":
                self._parts[_place(event)] = []
            case "response.content_part.done":
                self._keep(size)
                item = self._items[event["output_index"]]
                self._parts.pop(_place(event), None)
                item["content"] = [*item.get("content", ()), event["part"]]
            case _:
                pass

    def _closing(self) -> list[bytes]:
        if not self._response:
            return []
        told: list[bytes] = []
        for (index, content_index), texts in self._parts.items():
            item, text = self._items[index], "".join(texts)
            at = {"item_id": item.get("id", ""), "output_index": index, "content_index": content_index}
            part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            told.append(self._named("response.output_text.done", {**at, "text": text, "logprobs": []}))
            told.append(self._named("response.content_part.done", {**at, "part": part}))
            item["content"] = [*item.get("content", ()), part]
        for index in self._open:
            item = self._items[index] = {**self._items[index], "status": "incomplete"}
            told.append(self._named("response.output_item.done", {"output_index": index, "item": item}))
        whole = {
            **self._response,
            "status": "incomplete",
            "incomplete_details": {"reason": REASON},
            "output": [self._items[index] for index in sorted(self._items)],
        }
        return [*told, self._named("response.incomplete", {"response": whole})]

    def _named(self, kind: str, members: dict[str, Any]) -> bytes:
        self._number += 1
        return _named(kind, {**members, "sequence_number": self._number})


class MessagesCutter(_TreeCutter):
    """Ends a message of Anthropic's: its open blocks, then its reason, then itself."""

    def __init__(self, frame_bytes_max: int) -> None:
        super().__init__(frame_bytes_max)
        self._open: dict[int, None] = {}
        self._usage: dict[str, Any] = {}
        self._has_begun = False

    def _told(self, event: dict[str, Any], size: int) -> None:  # noqa: ARG002  nothing of it is kept
        match event.get("type"):
            case "message_start":
                self._has_begun = True
                usage: Any = event["message"].get("usage")
                self._usage = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
            case "content_block_start":
                self._open[event["index"]] = None
            case "content_block_stop":
                self._open.pop(event["index"], None)
            case _:
                pass

    def _closing(self) -> list[bytes]:
        if not self._has_begun:
            return []
        # Clients want a count here. The backend's last word is from before there was any output; the usage
        # that is metered is counted from the text.
        usage = {"output_tokens": self._usage.get("output_tokens", 0)}
        delta = {"stop_reason": REFUSAL, "stop_sequence": None}
        return [
            *(_named("content_block_stop", {"index": index}) for index in self._open),
            _named("message_delta", {"delta": delta, "usage": usage}),
            _named("message_stop", {}),
        ]


def _place(event: dict[str, Any]) -> tuple[int, int]:
    return event["output_index"], event["content_index"]


def _named(kind: str, members: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _encode({"type": kind, **members}) + b"\n\n"
