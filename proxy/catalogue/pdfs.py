"""PDF into text, read by PDFium in a process of its own.

A PDF is a program that strangers send, and PDFium is written in C++: it reads in a child with a bound on
memory, processor time and what it may say, which opens no file and is gone afterwards. Whatever happens to
the child is a refusal of that file and of nothing else.

Lines keep their order as PDFium gives it. A word that is cut at the end of a line is whole again; running
heads and page numbers, which stand first or last on many pages, are left out: they would cut sentences.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from typing import Final

import msgspec

from proxy.catalogue.archives import too_large
from proxy.errors import BadRequest

PAGES_MAX: Final = 10_000  # the longest books have some four thousand
MEMORY_BYTES_MAX: Final = 2 << 30  # a book of pictures takes some hundred MB; the file itself is in it
CPU_SECONDS_MAX: Final = 60  # PDFium reads some hundred pages a second
_RUNNING_PAGES_MIN: Final = 3
_EDGE_LINES: Final = 2  # of a page, at either end, that may be a running head
_WORD_CUT: Final = re.compile("[\u0002\u00ad\ufffe]\\s{0,4}\n?|(?<=[a-zß-öø-ÿ])[-\u2010]\n(?=[a-zß-öø-ÿ])")
_NUMBER: Final = re.compile(r"[0-9]+|\b[ivxlc]{1,8}\b", re.IGNORECASE)
_REASONS: Final = {
    "password": ("it is locked by a password", "save it anew without one"),
    "pages": (f"it has over {PAGES_MAX} pages", "give it in parts"),
    "damaged": ("it is no PDF, or damaged", "save it anew, or give its text as .txt"),
}
# Runs in the child. It gets the file on its standard input and says one JSON value; -I keeps it from reading
# the folder it is started in and the environment.
_CHILD: Final = """
import encodings.utf_16_le, json, sys
import pypdfium2
import pypdfium2.raw as raw
memory, cpu, pages_max, characters_max = map(int, sys.argv[1:])
try:
    import resource
except ImportError:  # not on every system; the bound on time is the parent's too
    bounds = {}
else:
    bounds = {resource.RLIMIT_AS: memory, resource.RLIMIT_CPU: cpu}
    bounds |= {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 3}
for what, most in bounds.items():
    try:
        resource.setrlimit(what, (most, most))
    except (OSError, ValueError):  # a system that knows the name and not the bound
        pass

def said(document):
    if len(document) > pages_max:
        return {"reason": "pages"}
    pages, left = [], characters_max
    for page in document:
        text = page.get_textpage().get_text_range()
        page.close()
        left -= len(text)
        if left < 0:
            return {"reason": "size"}
        pages.append(text)
    return {"title": document.get_metadata_value("Title") or "", "pages": pages}

try:
    answer = said(pypdfium2.PdfDocument(sys.stdin.buffer.read()))
except pypdfium2.PdfiumError as error:
    locked = getattr(error, "err_code", None) == raw.FPDF_ERR_PASSWORD
    answer = {"reason": "password" if locked else "damaged"}
sys.stdout.write(json.dumps(answer))
"""


class _Said(msgspec.Struct):
    reason: str = ""
    title: str = ""
    pages: list[str] = []


def pdf(raw: bytes, bytes_max: int) -> tuple[str, str]:
    """Return (title or "", text).

    Raises BadRequest for what is no readable PDF, is locked, has no text (scanned pages) or takes more time
    or memory to read than a book does; TooLarge where its text is over `bytes_max`.
    """
    arguments = (MEMORY_BYTES_MAX, CPU_SECONDS_MAX, PAGES_MAX, bytes_max)
    try:
        child = subprocess.run(  # noqa: S603  our own interpreter, our own text
            [sys.executable, "-I", "-c", _CHILD, *map(str, arguments)],
            input=raw,
            capture_output=True,
            timeout=2 * CPU_SECONDS_MAX,  # a busy machine gives it half of a core at times
            check=False,
        )
        said = msgspec.json.decode(child.stdout, type=_Said) if not child.returncode else _Said("damaged")
    except (subprocess.TimeoutExpired, msgspec.DecodeError):
        said = _Said("damaged")
    if said.reason == "size":
        raise too_large(bytes_max)
    if said.reason:
        why, remedy = _REASONS[said.reason]
        raise BadRequest(why, remedy=remedy)
    text = joined(said.pages)
    if said.pages and not text.strip():
        raise BadRequest(
            "its pages hold pictures and no text", remedy="recognise its text first (OCR), or give it as .txt"
        )
    return said.title, text


def joined(pages: list[str]) -> str:
    """Return pages of a document as one text, without running heads and cuts of words."""
    lines = [_lines(page) for page in pages]
    seen: Counter[str] = Counter()
    for page in lines:
        seen.update({_form(line) for line in (*page[:_EDGE_LINES], *page[-_EDGE_LINES:])})
    often = max(_RUNNING_PAGES_MIN, len(pages) // 4)  # heads alternate, and change with the chapter
    running = {form for form, count in seen.items() if count >= often}
    kept = [line for page in lines for line in _without_edges(page, running)]
    return _WORD_CUT.sub("", "\n".join(kept))


def _lines(page: str) -> list[str]:
    lines = (
        line.rstrip() for line in page.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").split("\n")
    )
    return [line for line in lines if line]


def _without_edges(page: list[str], running: set[str]) -> list[str]:
    first, last = 0, len(page)
    while first < min(_EDGE_LINES, last) and _form(page[first]) in running:
        first += 1
    while last > max(first, len(page) - _EDGE_LINES) and _form(page[last - 1]) in running:
        last -= 1
    return page[first:last]


def _form(line: str) -> str:
    return _NUMBER.sub("#", " ".join(line.split()).lower())
