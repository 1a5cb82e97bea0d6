"""Everything that is held on a person, as a file they can read: tables of rows, and the texts they gave.

A .json file has it all; a .zip has a file for each table and each text. The same rows are the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

Row = dict[str, Any]
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # of every entry: an archive of the same rows is the same bytes


@dataclass(frozen=True, slots=True)
class Held:
    """What is held on one creator. tables: rows by table; texts: {work's public id: text}."""

    creator: str
    tables: Mapping[str, Sequence[Row]]
    texts: Mapping[str, str] = field(default_factory=dict[str, str])


def document(held: Held, *, zipped: bool) -> bytes:
    """Return the file's bytes."""
    if not zipped:
        told = {"creator": held.creator, "tables": dict(held.tables), "texts": dict(held.texts)}
        return _pretty(told)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, rows in held.tables.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.json", _EPOCH), _pretty(list(rows)))
        for work, text in held.texts.items():
            archive.writestr(zipfile.ZipInfo(f"texts/{work}.txt", _EPOCH), text.encode())
    return made.getvalue()


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2) + b"\n"
