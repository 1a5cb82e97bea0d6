"""Screenplays in Fountain as the text that is played and read: scenes, action, names, dialogue, lyrics.

What its author wrote for the workshop and not for the play is left out: title page but for the title, notes,
boneyards, sections, synopses, page breaks, marks that force an element or an emphasis, numbers of scenes.
Syntax: fountain.io.
"""

from __future__ import annotations

import re
from typing import Final

_BONEYARD: Final = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_NOTE: Final = re.compile(r"\[\[(?:(?!\n[ \t]*\n|\]\]).){0,4000}\]\]", re.DOTALL)  # ends with its paragraph
_TITLE_KEY: Final = re.compile(r"([A-Za-z][A-Za-z ]{0,30}):(.{0,1000})\Z")
_SCENE_NUMBER: Final = re.compile(r"[ \t]+#[A-Za-z0-9.\-]{1,16}#[ \t]*\Z")
_PAGE_BREAK: Final = re.compile(r"={3,}[ \t]*\Z")
_SECTION: Final = re.compile(r"#{1,6}[^#]")
_SCENE: Final = re.compile(r"(?:INT|EXT|EST|I/E)[. /]", re.IGNORECASE)
# Emphasis that is closed on its line; a lone star is a star, and one behind a backslash is a star without it.
_EMPHASIS: Final = re.compile(r"(?<!\\)(\*{1,3}|_)(?=\S)([^*_\n]{1,1000}?)(?<=[^\s\\])\1")
_FORCED: Final = ("!", "@", "~", ".")


def fountain(text: str) -> tuple[str, str]:
    """Return (title or "", text)."""
    title, lines = _without_title_page(_NOTE.sub("", _BONEYARD.sub("", text)).split("\n"))
    return title, "\n".join(_played(lines)).strip("\n")


def _without_title_page(lines: list[str]) -> tuple[str, list[str]]:
    """Return (title, the lines after the title page), which begins with one of its keys or is not there."""
    place = next((place for place, line in enumerate(lines) if line.strip()), len(lines))
    if place == len(lines) or not _TITLE_KEY.match(lines[place]) or _SCENE.match(lines[place]):
        return "", lines
    title: list[str] = []
    in_title = False
    while place < len(lines) and lines[place].strip():
        if key := _TITLE_KEY.match(lines[place]):
            in_title = key[1].strip().lower() == "title"
            value = key[2]
        else:
            value = lines[place]
        if in_title and value.strip():
            title.append(_plain(value.strip()))
        place += 1
    return " ".join(title), lines[place:]


def _played(lines: list[str]) -> list[str]:
    played: list[str] = []
    for raw in lines:
        line = raw.strip()
        if _PAGE_BREAK.match(line) or _SECTION.match(line) or line.startswith("="):
            line = ""  # page breaks, sections, synopses
        elif line.startswith(">"):
            line = line[1:].removesuffix("<").strip()  # forced transitions, centred text
        elif line.startswith(_FORCED) and not line.startswith(".."):
            line = line[1:].lstrip()
        line = _SCENE_NUMBER.sub("", line).removesuffix("^").rstrip()  # ^: spoken at the same time
        if line or (played and played[-1]):
            played.append(_plain(line))
    return played


def _plain(line: str) -> str:
    """Return a line without marks of emphasis, which may stand in each other three deep."""
    for _ in range(3):
        line = _EMPHASIS.sub(r"\2", line)
    return line.replace("\\*", "*").replace("\\_", "_")
