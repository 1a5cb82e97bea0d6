"""`attribute`: texts in, shares out, with no server and no store.

Each line in is {"output_id", "text"}; each line out has shares that sum to 1 with `unattributed_share`, and
the evidence with its offsets. Works carry the ids they were given, not public ones. The index of a
--catalogue is kept in the data folder under the hash of its content, so that a second run, or one that was
interrupted, goes on from it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import shutil
import sys
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import click
import msgspec

from proxy.cli.desk import Desk, command, main, make_private
from proxy.errors import BadRequest, NotFound, Problem

if TYPE_CHECKING:
    from attribution import Attribution, Attributor, SourceWork
    from attribution.grounding import Context

INDEXES_KEPT = 2  # of catalogues given by --catalogue; each takes some 30 bytes a word
LINE_BYTES_MAX = 16 << 20  # one output with its context; longer is not an answer


class _Output(msgspec.Struct, frozen=True):
    """One line in. `context` is what the answer was made from: the request's text, or texts."""

    output_id: str
    text: str
    context: str | list[str] | None = None


@command(main)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@click.option(
    "--catalogue",
    type=click.Path(path_type=Path),
    help="Works to hold against, .jsonl or .csv (also .gz) [the registered ones].",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write [standard output]."
)
def attribute(desk: Desk, file: Path, catalogue: Path | None, out: Path | None) -> None:
    """Attribute texts offline: {"output_id", "text"} lines in, shares with evidence out."""
    with (
        holding(desk, catalogue) as (attributor, given),
        opened(file, "rb", sys.stdin.buffer) as source,
        opened(out, "wb", sys.stdout.buffer) as sink,
        desk.progress("attributing") as progress,
    ):
        for number, output in enumerate(_outputs(source, str(file)), start=1):
            found = attributor.attribute(output.text, _context(attributor, output))
            sink.write(msgspec.json.encode(_answer(output.output_id, found, given)) + b"\n")
            progress(number, 0)


@contextlib.contextmanager
def holding(desk: Desk, catalogue: Path | None) -> Generator[tuple[Attributor, dict[str, str] | None]]:
    """Yield an attributor over a list of works, or over the registered ones with {public id: given id}."""
    from attribution import Attributor

    with library_problems():
        if catalogue is None:
            directory, given = _registered(desk)
            attributor = Attributor.open(directory, threads=2)
        else:
            attributor, given = _of_catalogue(desk, catalogue), None
        try:
            yield attributor, given
        finally:
            attributor.close()


@contextlib.contextmanager
def library_problems() -> Generator[None]:
    """Turn the library's errors into Problems, cause and remedy kept."""
    from attribution import AttributionError

    try:
        yield
    except AttributionError as error:
        raise Problem(error.cause, remedy=error.remedy, code="attribution") from error


@contextlib.contextmanager
def opened(path: Path | None, mode: str, standard: IO[bytes]) -> Generator[IO[bytes]]:
    """Open a file, unpacked where its name ends in .gz; - and None are `standard`."""
    if path is None or path == Path("-"):
        yield standard
        standard.flush()
        return
    try:
        zipped = mode == "rb" and path.suffix == ".gz"
        file = cast("IO[bytes]", gzip.open(path) if zipped else path.open(mode))  # noqa: SIM115  closed below
    except OSError as error:
        raise Problem(f"{path}: cannot be opened ({error.strerror})", remedy="check the path") from error
    with file:
        yield file


def _line(source: IO[bytes], name: str) -> bytes:
    try:
        return source.readline(LINE_BYTES_MAX + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadRequest(f"{name}: damaged ({error})", remedy="compress it again") from error


def lines(source: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that hold something, with their numbers. Raises BadRequest for an endless one."""
    number = 0
    while line := _line(source, name):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise BadRequest(f"{name}:{number}: longer than {LINE_BYTES_MAX} bytes", remedy="split the text")
        if line.strip():
            yield number, line


def _outputs(source: IO[bytes], name: str) -> Iterator[_Output]:
    decode = msgspec.json.Decoder(_Output).decode
    for number, line in lines(source, name):
        try:
            yield decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(
                f"{name}:{number}: {error}",
                remedy='write {"output_id": "...", "text": "..."}, one a line; "context" may be a text or a '
                "list of texts",
            ) from error


def _context(attributor: Attributor, output: _Output) -> Context | None:
    if output.context is None:
        return None
    grounder = attributor.grounder()
    for text in (output.context,) if isinstance(output.context, str) else output.context:
        grounder.push(text + "\n")
    return grounder.finish()


def _answer(output_id: str, found: Attribution, given: dict[str, str] | None) -> dict[str, Any]:
    def name(work: str) -> str:
        return work if given is None else given.get(work, work)

    return {
        "output_id": output_id,
        "unattributed_share": found.unattributed_ppm / 1_000_000,
        "credits": [
            {"work_id": name(share.work_id), "share": share.ppm / 1_000_000} for share in found.shares
        ],
        "evidence": [
            {
                "work_id": name(match.work_id),
                "kind": match.kind,
                "output": [match.start, match.end],
                "work": [match.work_start, match.work_end],
                "score": match.score,
            }
            for share in found.shares
            for match in share.matches
        ],
        "method": found.method,
    }


def _registered(desk: Desk) -> tuple[Path | None, dict[str, str]]:
    """Return the index in use and {public id: given id}."""
    from proxy.catalogue import indexing
    from proxy.cli.registry import open_catalogue

    directory = indexing.current(desk.settings.index_dir)
    if directory is None:
        desk.note("no index yet, so everything is unattributed; `endcredits works add` builds one")
    return directory, {entry.id: entry.ref for entry in open_catalogue(desk).works()}


def _of_catalogue(desk: Desk, catalogue: Path) -> Attributor:
    """Open an index of the works in a list; one kept from another version's models is built anew."""
    from attribution import Attributor, IndexCorrupt, ModelMismatch

    directory = _indexed(desk, catalogue)
    try:
        return Attributor.open(directory, threads=2)
    except (ModelMismatch, IndexCorrupt) as error:
        desk.note(f"building anew: {error.cause}")
        shutil.rmtree(directory)
    return Attributor.open(_indexed(desk, catalogue), threads=2)


def _indexed(desk: Desk, catalogue: Path) -> Path:
    """Return an index of the works in a list, built now or kept from an earlier run."""
    from attribution import build_index
    from attribution.errors import IndexMissing
    from attribution.index import Manifest

    if not catalogue.is_file():
        raise NotFound(f"{catalogue} is not there", remedy="pass a .jsonl or .csv list of works (also .gz)")
    digest = hashlib.sha256(catalogue.read_bytes()).hexdigest()[:16]
    root = desk.settings.data_dir / "offline"
    make_private(desk.settings.data_dir)
    root.mkdir(exist_ok=True)
    directory = root / digest
    with contextlib.suppress(IndexMissing):
        Manifest.read(directory, any_format=True)  # who opens it judges
        return directory
    works = _works(desk, catalogue)
    with desk.progress("indexing") as progress:
        build_index(works, directory, progress=progress, threads=2)
    others = sorted(
        (path for path in root.iterdir() if path != directory), key=lambda path: path.stat().st_mtime
    )
    for old in others[: -(INDEXES_KEPT - 1)]:
        shutil.rmtree(old)
    return directory


def _works(desk: Desk, catalogue: Path) -> list[SourceWork]:
    from attribution import SourceWork
    from proxy.catalogue.intake import Defaults, read
    from proxy.catalogue.works import Refusal

    works: dict[str, SourceWork] = {}
    refused = 0
    for row in read(catalogue, Defaults(bytes_max=desk.settings.catalogue.file_bytes_max)):
        if isinstance(row, Refusal) or row.ref in works:
            refused += 1
            why = row.why if isinstance(row, Refusal) else "its work_id stands above already"
            desk.note(f"refused: {row.place}: {why}")
            continue
        works[row.ref] = SourceWork(row.ref, row.text, row.registered_us or 0, row.creator)
    if not works:
        raise BadRequest(f"{catalogue}: no work in it can be used", remedy="the refusals above say why")
    if refused:
        desk.note(f"{len(works)} works, {refused} refused")
    return list(works.values())
