"""Files of works into text, trusting none of them: a reader for each suffix, and what holds for all.

Whatever comes in is read with a bound, decoded strictly (a work with letters replaced by guesses would not be
recognised later) and never interpreted beyond its text: scripts are dropped, links not followed, entities of
an untrusted XML not expanded, an archive's entries looked up by name and never written to disk.
"""

from __future__ import annotations

import codecs
import io
import posixpath
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from selectolax.lexbor import LexborHTMLParser, LexborNode

from proxy.catalogue import office, pdfs, screenplays, subtitles
from proxy.catalogue.archives import DAMAGED, ENTRIES_MAX, Unpacking, parsed, too_large, xml_parser
from proxy.catalogue.works import TITLE_CHARACTERS_MAX, printable
from proxy.errors import BadRequest

_BOMS = (
    (codecs.BOM_UTF32_LE, ""),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, ""),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DROPPED = {"script", "style", "noscript", "template", "head", "svg", "math", "iframe", "object", "select"}
_INLINE = {
    "abbr", "bdi", "bdo", "cite", "data", "del", "dfn", "ins", "kbd", "label", "mark", "q", "rb", "ruby",
    "samp", "span", "sub", "sup", "time", "var", "wbr",
}  # fmt: skip
# XHTML may close these at once; an HTML parser would then take the rest of the book for their content.
_CLOSED_AT_ONCE = re.compile(
    r"<(title|script|style|textarea|iframe|noscript|svg|math)\b([^<>]*)/>", re.IGNORECASE
)
# Left open, these are opened again in every block after them: a small page can unfold to any number of nodes.
# They are inline and say nothing about the text, so they go before parsing; bounds keep the search linear.
_FORMATTING = re.compile(
    r"</?(?:a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)"
    r"(?=[\s/>])(?:[^<>\"']|\"[^\"]{0,4000}\"|'[^']{0,4000}'){0,4000}>",
    re.IGNORECASE,
)
_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)", re.IGNORECASE)
# Void, or closed by what follows: these do not deepen a page when nobody closes them.
_FLAT = {
    "area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta", "option",
    "p", "param", "rp", "rt", "source", "tbody", "td", "tfoot", "th", "thead", "tr", "track", "wbr",
}  # fmt: skip
DEPTH_MAX = 2_000  # a parser's time grows with the square of the depth; pages people write stay below 100
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's title and text, lines ended by newlines."""

    title: str
    text: str


def read_document(path: Path, *, bytes_max: int) -> Document:
    """Return what is in a file.

    Raises BadRequest for what is no text (naming the byte where it stops being one), TooLarge over
    `bytes_max`, which also bounds what an archive unpacks to.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise BadRequest(
            f"'{suffix}' files are not read", remedy=f"convert it to one of {', '.join(READERS)}"
        )
    raw = read_bounded(path, bytes_max)
    document = READERS[suffix](raw, bytes_max)
    text = checked_text(document.text, bytes_max)
    return Document(printable(document.title, TITLE_CHARACTERS_MAX) or _title_of(path), text)


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """Return a regular file's bytes; TooLarge over the bound, BadRequest when it cannot be read."""
    try:
        # A pipe or a device would be read for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadRequest("this is no regular file", remedy="give a file")
        with path.open("rb") as file:
            raw = file.read(bytes_max + 1)
    except OSError as error:
        remedy = "check that it exists and may be read"
        raise BadRequest(f"it cannot be read ({error.strerror})", remedy=remedy) from error
    if len(raw) > bytes_max:
        raise too_large(bytes_max)
    return raw


def decoded(raw: bytes) -> str:
    """Return bytes as text: UTF-8, or UTF-16 with its mark. BadRequest names the first byte that is not."""
    encoding = next((name for mark, name in _BOMS if raw.startswith(mark)), "utf-8")
    if not encoding:
        raise BadRequest("this is UTF-32", remedy="save it as UTF-8")
    if encoding == "utf-8" and (place := raw.find(b"\0")) >= 0:
        raise BadRequest(f"byte {place} is zero: this is no text", remedy="give a text, saved as UTF-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise BadRequest(f"byte {error.start} is not {name}", remedy="save it as UTF-8") from error


def checked_text(text: str, bytes_max: int) -> str:
    """Return a work's text with plain newlines; BadRequest for an empty one or one that cannot be kept."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    if not text.strip():
        raise BadRequest("there is no text in it", remedy="give a file with words in it")
    if "\0" in text:
        raise BadRequest(f"character {text.index(chr(0))} is zero: this is no text", remedy="give a text")
    try:
        size_bytes = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        remedy = "write characters above U+FFFF whole"
        raise BadRequest(f"character {error.start} is half of a pair", remedy=remedy) from error
    if size_bytes > bytes_max:
        raise too_large(bytes_max)
    return text


def html_document(markup: str) -> Document:
    """Return a page's title and its text, one block a line."""
    markup = _FORMATTING.sub("", _CLOSED_AT_ONCE.sub(r"<\1\2></\1>", markup))
    depth = 0
    for tag in _TAG.finditer(markup):
        if tag[2].lower() not in _FLAT:
            depth = max(depth - 1, 0) if tag[1] else depth + 1
            if depth > DEPTH_MAX:
                raise BadRequest(f"the page is nested over {DEPTH_MAX} deep", remedy="save its text as .txt")
    tree = LexborHTMLParser(markup)
    title = next((node.text() for name in ("title", "h1") if (node := tree.css_first(name)) is not None), "")
    if tree.body is None:
        return Document(title, "")
    lines = (" ".join(line.split()) for line in "".join(_pieces(tree.body)).split("\n"))
    return Document(title, "\n".join(line for line in lines if line))


def _pieces(root: LexborNode) -> Iterator[str]:
    # By hand and without recursion: a page may be nested as deep as it is long.
    stack: list[LexborNode | str] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
            continue
        following = node.next if node is not root else None
        if following is not None:
            stack.append(following)
        tag = node.tag or ""
        if tag == "-text":
            # Newlines in the source are spaces on the page.
            yield (node.text_content or "").replace("\n", " ")
        elif tag not in _DROPPED and not tag.startswith(("-", "!", "#")):
            edge = "" if tag in _INLINE else "\n"
            yield edge
            stack.append(edge)
            if node.child is not None:
                stack.append(node.child)


def _markdown(text: str) -> Document:
    front = _FRONT_MATTER.match(text)
    body = text[front.end() :] if front else text
    named = (front and _FRONT_TITLE.search(front[1])) or _HEADING.search(body)
    return Document(named[1].strip(" \"'*_`") if named else "", body)


def _title_of(path: Path) -> str:
    return printable(re.sub(r"[-_]+", " ", path.stem), TITLE_CHARACTERS_MAX) or "untitled"


class _Package:
    """What a container or package file says: the package's place, its title, files by id, and their order."""

    def __init__(self) -> None:
        self.title = ""
        self.root = ""
        self.files: dict[str, str] = {}
        self.order: list[str] = []
        self._in_title = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take an element's begin."""
        local = name.rpartition(" ")[2]
        if local == "rootfile":
            self.root = self.root or attributes.get("full-path", "")
        elif local == "item":
            self.files[attributes.get("id", "")] = attributes.get("href", "")
        elif local == "itemref" and attributes.get("linear") != "no":
            self.order.append(attributes.get("idref", ""))
        self._in_title = local == "title" and not self.title

    def characters(self, text: str) -> None:
        """Take text between elements."""
        if self._in_title:
            self.title += text

    def end(self, _name: str) -> None:
        """Take an element's end."""
        self._in_title = False


def _epub(raw: bytes, bytes_max: int) -> Document:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            unpack = Unpacking(archive, bytes_max)
            root = _package_of(unpack.entry("META-INF/container.xml")).root
            package = _package_of(unpack.entry(root))
            folder = posixpath.dirname(root)
            chapters = [
                html_document(
                    decoded(unpack.entry(posixpath.normpath(posixpath.join(folder, unquote(href)))))
                )
                for href in (package.files.get(name, "") for name in package.order)
                if href
            ]
    except DAMAGED as error:
        raise BadRequest(
            f"the book's archive is damaged or locked ({error})", remedy="save it anew"
        ) from error
    titles = [package.title, *(chapter.title for chapter in chapters)]
    return Document(
        next((title for title in titles if title.strip()), ""),
        "\n\n".join(chapter.text for chapter in chapters if chapter.text),
    )


def _package_of(raw: bytes) -> _Package:
    package, parser = _Package(), xml_parser("book's package")
    parser.StartElementHandler, parser.EndElementHandler = package.start, package.end
    parser.CharacterDataHandler = package.characters
    parsed(parser, raw, "book's package")
    if len(package.order) > ENTRIES_MAX:
        raise BadRequest(f"the book has over {ENTRIES_MAX} chapters", remedy="give a plain book")
    return package


def _text(read: Callable[[str], Document]) -> Callable[[bytes, int], Document]:
    def reader(raw: bytes, _bytes_max: int) -> Document:
        return read(decoded(raw).replace("\r\n", "\n").replace("\r", "\n"))

    return reader


READERS: Final[Mapping[str, Callable[[bytes, int], Document]]] = MappingProxyType(
    {
        ".txt": _text(lambda text: Document("", text)),
        ".md": _text(_markdown),
        ".html": _text(html_document),
        ".htm": _text(html_document),
        ".xhtml": _text(html_document),
        ".epub": _epub,
        ".docx": lambda raw, bytes_max: Document(*office.docx(raw, bytes_max)),
        ".pdf": lambda raw, bytes_max: Document(*pdfs.pdf(raw, bytes_max)),
        ".srt": _text(lambda text: Document("", subtitles.srt(text))),
        ".vtt": _text(lambda text: Document("", subtitles.vtt(text))),
        ".fountain": _text(lambda text: Document(*screenplays.fountain(text))),
    }
)
