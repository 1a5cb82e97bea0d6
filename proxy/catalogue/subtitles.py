"""What is said in subtitles: .srt and .vtt without times, positions, styles and speakers' labels.

Lines of one cue, and cues that follow each other, are one text, because sentences run on through them; a
silence begins a new paragraph. Rolling captions show each line twice, as the new one and then as the old one
above the next: it is said once.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from proxy.errors import BadRequest

SILENCE_MS: Final = 5_000  # longer than the pauses between sentences of one speaker
_TIME: Final = r"((?:\d{1,4}:)?\d{1,2}:\d{2}[.,]\d{1,3})"
_TIMES: Final = re.compile(rf"[ \t]{{0,8}}{_TIME}[ \t]{{1,8}}-->[ \t]{{1,8}}{_TIME}")
# Tags as <i>, <v Ada>, <c.loud>, <00:01.500>, and SubStation's {\an8}. Bounded, so that the search is linear.
_TAG: Final = re.compile(r"</?[A-Za-z0-9:][^<>\n]{0,200}>|\{\\[^{}\n]{0,200}\}")
_NOT_CUES: Final = ("NOTE", "STYLE", "REGION")


def srt(text: str) -> str:
    """Return what is said in SubRip subtitles. Raises BadRequest where nothing is timed."""
    return _said(text, _untagged)


def vtt(text: str) -> str:
    """Return what is said in WebVTT. Raises BadRequest where it does not begin as one or nothing is timed."""
    if not re.match(r"\ufeff?WEBVTT(?:[ \t\n]|\Z)", text):
        raise BadRequest("this does not begin with WEBVTT", remedy="save it as WebVTT, or as .srt")
    return _said(text, lambda line: html.unescape(_untagged(line)))


def _untagged(line: str) -> str:
    return _TAG.sub("", line)


def _said(text: str, plain: Callable[[str], str]) -> str:
    said: list[str] = []
    before: list[str] = []
    ended_ms: int | None = None
    for begins_ms, ends_ms, lines in _cues(text):
        shown = [line for line in (" ".join(plain(one).split()) for one in lines) if line]
        new = shown[1:] if shown and before and shown[0] == before[-1] and len(shown) > 1 else shown
        if shown == before:
            new = []
        if new and said and ended_ms is not None and begins_ms - ended_ms > SILENCE_MS:
            said.append("")
        said += new
        before = shown or before
        ended_ms = ends_ms
    if ended_ms is None:
        raise BadRequest(
            "no line of it says when it is shown, like 00:00:01,000 --> 00:00:02,500",
            remedy="give subtitles, or save their text as .txt",
        )
    return "\n".join(said)


def _cues(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (first ms, last ms, lines). Blocks without times, as notes and styles, are none."""
    for block in _blocks(text.split("\n")):
        if block[0].startswith(_NOT_CUES):
            continue
        # The times are the first line, or the second after a number or a name.
        for place, line in enumerate(block[:2]):
            if times := _TIMES.match(line):
                yield _ms(times[1]), _ms(times[2]), block[place + 1 :]
                break


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _ms(time: str) -> int:
    clock, _, fraction = time.replace(",", ".").partition(".")
    seconds = 0
    for part in clock.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds * 1_000 + int(fraction.ljust(3, "0"))
