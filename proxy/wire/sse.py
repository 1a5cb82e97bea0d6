"""Server-sent events as they arrive, without a socket in sight.

A backend's stream is cut where the network cuts it, never where an event ends. SseDecoder hides that: give it
bytes in any pieces, take whole frames out. It keeps each frame's own bytes, because the relay forwards what
it did not change, and a re-encoded frame is a changed frame.

Nearly every event of nearly every backend is one `data: ` line and a blank one, and under load the network
gives many of them in one piece. `run` takes such a piece whole, a few searches in C for all of it; whatever
is not of that form it leaves to `feed`, which is the rule, and gives the same frames.

A frame is the shortest run of bytes that ends in a blank line, whatever the line ends are (LF, CRLF, CR,
mixed). Only a frame that ends in a lone CR waits for one more byte, because an LF after it would belong to
it.

Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import re

import msgspec

from proxy.wire.errors import WireError

FRAME_BYTES_MAX = 4 << 20  # one image chunk in base64 fits; a runaway backend does not
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_HEAD, _END = b"data: ", b"\n\n"
RUN_KEPT_BYTES_MAX = 1 << 16  # what `run` would copy again with each piece of an event that long


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event: its own bytes, and the joined `data` lines (None without any: comments, keep-alives)."""

    raw: bytes
    data: bytes | None


class Run(msgspec.Struct, frozen=True, gc=False):
    """Frames of one `data: ` line each: their bytes as they came, and the data of each; at least one."""

    raw: bytes
    data: list[bytes]

    def cut(self, count: int) -> tuple[list[Frame], bytes]:
        """Return the frames after the first `count`, and the bytes of those."""
        rest = [Frame(_HEAD + data + _END, data) for data in self.data[count:]]
        length = sum(len(frame.raw) for frame in rest)
        return rest, self.raw[: len(self.raw) - length]


class SseDecoder:
    """Bytes in any pieces -> whole frames. The frames' bytes, joined, are the bytes that went in."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._kept = bytearray()  # the start of a frame whose end has not come; at most frame_bytes_max
        self._is_first = True
        self._is_broken = False

    def run(self, piece: bytes) -> Run | None:
        """Return the frames that end in this piece, when each is one `data: ` line; else None: feed it.

        What it takes is taken as `feed` would; with None nothing is.
        """
        kept = self._kept
        if len(kept) > RUN_KEPT_BYTES_MAX:
            return None
        whole = bytes(kept) + piece if kept else piece
        end = whole.rfind(_END) + 2
        if end < 8 or len(whole) > self._frame_bytes_max or whole[:6] != _HEAD or b"\r" in whole:
            return None
        raw = whole if end == len(whole) else whole[:end]
        data = raw[6:-2].split(_END + _HEAD)
        # Every line end belongs to the end of a frame, so none stands inside.
        if raw.count(b"\n") != 2 * len(data):
            return None
        self._is_first = False
        if kept or raw is not whole:
            self._kept = bytearray(whole[end:])
        return Run(raw, data)

    def feed(self, piece: bytes) -> list[Frame]:
        """Return the frames that end in this piece.

        Raises WireError when a frame is over the limit: the stream cannot be followed from there. Frames
        before it are still returned, and the next call raises.
        """
        if self._is_broken:
            raise self._too_long()
        if not self._kept:
            if (
                piece.find(b"\n\n") == len(piece) - 2
                and 2 < len(piece) <= self._frame_bytes_max
                and b"\r" not in piece
            ):
                return [self._frame(piece)]  # the common case: one network read is one event
            start = 0
            buffer: bytes | bytearray = piece
        else:
            start = max(0, len(self._kept) - 3)  # a blank line may be cut anywhere in its four bytes
            self._kept += piece
            buffer = self._kept
        frames: list[Frame] = []
        taken = 0
        while match := _BLANK_LINE.search(buffer, start):
            end = match.end()
            if end == len(buffer) and buffer[-1] == 13:
                break  # a lone CR so far: an LF may follow
            if end - taken > self._frame_bytes_max:
                return self._broken(frames)
            frames.append(self._frame(bytes(buffer[taken:end])))
            taken = start = end
        if buffer is self._kept:
            del self._kept[:taken]
        else:
            self._kept += buffer[taken:]
        if len(self._kept) > self._frame_bytes_max:
            return self._broken(frames)
        return frames

    def finish(self) -> Frame | None:
        """Return what is left at the end: backends forget the last blank line, so it is read too."""
        if not self._kept:
            return None
        rest, self._kept = bytes(self._kept), bytearray()
        return self._frame(rest)

    def _frame(self, raw: bytes) -> Frame:
        text = raw
        if self._is_first:
            self._is_first = False
            text = raw.removeprefix(_BOM)
        if text[:6] == b"data: " and text.find(b"\n") == len(text) - 2 and b"\r" not in text:
            return Frame(raw, text[6:-2])
        return Frame(raw, _data_of(text))

    def _broken(self, frames: list[Frame]) -> list[Frame]:
        self._is_broken = True
        self._kept.clear()
        if not frames:
            raise self._too_long()
        return frames

    def _too_long(self) -> WireError:
        return WireError(
            f"an event of the backend's stream is longer than {self._frame_bytes_max} bytes",
            code="frame_too_long",
            status=502,
        )


def _data_of(text: bytes) -> bytes | None:
    lines: list[bytes] = []
    for line in _LINE_END.split(text):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value.removeprefix(b" "))
        elif line == b"data":
            lines.append(b"")
    return b"\n".join(lines) if lines else None
