"""Text cut into segments, whole or as it arrives, without knowing where it comes from.

A model's answer streams in pieces cut anywhere; shares must not depend on those cuts. Segmenter decides a
boundary only when every character its rules can look at has arrived, so any cut of the same text gives the
same segments. No segment is longer than SEGMENT_CHARS_MAX: text without a single stop (code, tables, scripts
without spaces) is cut at a space, or anywhere.

The rules are few on purpose: stops followed by white space, stops of scripts that need none, blank lines and
list marks. A known abbreviation, an initial or a lower-case letter after a stop keeps the sentence whole; a
stub of a sentence stays with the next one. Headings, rows of tables and the fences of code are segments of
their own, so that none of them swallows the prose beside it. What is wrong here costs little: neighbours are
scored together later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SEGMENT_CHARS_MAX = 600  # about 130 word pieces of English: well inside the encoder's window of 256
SEGMENT_CHARS_MIN = 20  # "Yes." says nothing about a source; it joins what follows
OWN_LINE_CHARS_MAX = 300  # a heading or row that is longer is cut like prose: it waits for its end until then
_LOOKAHEAD = 24  # the farthest a rule below can see past a boundary

_BOUNDARY = re.compile(
    r"(?P<stop>[.!?…]{1,8}[\"'”’»)\]*_]{0,4})(?=\s)"
    r"|(?P<wide>[。！？｡؟۔।॥።፧។៕။།։]{1,8}[\"'”’»)\]」』）】》]{0,4})"
    r"|(?P<line>\n(?=[ \t\r]{0,8}\n)|\n(?=[ \t]{0,8}(?:[-*•#>|+`~・‣◦▪■●①-⑳]|\d{1,3}[.)．）、])))"
)
_OWN_LINE = re.compile(r"#{1,6}[ \t]|```|~~~|\|")
_HALF = re.compile("[\ud800-\udfff]")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“‘])(?:[A-Za-z]|Mr|Mrs|Ms|Dr|St|Sr|Jr|Prof|Rev|Hon|Capt|Col|Gen|Lt|Sgt|Messrs|Mme|Mlle|No|Vol|vs|etc"
    r"|cf|al|Fig|fig|Eq|eq|Sec|approx|e\.g|i\.e|a\.m|p\.m)\.$"
)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the text, white space trimmed; offsets in code points, half-open."""

    start: int
    end: int
    text: str


class Halves:
    """Text whose surrogate pairs may be cut in two by the stream, made whole.

    JSON carries a character beyond U+FFFF as two halves, and a backend may send each in an event of its own.
    A half that never meets its other stays what it is.
    """

    def __init__(self) -> None:
        self._held = ""  # the first half of a pair, or nothing

    def push(self, text: str) -> str:
        """Return the text that is whole now."""
        text = self._held + text
        self._held = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        text = text[: len(text) - len(self._held)]
        if _HALF.search(text):
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return text

    def flush(self) -> str:
        """Return what is left; the text has ended."""
        held, self._held = self._held, ""
        return held


class Segmenter:
    """Give it text in any pieces, take whole segments out."""

    def __init__(self) -> None:
        self._held = (
            ""  # from the first character not yet in a segment; bounded by one segment and the lookahead
        )
        self._offset = 0

    def push(self, text: str) -> list[Segment]:
        """Return the segments that this piece of text completes."""
        self._held += text
        return self._take(final=False)

    def flush(self) -> list[Segment]:
        """Return what is left; the text has ended."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> list[Segment]:
        held, done, cursor = self._held, list[Segment](), 0
        while True:
            while cursor < len(held) and held[cursor].isspace():
                cursor += 1
            end = _segment_end(held, cursor, final=final)
            if end is None or cursor >= len(held):
                break
            text = held[cursor:end].rstrip()
            done.append(Segment(self._offset + cursor, self._offset + cursor + len(text), text))
            cursor = end
        self._held, self._offset = held[cursor:], self._offset + cursor
        return done


def segments(text: str) -> list[Segment]:
    """Cut a whole text."""
    segmenter = Segmenter()
    return segmenter.push(text) + segmenter.flush()


def _segment_end(held: str, start: int, *, final: bool) -> int | None:
    """Return where the segment that begins at `start` ends, or None while more text could change that."""
    limit = start + SEGMENT_CHARS_MAX
    if _OWN_LINE.match(held, start):
        newline = held.find("\n", start, start + OWN_LINE_CHARS_MAX)
        if newline >= 0:
            return newline
        if len(held) < start + OWN_LINE_CHARS_MAX:
            return len(held) if final else None
    for match in _BOUNDARY.finditer(held, start, min(len(held), limit + _LOOKAHEAD)):
        if match.end() > limit:
            break
        if match.end() + _LOOKAHEAD > len(held) and not final:
            return None
        if _ends_here(held, start, match):
            return match.end()
    if len(held) >= limit + _LOOKAHEAD or (final and len(held) > limit):
        space = max(
            held.rfind(" ", start + SEGMENT_CHARS_MAX // 2, limit),
            held.rfind("\n", start + SEGMENT_CHARS_MAX // 2, limit),
        )
        return space if space > 0 else limit
    return len(held) if final else None


def _ends_here(held: str, start: int, match: re.Match[str]) -> bool:
    if match.lastgroup != "stop":
        return True
    if match.end() - start < SEGMENT_CHARS_MIN:
        return False
    following = held[match.end() : match.end() + _LOOKAHEAD].lstrip()[:1]
    if following.islower():
        return False
    return not (
        match.group() == "." and _ABBREVIATION.search(held, max(start, match.end() - 12), match.end())
    )
