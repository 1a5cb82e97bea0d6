"""What people hand in, as rows: files and folders of works, and lists of them in JSON lines or CSV.

Every row comes out, in order, as a NewWork or as a Refusal that names its place, why, and what would help; a
bad row never stops the good ones behind it. A list may name texts by `path`, relative to itself and never
outside its own folder, because lists are sent by strangers.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any, cast

import msgspec

from proxy.catalogue.adapting import parse as parse_adapts
from proxy.catalogue.linking import parse as parse_links
from proxy.catalogue.reading import checked_text, read_document
from proxy.catalogue.works import (
    COMMONS,
    COMMONS_LICENCES,
    GIVEN,
    LICENCE_CHARACTERS_MAX,
    TITLE_CHARACTERS_MAX,
    Given,
    NewWork,
    Part,
    Refusal,
    Split,
    checked_ref,
    checked_url,
    printable,
)
from proxy.clock import parse_time_us
from proxy.errors import BadRequest, NotFound, Problem

LIST_SUFFIXES = (".jsonl", ".csv", ".jsonl.gz", ".csv.gz")
ROW_BYTES_BESIDE_TEXT = 65_536  # what a row may hold besides its text
ESCAPED_BYTES_MAX = 6  # of JSON for one byte of text, when all of it is written \u00xx
SPLIT_CELL_REMEDY = 'write "ada:600000;bo:400000", or a JSON list of {"creator_id", "ppm", "role"}'
_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, OSError)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for every row that does not say it itself.

    creator COMMONS: every row is nobody's, whatever creator, consent or split it names; its licence must be
    one that says so.
    """

    creator: str = ""
    licence: str = ""
    consent: Given | None = None
    bytes_max: int = 33_554_432


def read(path: Path, defaults: Defaults) -> Iterator[NewWork | Refusal]:
    """Yield every work in a file, a folder or a list.

    Raises NotFound when there is nothing at `path`, BadRequest for files when `defaults` names no creator;
    everything else is a Refusal of its row.
    """
    if not path.exists():
        raise NotFound(f"there is nothing at {path}", remedy="check the path")
    name = path.name.lower()
    if path.is_file() and name.endswith(LIST_SUFFIXES):
        return _listed(path, defaults, lines=name.removesuffix(".gz").endswith(".jsonl"))
    if not defaults.creator:
        raise BadRequest("files do not say whose they are", remedy="pass --creator ID")
    return _folder(path, defaults) if path.is_dir() else _files([(path, path.name)], defaults)


def _folder(root: Path, defaults: Defaults) -> Iterator[NewWork | Refusal]:
    for folder, names, files in os.walk(root):
        # Sorted, so that two runs number works alike; hidden ones belong to tools.
        names[:] = sorted(name for name in names if not name.startswith("."))
        paths = (Path(folder) / name for name in sorted(files) if not name.startswith("."))
        yield from _files([(path, path.relative_to(root).as_posix()) for path in paths], defaults)


def _files(found: list[tuple[Path, str]], defaults: Defaults) -> Iterator[NewWork | Refusal]:
    for path, ref in found:
        place = printable(str(path), 500)
        try:
            if path.is_symlink():
                raise BadRequest("this is a symbolic link", remedy="give the file itself")
            if path.name.lower().endswith(LIST_SUFFIXES):
                raise BadRequest("a list in a folder is not read", remedy="pass the list by itself")
            checked_ref(ref)
            document = read_document(path, bytes_max=defaults.bytes_max)
        except Problem as problem:
            yield Refusal(place, printable(ref, 200), problem.cause, problem.remedy)
            continue
        yield NewWork(
            ref,
            defaults.creator,
            document.title,
            document.text,
            place,
            licence=defaults.licence,
            consent=defaults.consent,
        )


def commons_licence(licence: str) -> str:
    """Return the licence under which a text is nobody's, in our spelling; BadRequest for any other."""
    for known in COMMONS_LICENCES:
        if licence.casefold() == known.casefold():
            return known
    raise BadRequest(
        f"'{printable(licence, 60)}' is somebody's licence",
        remedy=f"the commons takes {', '.join(COMMONS_LICENCES)}; register it under its creator",
        code="commons",
    )


def _listed(path: Path, defaults: Defaults, *, lines: bool) -> Iterator[NewWork | Refusal]:
    zipped = path.name.lower().endswith(".gz")
    shown = printable(str(path), 500)
    number = 0
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            stream = cast("IO[bytes]", file)
            rows = _json_rows(stream, defaults.bytes_max) if lines else _csv_rows(stream, defaults.bytes_max)
            for number, row in rows:
                place = f"{shown}:{number}"
                if isinstance(row, Problem):
                    yield Refusal(place, "", row.cause, row.remedy)
                    continue
                try:
                    yield _work(row, path.parent, place, defaults)
                except Problem as problem:
                    ref = printable(str(row.get("work_id") or ""), 200)
                    yield Refusal(place, ref, problem.cause, problem.remedy)
    except _DAMAGED as error:
        what = "the archive ends or breaks here" if zipped else "the file cannot be read further"
        yield Refusal(
            f"{shown}:{number + 1}", "", f"{what} ({error})", "pack or copy it anew; rows before are in"
        )


Row = Mapping[str, Any]


def _json_rows(stream: IO[bytes], bytes_max: int) -> Iterator[tuple[int, Row | Problem]]:
    line_max = bytes_max * ESCAPED_BYTES_MAX + ROW_BYTES_BESIDE_TEXT
    number = 0
    while line := stream.readline(line_max):
        number += 1
        if len(line) == line_max and not line.endswith(b"\n"):
            while (rest := stream.readline(line_max)) and not rest.endswith(b"\n"):
                pass
            yield (
                number,
                BadRequest(f"the line is longer than {line_max} bytes", remedy="give its text by path"),
            )
        elif line.strip():
            yield number, _json_row(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)


def _json_row(line: bytes) -> Row | Problem:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return BadRequest(f"the line is no JSON ({error})", remedy="write one object a line, in UTF-8")
    if not isinstance(row, dict):
        return BadRequest("the line is no JSON object", remedy='write {"work_id": ..., "text": ...}')
    return cast("Row", row)


def _csv_rows(stream: IO[bytes], bytes_max: int) -> Iterator[tuple[int, Row | Problem]]:
    # The module's own limit is 131,072, for the whole process: raised, never lowered under another reader.
    csv.field_size_limit(max(csv.field_size_limit(), bytes_max))
    buffered = io.BufferedReader(cast("Any", stream))
    utf16 = buffered.peek(2)[:2] in {b"\xff\xfe", b"\xfe\xff"}
    encoding, errors = ("utf-16", "strict") if utf16 else ("utf-8-sig", "surrogateescape")
    with io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline="") as text:
        ended_at, begun = 1, False
        try:
            header = text.readline(ROW_BYTES_BESIDE_TEXT)
            # Spreadsheets of some countries write semicolons into what they call comma-separated.
            delimiter = max((",", ";", "\t"), key=header.count)
            columns = [
                name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), list[str]())
            ]
            if "work_id" not in columns:
                yield (
                    1,
                    BadRequest(
                        "the first line names no column work_id", remedy="begin with the columns' names"
                    ),
                )
                return
            reader = csv.reader(_text_lines(text, bytes_max), delimiter=delimiter, strict=True)
            begun = True
            for cells in reader:
                number, ended_at = ended_at + 1, reader.line_num + 1  # a quoted text has lines of its own
                if any(cells):
                    yield number, _csv_row(columns, cells)
        except (csv.Error, UnicodeDecodeError) as error:
            # After a misplaced quote nobody can tell texts from rows: what follows is not guessed at.
            cause = f"the file is no CSV from here on ({error})"
            line = ended_at + 1 if begun else 1
            yield line, BadRequest(cause, remedy="mend the row; the rows before it are in")


def _text_lines(text: io.TextIOWrapper, bytes_max: int) -> Iterator[str]:
    line_max = bytes_max + ROW_BYTES_BESIDE_TEXT
    while line := text.readline(line_max):
        if len(line) == line_max and not line.endswith(("\n", "\r")):
            raise csv.Error(f"a line is longer than {line_max} characters")
        yield line


def _csv_row(columns: list[str], cells: list[str]) -> Row | Problem:
    if len(cells) > len(columns):
        cause = f"the row has {len(cells)} cells for {len(columns)} columns"
        return BadRequest(cause, remedy='put cells with commas into "quotes"')
    if any("\udc80" <= letter <= "\udcff" for cell in cells if not cell.isascii() for letter in cell):
        return BadRequest("the row is not UTF-8", remedy="save the file as UTF-8")
    return dict(zip(columns, cells, strict=False))


def _work(row: Row, folder: Path, place: str, defaults: Defaults) -> NewWork:
    ref = checked_ref(_word(row, "work_id"))
    creator = _word(row, "creator_id").strip() or defaults.creator
    creator = COMMONS if defaults.creator == COMMONS else creator
    if not creator:
        raise BadRequest("the row names no creator_id", remedy="add one, or pass --creator ID")
    text, named = _word(row, "text"), _word(row, "path")
    if bool(text) == bool(named):
        raise BadRequest(
            "the row gives no text" if not text else "the row gives text and path", remedy="give one"
        )
    title = printable(_word(row, "title"), TITLE_CHARACTERS_MAX)
    if named:
        document = read_document(_inside(folder, named), bytes_max=defaults.bytes_max)
        text, title = document.text, title or document.title
    if creator == COMMONS == defaults.creator:
        return NewWork(
            ref,
            COMMONS,
            title or ref,
            text if named else checked_text(text, defaults.bytes_max),
            place,
            registered_us=_registered_us(_word(row, "registered_at")),
            url=checked_url(_word(row, "url").strip()),
            licence=commons_licence(_licence(row) or defaults.licence),
        )
    consent = _word(row, "consent").strip().lower()
    return NewWork(
        ref,
        checked_ref(creator),
        title or ref,
        text if named else checked_text(text, defaults.bytes_max),
        place,
        creator_name=_word(row, "creator_name") or _word(row, "creator"),
        registered_us=_registered_us(_word(row, "registered_at")),
        url=checked_url(_word(row, "url").strip()),
        licence=_licence(row) or defaults.licence,
        consent=_given(consent) if consent else defaults.consent,
        split=_split(row.get("splits")),
        adapts=parse_adapts(row.get("adapts")),
        links=parse_links(row),
    )


def _word(row: Row, column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and column in {"work_id", "creator_id"}:
        return str(value)
    if not isinstance(value, str):
        raise BadRequest(f"{column} is no text", remedy=f'write "{column}": "..."')
    return value


def _licence(row: Row) -> str:
    licence = (_word(row, "licence") or _word(row, "license")).strip()
    if len(licence) > LICENCE_CHARACTERS_MAX:
        remedy = f"give its name, up to {LICENCE_CHARACTERS_MAX} characters"
        raise BadRequest("the licence is too long", remedy=remedy)
    return printable(licence, LICENCE_CHARACTERS_MAX)


def _registered_us(text: str) -> int | None:
    if not text.strip():
        return None
    try:
        return parse_time_us(text)
    except (ValueError, OverflowError) as error:
        remedy = "write 2024-09-19 or 2024-09-19T12:00:00Z"
        raise BadRequest(f"registered_at '{printable(text, 40)}' is no date", remedy=remedy) from error


def _given(consent: str) -> Given:
    for given in GIVEN:
        if consent == given:
            return given
    raise BadRequest(
        f"there is no consent '{printable(consent, 40)}'", remedy=f"write one of {', '.join(GIVEN)}"
    )


def _inside(folder: Path, named: str) -> Path:
    """Return the file that a list names, if it lies in the list's folder without any detour."""
    if "\0" in named or "\\" in named or PurePath(named).is_absolute() or ".." in PurePath(named).parts:
        raise BadRequest(
            "the path leaves the list's folder", remedy="write it relative to the list, without '..'"
        )
    base = folder.resolve()
    try:
        detours = (base / named).resolve() != base / named
    except (OSError, RuntimeError) as error:
        raise BadRequest(f"the path cannot be followed ({error})", remedy="check the path") from error
    if detours:
        raise BadRequest("the path goes through a symbolic link", remedy="put the file itself there")
    return base / named


def _split(value: object) -> Split | None:
    if not value:
        return None
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return Split(tuple(_cell_part(cell) for cell in value.split(";") if cell.strip()))
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise BadRequest(f"splits is no JSON ({error})", remedy=SPLIT_CELL_REMEDY) from error
    if not isinstance(value, list):
        raise BadRequest("splits is no list", remedy=SPLIT_CELL_REMEDY)
    return Split(tuple(_object_part(part) for part in cast("list[Any]", value)))


def _cell_part(cell: str) -> Part:
    party, _, ppm = cell.strip().rpartition(":")
    role = "author"
    if not ppm.isdecimal():
        (party, _, ppm), role = party.rpartition(":"), ppm
    return _part(party.strip(), int(ppm) if ppm.isdecimal() and len(ppm) <= 7 else None, role.strip())


def _object_part(part: Any) -> Part:
    if not isinstance(part, dict):
        raise BadRequest("a part of the split is no object", remedy=SPLIT_CELL_REMEDY)
    fields = cast("Row", part)
    party = next((_word(fields, name) for name in ("creator_id", "ref", "party") if fields.get(name)), "")
    return _part(party, fields.get("ppm"), _word(fields, "role") or "author")


def _part(party: str, ppm: object, role: str) -> Part:
    if not party or not isinstance(ppm, int) or isinstance(ppm, bool):
        raise BadRequest(
            "a part of the split names no party or no whole number of ppm", remedy=SPLIT_CELL_REMEDY
        )
    return Part(party, ppm, printable(role, 60) or "author")
