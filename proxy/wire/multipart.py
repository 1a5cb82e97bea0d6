"""The small fields of a form that also carries a file, read without copying the file.

Audio and pictures go up as multipart/form-data. The relay needs a few short fields of it (the model, whether
to stream); the bytes travel as they came. A form that cannot be followed has no fields: its backend will say
what is wrong with it.

Source: RFC 7578, RFC 2046 5.1.
"""

from __future__ import annotations

import re

PARTS_MAX = 256  # OpenAI's forms have a dozen fields and up to 16 pictures
FIELD_BYTES_MAX = 64 << 10  # a prompt for a picture is at most 32,000 characters
HEAD_BYTES_MAX = 4 << 10  # a part's own headers: a name, a file name, a type
_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name="([^"\r\n]{0,200})"', re.IGNORECASE)


def fields(body: bytes, content_type: bytes) -> dict[str, str]:
    """Return the form's text fields; files and long fields are left out. Empty when it is no form."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None or not content_type.lower().startswith(b"multipart/form-data"):
        return {}
    mark = b"--" + (boundary.group(1) or boundary.group(2))
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
