"""The small fields of a form that also carries a file, read without copying the file.

Audio and pictures go up as multipart/form-data. The relay needs a few short fields of it (the model, whether
to stream); the bytes travel as they came. A form that cannot be followed has no fields: its backend will say
what is wrong with it.

An alias changes the value of `model` and nothing else. Parsers of forms differ far more than those of JSON
(bare line feeds, unquoted names, text before the first mark), so whoever may use only some models must send
a form that every parser takes apart the same way: anything else is refused and not guessed at.

Source: RFC 7578, RFC 2046 5.1.
"""

from __future__ import annotations

import re

from proxy.wire.errors import WireError
from proxy.wire.spans import Span

PARTS_MAX = 256  # OpenAI's forms have a dozen fields and up to 16 pictures
FIELD_BYTES_MAX = 64 << 10  # a prompt for a picture is at most 32,000 characters
HEAD_BYTES_MAX = 4 << 10  # a part's own headers: a name, a file name, a type
_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name="([^"\r\n]{0,200})"', re.IGNORECASE)
# What all parsers read alike: one line that names the field, a file's name after it or not, and lines of
# other headers. A name with an escape, a percent sign or a bare line end in it is not among them.
_OTHER = rb"(?:\r\n(?!content-(?:disposition|transfer-encoding))[!-9;-~]+:[^\r\n]*)*"
_PLAIN_HEAD = re.compile(
    _OTHER
    + rb'\r\nContent-Disposition: form-data; name="([^"\r\n\\%]{1,200})"(; filename\*?=[^\r\n]*)?'
    + _OTHER,
    re.IGNORECASE,
)


def fields(body: bytes, content_type: bytes) -> dict[str, str]:
    """Return the form's text fields; files and long fields are left out. Empty when it is no form."""
    mark = _mark(content_type)
    if not mark:
        return {}
    found: dict[str, str] = {}
    start = body.find(mark)
    for _ in range(PARTS_MAX):
        if start < 0:
            break
        start += len(mark)
        end = body.find(b"\r\n" + mark, start)
        if body[start : start + 2] != b"\r\n" or end < 0:
            break  # the closing mark, or a form that was cut off
        head_end = body.find(b"\r\n\r\n", start, min(end, start + HEAD_BYTES_MAX))
        value_start = head_end + 4
        if head_end >= 0 and value_start <= end and end - value_start <= FIELD_BYTES_MAX:
            head = body[start:head_end]
            name = _NAME.search(head)
            if name is not None and b"filename" not in head.lower():
                value = body[value_start:end].decode("utf-8", "replace")
                found.setdefault(name.group(1).decode("utf-8", "replace"), value)
        start = end + 2
    return found


def is_form(content_type: bytes) -> bool:
    """Tell whether a request's type says that it is a form."""
    return content_type.lower().startswith(b"multipart/form-data")


def renamed(body: bytes, content_type: bytes, model: str) -> bytes:
    """Return the form with its model's name replaced; every other byte as it came.

    Raises WireError when no single place says it, or the name cannot stand in this form.
    """
    first, last = the_one_place(body, content_type)
    name = model.encode("utf-8")
    if _mark(content_type) in name:
        raise WireError("the form's boundary stands in the model's own name", remedy="send a longer one")
    return body[:first] + name + body[last:]


def the_one_place(body: bytes, content_type: bytes) -> Span:
    """Return the span of the model's value.

    Raises WireError when the form could be taken apart in two ways, or names its model twice or never.
    """
    places = [place for name, place in _plain_parts(body, content_type) if name.lower() == b"model"]
    if len(places) != 1 or places[0] is None:
        raise WireError(
            "the form names its model in no single place",
            remedy="send the field `model` once, in lower case",
            param="model",
        )
    return places[0]


def _plain_parts(body: bytes, content_type: bytes) -> list[tuple[bytes, Span | None]]:
    """Return (name, span of the value, None for a file) of each part, in order."""
    mark = _mark(content_type)
    if not mark or content_type.lower().count(b"boundary") != 1 or not body.startswith(mark + b"\r\n"):
        raise _odd()
    found: list[tuple[bytes, Span | None]] = []
    start = len(mark)
    for number in range(1, PARTS_MAX + 1):
        end = body.find(b"\r\n" + mark, start)
        head_end = body.find(b"\r\n\r\n", start, min(end, start + HEAD_BYTES_MAX)) if end >= 0 else -1
        head = _PLAIN_HEAD.fullmatch(body, start, head_end) if head_end >= 0 else None
        if head is None:
            raise _odd()
        found.append((head.group(1), None if head.group(2) else (head_end + 4, end)))
        start = end + 2 + len(mark)
        if body[start : start + 2] == b"--":
            # A mark anywhere else would be one to a parser that takes bare line feeds, or a second form.
            if body[start + 2 :].strip() or body.count(mark) != number + 1:
                break
            return found
        if body[start : start + 2] != b"\r\n":
            break
    raise _odd()


def _mark(content_type: bytes) -> bytes:
    boundary = _BOUNDARY.search(content_type) if is_form(content_type) else None
    return b"" if boundary is None else b"--" + (boundary.group(1) or boundary.group(2))


def _odd() -> WireError:
    return WireError(
        "this form's model cannot be read without doubt",
        remedy="send multipart/form-data as the official clients write it",
        param="model",
    )
