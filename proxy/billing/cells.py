"""Cells of tables that people open in spreadsheets: text stays text.

A title like "=HYPERLINK(...)" or a name that begins with "+" would be run as a formula by whoever opens the
file. The apostrophe before it is what spreadsheets themselves use to say that a cell is text.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

_FORMULAS: Final = frozenset("=+-@\t\r")  # how a formula, or what a spreadsheet takes for one, begins

_is_special: Final = re.compile(r'[",\r\n]').search  # of these a writer of CSV takes notice


def safe_cell(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: those begin with an apostrophe."""
    return f"'{cell}" if cell[:1] in _FORMULAS else cell


def csv_cell(cell: str) -> str:
    """Return a safe cell as it stands in a row of `to_csv`, for who puts millions of rows together."""
    return _quoted(cell) if _is_special(cell) else safe_cell(cell)


# For what is the same in row after row, as days and models are; works would only push each other out.
csv_cell_again: Final = functools.lru_cache(maxsize=1 << 12)(csv_cell)


def _quoted(cell: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow((safe_cell(cell), ""))
    return out.getvalue()[:-3]  # the comma behind it, and the end of the row


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Return RFC 4180 with a header row, UTF-8, every cell safe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([safe_cell(cell) for cell in row] for row in rows)
    return out.getvalue().encode("utf-8")
