"""The output of a batch: a file of JSON lines, each an answer that was given some time ago.

A line names the request it answers (`custom_id`) and holds the reply as its endpoint would have given it, so
it is read by that endpoint. What the reply is says its `object`, because the line does not say where it was
asked (images have none, and are known by themselves); Anthropic's hold messages only, and their batch has
results in place of a file. A file may have any size, a line may not: of one that is longer than
LINE_BYTES_MAX only the beginning and the end are kept, where its name and its usage stand.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import msgspec

from proxy.wire.chat import ChatCompletions
from proxy.wire.completions import Completions
from proxy.wire.endpoint import Endpoint
from proxy.wire.measures import Measures
from proxy.wire.messages import Messages
from proxy.wire.output import Said, TokenCounts
from proxy.wire.pictures import Pictures
from proxy.wire.reading import INTEGER_MAX, tolerated
from proxy.wire.responses import Responses

LINE_BYTES_MAX = 4 << 20  # an answer of a million tokens; a request's text is not in it
END_BYTES = 16 << 10  # kept of the beginning and of the end of a longer one
SECONDS_MAX = 1 << 34
# In any case: some backends do not tell one from the other.
_CONTENT = re.compile(rb"(/v1/files/([A-Za-z0-9._:-]{1,256}))/content/?", re.IGNORECASE)
_RESULTS = re.compile(rb"(/v1/messages/batches/([A-Za-z0-9._:-]{1,256}))/results/?", re.IGNORECASE)
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*("(?:[^"\\]|\\.){0,2048}")')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_INPUT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*([0-9]{1,15})')
_CACHED = re.compile(rb'"cache_(?:creation|read)_input_tokens"\s*:\s*([0-9]{1,15})')
_OUTPUT = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*([0-9]{1,15})')


class RawLine(msgspec.Struct, frozen=True):
    """A line without its end. is_whole: nothing of it was left out; length: what it had."""

    data: bytes
    is_whole: bool = True
    length: int = 0


class BatchLine(msgspec.Struct, frozen=True):
    """One answer. endpoint: None when it is none that we can read. created_s: None when it does not say.

    bytes_left_out: of a line too long to be read; its text is then not known.
    """

    custom_id: str
    endpoint: Endpoint | None
    said: Said
    created_s: int | None = None
    is_refusal: bool = False
    bytes_left_out: int = 0


class _Response(msgspec.Struct, frozen=True):
    status_code: int = 200
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Result(msgspec.Struct, frozen=True):
    type: str = ""
    message: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct, frozen=True):
    custom_id: str
    response: _Response | None = None
    result: _Result | None = None


class _Body(msgspec.Struct, frozen=True):
    object: Any = None
    id: Any = None
    created: Any = None
    created_at: Any = None


class _File(msgspec.Struct, frozen=True):
    purpose: Any = None
    created_at: Any = None
    type: Any = None
    ended_at: Any = None


_line = msgspec.json.Decoder(_Line)
_body = msgspec.json.Decoder(_Body)
_file = msgspec.json.Decoder(_File)
_text = msgspec.json.Decoder(str)
_BY_OBJECT: dict[str, Endpoint] = {
    "chat.completion": ChatCompletions(),
    "text_completion": Completions(),
    "response": Responses(),
    "list": Measures("embeddings"),
    "video": Pictures("videos"),
}
_IMAGES = Pictures("images")  # generated or edited: a line does not say
_MODERATIONS = Measures("moderations")
_MESSAGES = Messages()


def file_in(raw_path: bytes) -> tuple[str, bytes]:
    """Return what a path asks the output of, a file or a batch of messages, and where that is told of.

    Both are empty when it asks for none.
    """
    found = _CONTENT.fullmatch(raw_path) or _RESULTS.fullmatch(raw_path)
    return (found.group(2).decode("ascii"), found.group(1)) if found else ("", b"")


def is_output(file: bytes) -> tuple[bool | None, int | None]:
    """Return whether this is a batch's output, as the backend's word on it says, and when it was made.

    None: it does not say.
    """
    said = tolerated(_file, file)
    if said is not None and said.type == "message_batch":
        return True, _moment(said.ended_at)
    if said is None or not isinstance(said.purpose, str):
        return None, None
    return said.purpose == "batch_output", _seconds(said.created_at)


class LineCutter:
    """Bytes in any pieces -> whole lines, however long. Keeps at most LINE_BYTES_MAX and a little."""

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._max = line_bytes_max
        self._kept = bytearray()
        self._end = bytearray()  # the last bytes of a line that is too long
        self._length = 0

    def feed(self, piece: bytes) -> list[RawLine]:
        """Return the lines that end in this piece."""
        lines: list[RawLine] = []
        *ended, rest = piece.split(b"\n")
        for part in ended:
            self._take(part)
            if self._length:
                lines.append(self._line())
        self._take(rest)
        return lines

    def finish(self) -> RawLine | None:
        """Return the last line when nothing ended it."""
        return self._line() if self._length else None

    def _take(self, part: bytes) -> None:
        self._length += len(part)
        if self._length <= self._max:
            self._kept += part
            return
        if not self._end:
            whole = self._kept + part
            self._kept, self._end = whole[:END_BYTES], whole[-END_BYTES:]
            return
        self._end += part[-END_BYTES:]
        del self._end[:-END_BYTES]

    def _line(self) -> RawLine:
        line = RawLine(bytes(self._kept + self._end), not self._end, self._length)
        self._kept.clear()
        self._end.clear()
        self._length = 0
        return line


def read_line(raw: RawLine) -> BatchLine | None:
    """Return the answer in a line; None for one that holds none: an error, or no batch's line at all."""
    if not raw.is_whole:
        return _long(raw)
    line = tolerated(_line, raw.data)
    if line is not None and line.result is not None:
        message = (
            _MESSAGES.read_reply(bytes(line.result.message)) if line.result.type == "succeeded" else None
        )
        return None if message is None else BatchLine(line.custom_id, _MESSAGES, message)
    if line is None or line.response is None:
        return None
    body = bytes(line.response.body)
    told = tolerated(_body, body)
    if told is None:
        return None
    endpoint = _BY_OBJECT.get(told.object) if isinstance(told.object, str) else None
    if endpoint is None and isinstance(told.id, str) and told.id.startswith("modr"):
        endpoint = _MODERATIONS
    if endpoint is None and told.object is None and (drawn := _IMAGES.read_reply(body)) and drawn.media:
        endpoint = _IMAGES
    said = (endpoint.read_reply(body) if endpoint is not None else None) or Said(counts=_usage_in(body))
    is_refusal = not 200 <= line.response.status_code < 300
    if said.counts is None and (is_refusal or endpoint is None):
        return None
    created_s = _seconds(told.created) or _seconds(told.created_at)
    return BatchLine(line.custom_id, endpoint, said, created_s, is_refusal=is_refusal)


def _long(raw: RawLine) -> BatchLine | None:
    name = _CUSTOM_ID.search(raw.data, 0, END_BYTES)
    custom_id = tolerated(_text, name.group(1)) if name else None
    if custom_id is None:
        return None
    said = Said(counts=_usage_in(raw.data[-END_BYTES:]))
    return BatchLine(custom_id, None, said, bytes_left_out=raw.length - len(raw.data))


def _usage_in(data: bytes) -> TokenCounts | None:
    """Return the counts behind the last `usage`, wherever it stands."""
    places = [match.end() for match in _USAGE.finditer(data)]
    if not places:
        return None
    given, told = _INPUT.search(data, places[-1]), _OUTPUT.search(data, places[-1])
    if given is None and told is None:
        return None
    cached = sum(int(match.group(1)) for match in _CACHED.finditer(data, places[-1]))
    return TokenCounts(int(given.group(1)) + cached if given else None, int(told.group(1)) if told else None)


def _seconds(value: Any) -> int | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 < value < min(SECONDS_MAX, INTEGER_MAX) else None


def _moment(value: Any) -> int | None:
    try:
        moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return _seconds(moment.timestamp()) if moment is not None and moment.tzinfo is not None else None
