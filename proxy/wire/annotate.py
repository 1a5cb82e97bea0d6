"""How credits are written into an answer: one member spliced in, every other byte as the backend sent it.

Re-encoding a reply would reorder, reformat and drop what we do not know; a splice cannot. The member goes
last into the top-level object. When the backend's answer already has an `attribution` member (another
Endcredits further up, say), its value gives way to ours in its place: two members of one name mean different
things to different readers.

The `annotations` view is the one exception to the byte rule: it also adds url_citation entries, which chat
user interfaces already show, to `choices[i].message.annotations` or, on the held chunk, to
`delta.annotations`; in a response to the annotations of its output_text parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from proxy.wire.errors import WireError
from proxy.wire.headers import Status
from proxy.wire.spans import Span, elements, is_empty_container, last_brace, member_of
from proxy.wire.sse import Frame

_KEY = b'"attribution":'
_encode = msgspec.json.Encoder().encode


class EvidenceView(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where in the output a credit shows: code points of the choice's text; `choice` only when n > 1."""

    kind: str
    output: tuple[int, int]
    score: float
    choice: int | None = None


class WorkView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One work as an app sees it. `verdict` is there only when it is not an ordinary credit."""

    work: str
    title: str
    creators: tuple[str, ...]
    share_ppm: int
    licence: str
    url: str
    verdict: str | None = None
    evidence: tuple[EvidenceView, ...] | None = None


class ReplicationView(msgspec.Struct, frozen=True, omit_defaults=True):
    """More words of a work than an answer may repeat, and where they stand in the choice's text."""

    work: str
    words: int
    limit: int
    output: tuple[int, int]
    choice: int | None = None


class AttributionView(msgspec.Struct, frozen=True):
    """The spliced field."""

    id: str
    status: Status
    method: str
    unattributed_ppm: int | None
    works: tuple[WorkView, ...] = ()
    reason: str | msgspec.UnsetType = msgspec.UNSET  # why the status is off
    replication: tuple[ReplicationView, ...] | msgspec.UnsetType = msgspec.UNSET
    receipt: str | msgspec.UnsetType = msgspec.UNSET  # a compact JWS, of a settled answer


class UrlCitation(msgspec.Struct, frozen=True):
    """OpenAI's own members of a url_citation; indices are code points of the choice's text."""

    start_index: int
    end_index: int
    title: str
    url: str


class Citation(msgspec.Struct, frozen=True):
    """One annotation entry of one choice, with our public id as an extra member."""

    url_citation: UrlCitation
    work: str
    type: str = "url_citation"


class FlatCitation(msgspec.Struct, frozen=True):
    """The same as Responses write it: without the member in between."""

    start_index: int
    end_index: int
    title: str
    url: str
    work: str
    type: str = "url_citation"


Citations = dict[int, list[Citation]]


def spliced(body: bytes, view: AttributionView) -> bytes:
    """Return a JSON object's bytes with the field in it; the body itself when it is no object."""
    end = last_brace(body)
    start = body.find(b"{")
    if end < 0 or body[:start].strip(b" \t\r\n\xef\xbb\xbf"):
        return body
    value = _encode(view)
    try:
        present = member_of(body, start, b"attribution") if b'"attribution"' in body else None
    except WireError:
        return body  # too wide to walk: its shares are at the id
    if present is not None:
        return body[: present[0]] + value + body[present[1] :]
    comma = b"" if is_empty_container(body, end) else b","
    return body[:end] + comma + _KEY + value + body[end:]


def spliced_frame(
    frame: Frame, view: AttributionView, citations: Citations | None = None, *, holder: bytes = b""
) -> bytes:
    """Return the held frame's bytes with the field in its data, or in the object under `holder` there.

    A frame whose data is not one run of bytes (several data lines), or has no such object, is left as it
    came: its shares are at the id.
    """
    data = frame.data
    place = frame.raw.find(data) if data else -1
    if not data or place < 0:
        return frame.raw
    if holder:
        changed = _spliced_inside(data, view, citations, holder)
    else:
        changed = spliced(with_citations(data, citations, b"delta") if citations else data, view)
    return frame.raw[:place] + changed + frame.raw[place + len(data) :]


def _spliced_inside(data: bytes, view: AttributionView, citations: Citations | None, holder: bytes) -> bytes:
    try:
        held = member_of(data, data.find(b"{"), holder)
    except WireError:
        return data
    if held is None or data[held[0] : held[0] + 1] != b"{":
        return data
    inner = data[held[0] : held[1]]
    inner = with_response_citations(inner, citations) if citations else inner
    return data[: held[0]] + spliced(inner, view) + data[held[1] :]


def with_citations(body: bytes, citations: Citations, holder: bytes) -> bytes:
    """Return the body with entries added to each choice's annotations.

    holder: b"message" in a whole reply, b"delta" in a chunk. A choice that is not in these bytes, or has no
    holder, gets none: an entry is never worth a new event.
    """
    try:
        return _with_citations(body, citations, holder)
    except WireError:
        return body


def _with_citations(body: bytes, citations: Citations, holder: bytes) -> bytes:
    choices = member_of(body, body.index(b"{"), b"choices")
    if choices is None or body[choices[0] : choices[0] + 1] != b"[":
        return body
    edits: list[tuple[int, int, bytes]] = []
    for place, (first, _) in enumerate(elements(body, choices[0])):
        index = member_of(body, first, b"index")
        said = body[index[0] : index[1]] if index else b""
        number = int(said) if said.isdigit() else place
        held = member_of(body, first, holder)
        entries = citations.get(number)
        if entries and held and body[held[0] : held[0] + 1] == b"{":
            edits.append(_annotating(body, held, entries))
    for first, last, text in reversed(edits):
        body = body[:first] + text + body[last:]
    return body


def with_response_citations(response: bytes, citations: Citations) -> bytes:
    """Return a response's bytes with entries added to the annotations of its output_text parts.

    Citations count in all parts joined; here each is told in its own part's places, cut where a part ends.
    """
    try:
        return _with_response_citations(response, citations.get(0, []))
    except (WireError, msgspec.DecodeError, UnicodeDecodeError):
        return response


def _with_response_citations(body: bytes, entries: Sequence[Citation]) -> bytes:
    edits: list[tuple[int, int, bytes]] = []
    begun = 0  # where this part begins in the text of all parts
    for part in _text_parts(body):
        text = member_of(body, part[0], b"text")
        if text is None:
            continue
        length = len(msgspec.json.decode(body[text[0] : text[1]], type=str))
        found = [entry for entry in (_within(entry, begun, length) for entry in entries) if entry is not None]
        begun += length
        if found:
            edits.append(_annotating(body, part, found))
    for first, last, written in reversed(edits):
        body = body[:first] + written + body[last:]
    return body


def _text_parts(body: bytes) -> Iterator[Span]:
    """Yield the span of each output_text part, in order."""
    output = member_of(body, body.find(b"{"), b"output")
    for item in _objects(body, output):
        if _string_of(body, item, b"type") == b'"message"':
            for part in _objects(body, member_of(body, item[0], b"content")):
                if _string_of(body, part, b"type") == b'"output_text"':
                    yield part


def _objects(body: bytes, array: Span | None) -> Iterator[Span]:
    if array is not None and body[array[0] : array[0] + 1] == b"[":
        for span in elements(body, array[0]):
            if body[span[0] : span[0] + 1] == b"{":
                yield span


def _string_of(body: bytes, holder: Span, key: bytes) -> bytes:
    span = member_of(body, holder[0], key)
    return b"" if span is None else body[span[0] : span[1]]


def _within(entry: Citation, begun: int, length: int) -> FlatCitation | None:
    cited = entry.url_citation
    first, last = max(cited.start_index - begun, 0), min(cited.end_index - begun, length)
    return FlatCitation(first, last, cited.title, cited.url, entry.work) if first < last else None


def _annotating(
    body: bytes, held: Span, entries: Sequence[Citation] | Sequence[FlatCitation]
) -> tuple[int, int, bytes]:
    """Return (from, to, bytes) of the one edit that adds the entries to the object at `held`."""
    written = _encode(entries)
    present = member_of(body, held[0], b"annotations")
    if present is None:
        end = held[1] - 1
        comma = b"" if is_empty_container(body, end) else b","
        return end, end, comma + b'"annotations":' + written
    first, last = present
    if body[first : first + 1] != b"[":
        return first, last, written
    comma = b"" if is_empty_container(body, last - 1) else b","
    return last - 1, last - 1, comma + written[1:-1]
