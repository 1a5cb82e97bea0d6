"""A statement as a printed document (PDF), set by typst from a template of ours.

What a statement holds reaches the template as one JSON text and is placed as strings, so nothing in a title
can be markup. The template is handed over as bytes with an empty folder as its root: it can read no file, and
imports no package, so nothing is fetched. Fonts are those that typst carries, so the same statement is the
same bytes on every machine; scripts that they lack are told of in the document, and `fonts` can add a folder.

typst is the extra `pdf`: 33 MB that a server does not need to meter.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.billing.locales import English
from proxy.billing.page import PLAIN, Dress, view
from proxy.billing.statement import Statement, canonical
from proxy.errors import BadRequest

# Works on paper: 42 pages were measured with the most uses that each may have; the tables have them all.
WORKS_PRINTED_MAX: Final = 120
SCRIPTS_NAMED_MAX: Final = 8
# First words of the Unicode names of letters and digits that typst's own fonts have (a test asks the fonts).
_COVERED: Final = frozenset(
    {
        "LATIN", "GREEK", "CYRILLIC", "HEBREW", "ARABIC", "ARABIC-INDIC", "EXTENDED", "DEVANAGARI",
        "ARMENIAN", "GEORGIAN", "HIRAGANA", "COMBINING", "MODIFIER", "MICRO", "FEMININE", "MASCULINE",
        "SUPERSCRIPT", "SUBSCRIPT", "VULGAR", "ROMAN",
    }
)  # fmt: skip
_WIDE: Final = frozenset({"FULLWIDTH", "HALFWIDTH", "IDEOGRAPHIC"})
_PICTURES: Final = "\U0001f000"  # emoji and the like begin here
_NAMES: Final = {"CJK": "Chinese characters", "FULLWIDTH": "full-width signs"}
TITLE_MAX: Final = 160  # letters on paper; the tables have all of a title
_TEMPLATE: Final = Path(__file__).with_name("templates") / "statement.typ"


def to_pdf(statement: Statement, dress: Dress = PLAIN) -> bytes:
    """Return a PDF: the same bytes for the same statement and dress.

    Raises BadRequest (code "pdf_extra") where typst is not installed.
    """
    typst = _typst()
    dress, missing = fitting(statement, dress)
    with tempfile.TemporaryDirectory(prefix="endcredits-pdf-") as nothing:
        made: bytes = typst.compile(
            _TEMPLATE.read_bytes(),
            root=nothing,
            format="pdf",
            ignore_system_fonts=True,
            font_paths=[dress.fonts] if dress.fonts else [],
            package_path=nothing,
            package_cache_path=nothing,
            sys_inputs={"statement": told(statement, dress, missing).decode("utf-8")},
            timestamp=statement.closed_us // 1_000_000,
        )
    return made


def fitting(statement: Statement, dress: Dress) -> tuple[Dress, str]:
    """Return a dress that typst's fonts can print, and what to say of letters that they cannot.

    Where they lack the letters of the reader's own dates and amounts, those are written in English.
    """
    if dress.fonts:
        return dress, ""  # whoever brings fonts knows what is in them
    style = dress.style
    own = [style.date(f"2026-{month:02d}-28") for month in range(1, 13)]
    own += [style.month("2026-11"), style.spoken(-(10**12), statement.currency), style.percent(1, 3)]
    said = [statement.name, *statement.app_names.values()]
    said += [text for line in statement.lines for text in (line.title, line.model)]
    notes: list[str] = []
    if lacking(own):
        dress = dataclasses.replace(dress, style=English())
        notes.append(f"Numbers and dates are in English: the fonts here have no letters for {style.lang}.")
    if scripts := lacking(said):
        notes.append(
            f"The fonts here have no letters for {', '.join(scripts)}: they are empty boxes on paper. The"
            " page and the tables of this statement have them."
        )
    return dress, " ".join(notes)


def lacking(texts: Iterable[str]) -> list[str]:
    """Return the names of scripts in `texts` that the fonts typst carries have no letters for."""
    found: set[str] = set()
    for letter in {letter for text in texts for letter in text if not letter.isascii()}:
        word = unicodedata.name(letter, "").partition(" ")[0]
        is_letter = unicodedata.category(letter)[0] in "LMN"
        if (is_letter and word not in _COVERED) or word in _WIDE or letter >= _PICTURES:
            found.add(_NAMES.get(word, word.capitalize() if is_letter else "pictures"))
    return sorted(found)[:SCRIPTS_NAMED_MAX]


def told(statement: Statement, dress: Dress = PLAIN, missing: str = "") -> bytes:
    """Return all that the template is told, as JSON. Titles are cut to what a page can bear."""
    facts: dict[str, Any] = msgspec.to_builtins(view(statement, dress, works_max=WORKS_PRINTED_MAX))
    for work in facts["works"]:
        work["title"] = cut(work["title"])
    facts |= {
        "name": cut(facts["name"]),
        "missing": missing,
        "sha256": hashlib.sha256(canonical(statement)).hexdigest(),
    }
    return msgspec.json.encode(facts, order="sorted")


def cut(text: str) -> str:
    """Return `text` on one line and not longer than a page can bear."""
    flat = " ".join(text.split())
    return flat if len(flat) <= TITLE_MAX else flat[: TITLE_MAX - 1] + "…"


def _typst() -> Any:
    try:
        return importlib.import_module("typst")
    except ModuleNotFoundError as error:
        raise BadRequest(
            "a PDF is set by typst, which is not installed",
            remedy="pip install 'endcredits[pdf]', or ask for html and print it",
            code="pdf_extra",
        ) from error
