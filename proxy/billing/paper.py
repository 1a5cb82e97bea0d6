"""A statement as a printed document (PDF), set by typst from a template of ours.

What a statement holds reaches the template as one JSON text and is placed as strings, so nothing in a title
can be markup. The template is handed over as bytes with an empty folder as its root: it can read no file, and
imports no package, so nothing is fetched. Fonts are those that typst carries, so the same statement is the
same bytes on every machine; scripts that they lack are told of in the document, and `fonts` can add a folder.

typst is the extra `pdf`: 33 MB that a server does not need to meter.
"""

from __future__ import annotations

import hashlib
import importlib
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.billing.page import PLAIN, Dress, view
from proxy.billing.statements import Statement, canonical
from proxy.errors import BadRequest

# Works on paper: some 25 pages when each has one row, 60 with the most each may have; the CSV has them all.
WORKS_PRINTED_MAX: Final = 120
TITLE_MAX: Final = 160  # letters on paper; the tables have all of a title
_TEMPLATE: Final = Path(__file__).with_name("templates") / "statement.typ"


def to_pdf(statement: Statement, dress: Dress = PLAIN) -> bytes:
    """Return a PDF: the same bytes for the same statement and dress.

    Raises BadRequest (code "pdf_extra") where typst is not installed.
    """
    typst = _typst()
    with tempfile.TemporaryDirectory(prefix="endcredits-pdf-") as nothing:
        made: bytes = typst.compile(
            _TEMPLATE.read_bytes(),
            root=nothing,
            format="pdf",
            ignore_system_fonts=True,
            package_path=nothing,
            package_cache_path=nothing,
            sys_inputs={"statement": told(statement, dress).decode("utf-8")},
            timestamp=statement.closed_us // 1_000_000,
        )
    return made


def told(statement: Statement, dress: Dress = PLAIN) -> bytes:
    """Return all that the template is told, as JSON. Titles are cut to what a page can bear."""
    facts: dict[str, Any] = msgspec.to_builtins(view(statement, dress, works_max=WORKS_PRINTED_MAX))
    for work in facts["works"]:
        work["title"] = cut(work["title"])
    facts |= {
        "name": cut(facts["name"]),
        "missing": "",
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
