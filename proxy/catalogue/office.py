"""Word's .docx into text: what a reader of the printed page would read, a paragraph a line.

Deleted and moved-away text of tracked changes, hidden text, field codes and the second rendering that old
programs get are left out; foot- and endnotes follow the body, page headers and footers do not. Fields, links
and pictures are not followed. Source: ISO/IEC 29500-1, both of its name spaces.
"""

from __future__ import annotations

import io
import zipfile
from typing import Final

from proxy.catalogue.archives import DAMAGED, Unpacking, parsed, xml_parser
from proxy.errors import BadRequest

_WORDS: Final = frozenset(
    {
        "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "http://purl.oclc.org/ooxml/wordprocessingml/main",
    }
)
_TITLE: Final = "http://purl.org/dc/elements/1.1/ title"
_COMPATIBILITY: Final = "http://schemas.openxmlformats.org/markup-compatibility/2006"
_BODY: Final = "word/document.xml"
_NOTES: Final = ("word/footnotes.xml", "word/endnotes.xml")
_PROPERTIES: Final = "docProps/core.xml"
_LEFT_OUT: Final = frozenset({"del", "moveFrom", "delText", "instrText", "delInstrText"})
_OFF: Final = frozenset({"0", "false", "off"})
_MARKS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011"}


def docx(raw: bytes, bytes_max: int) -> tuple[str, str]:
    """Return (title or "", text). Raises BadRequest for what is no .docx, TooLarge over `bytes_max`."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            unpack = Unpacking(archive, bytes_max)
            if not unpack.holds(_BODY):
                raise BadRequest("this archive is no Word document", remedy="save it anew as .docx")
            parts = [_body(unpack.entry(name)) for name in (_BODY, *_NOTES) if unpack.holds(name)]
            title = _title(unpack.entry(_PROPERTIES)) if unpack.holds(_PROPERTIES) else ""
    except DAMAGED as error:
        raise BadRequest(
            f"the document's archive is damaged or locked ({error})", remedy="save it anew, unprotected"
        ) from error
    return title, "\n\n".join(part for part in parts if part.strip())


def _body(raw: bytes) -> str:
    story, parser = _Story(), xml_parser("document")
    parser.StartElementHandler, parser.EndElementHandler = story.start, story.end
    parser.CharacterDataHandler = story.characters
    parsed(parser, raw, "document")
    return "\n".join(line.rstrip() for line in "".join(story.text).split("\n")).strip("\n")


def _title(raw: bytes) -> str:
    title: list[str] = []
    inside = False

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal inside
        inside = name == _TITLE

    def characters(text: str) -> None:
        if inside:
            title.append(text)

    def end(_name: str) -> None:
        nonlocal inside
        inside = False

    parser = xml_parser("document's properties")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, characters
    parsed(parser, raw, "document's properties")
    return "".join(title).strip()


class _Story:
    """The text of one part as its elements pass by. Bounded by the part, which is bounded."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self._left_out = 0  # how many open elements hold nothing that is read
        self._in_text = False
        self._hidden = False  # of the run that is open
        self._runs = 0  # open ones: a run may hold a text box, which holds runs

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take an element's begin."""
        space, _, local = name.rpartition(" ")
        if self._left_out or (space == _COMPATIBILITY and local == "Fallback"):
            self._left_out += 1
            return
        if space not in _WORDS:
            return
        if local in _LEFT_OUT:
            self._left_out = 1
        elif local == "r":
            self._runs, self._hidden = self._runs + 1, False
        elif local in {"vanish", "specVanish"}:
            self._hidden = attributes.get(f"{space} val", "1") not in _OFF
        elif local == "t":
            self._in_text = not self._hidden
        elif local in _MARKS and self._runs and not self._hidden:  # outside of runs they set tab stops
            self.text.append(_MARKS[local])

    def characters(self, text: str) -> None:
        """Take text between elements."""
        if self._in_text and not self._left_out:
            self.text.append(text.replace("\n", " "))

    def end(self, name: str) -> None:
        """Take an element's end."""
        if self._left_out:
            self._left_out -= 1
            return
        space, _, local = name.rpartition(" ")
        if space not in _WORDS:
            return
        if local == "t":
            self._in_text = False
        elif local == "r":
            self._runs -= 1
        elif local == "p":
            self.text.append("\n")
