"""The catalogue's works into an attribution index, swapped in while others read the old one.

An index is a folder of its own; the text file `current` beside the folders names the one in use and is
replaced by a rename, so a reader sees the old name or the new one. A build that dies changes nothing and
leaves its vectors in `unfinished`, where the next one goes on. The last two indexes are kept: a reader that
has just read the old name can still open it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from proxy.catalogue.ownership import Held
from proxy.catalogue.works import IndexedText
from proxy.clock import Clock
from proxy.errors import Conflict, NotFound, Problem, Unavailable

CURRENT = "current"
MANIFEST = "manifest.json"  # an index has it when it is complete
KEPT = 2  # the one in use, and the one before it for readers that are just opening it
UNFINISHED = "unfinished"
_LOCK = "building"
_FOLDER = re.compile(r"[0-9]{20}")  # microseconds since 1970, so that names sort by age

Progress = Callable[[int, int], None]


class Texts(Protocol):
    """What an index is built of; a Catalogue is one."""

    def texts(self) -> Iterator[IndexedText]:
        """Yield every work with its text."""
        ...

    def seq(self) -> int:
        """Return the registry's last number."""
        ...


class Builder(Protocol):
    """The library's two functions, as far as they are used here."""

    def build(
        self, works: Iterable[IndexedText], folder: Path, previous: Path | None, progress: Progress | None
    ) -> Any:
        """Write an index into `folder`, going on with what an interrupted build left there."""
        ...

    def verify(self, folder: Path) -> Any:
        """Check every file of an index against its manifest and return that."""
        ...


class LibraryBuilder:
    """attribution.build_index and verify_index, imported when first needed: a server never builds."""

    def __init__(self, *, threads: int = 2) -> None:
        self._threads = threads

    def build(
        self, works: Iterable[IndexedText], folder: Path, previous: Path | None, progress: Progress | None
    ) -> Any:
        """Write an index. Raises Unavailable when library or disk cannot, Conflict for too much text."""
        from attribution import SourceWork, build_index  # noqa: PLC0415  numpy: a server never builds
        from attribution.errors import AttributionError  # noqa: PLC0415  likewise

        sources = (
            SourceWork(
                work.work_id,
                work.text,
                work.registered_us,
                work.creator_id,
                work.reviewed,
                commons=work.commons,
                standing=work.standing,
                adapts=work.adapts,
            )
            for work in works
        )
        try:
            return build_index(sources, folder, previous=previous, progress=progress, threads=self._threads)
        except AttributionError as error:
            raise Unavailable(error.cause, remedy=error.remedy, code="index_failed") from error
        except ValueError as error:
            raise Conflict(
                str(error), remedy="build fewer works into one index", code="index_failed"
            ) from error
        except OSError as error:
            cause = f"the index cannot be written ({error.strerror})"
            remedy = "make room in the data folder; the next build goes on where this one stopped"
            raise Unavailable(cause, remedy=remedy, code="index_failed") from error

    def verify(self, folder: Path) -> Any:
        """Check an index. Raises Unavailable for a damaged one."""
        from attribution import verify_index  # noqa: PLC0415  numpy: a server never builds
        from attribution.errors import AttributionError  # noqa: PLC0415  likewise

        try:
            return verify_index(folder)
        except AttributionError as error:
            raise Unavailable(error.cause, remedy=error.remedy, code="index_corrupt") from error


def quarantined(index_root: Path) -> dict[str, Held]:
    """Return what the index in use holds up, by public id; Unavailable for a damaged one."""
    from attribution import held  # noqa: PLC0415  numpy: a server never builds
    from attribution.errors import AttributionError  # noqa: PLC0415  likewise

    folder = current(index_root)
    try:
        found = () if folder is None else held(folder)
    except AttributionError as error:
        raise Unavailable(error.cause, remedy=error.remedy, code="index_corrupt") from error
    return {one.work_id: Held(one.work_id, one.reason, one.note, one.of or "", one.part_ppm) for one in found}


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The index in use. `built_us` is when its building began."""

    path: Path
    built_us: int
    size_bytes: int
    manifest: Any


def current(index_root: Path) -> Path | None:
    """Return the folder of the index in use, None when there is none yet.

    The file may name nothing but a folder beside it. Raises Unavailable when it names none.
    """
    try:
        name = (index_root / CURRENT).read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(
            f"{index_root / CURRENT} cannot be read",
            remedy="run `endcredits index build`",
            code="index_missing",
        ) from error
    if not _FOLDER.fullmatch(name) or not (index_root / name).is_dir():
        raise Unavailable(
            f"{index_root / CURRENT} names no index",
            remedy="run `endcredits index build`",
            code="index_missing",
        )
    return index_root / name


def build(
    texts: Texts,
    index_root: Path,
    *,
    clock: Clock,
    progress: Progress | None = None,
    builder: Builder | None = None,
    keep_old: bool = True,
) -> Path:
    """Build an index of every registered work, check it, make it the current one, and return its folder.

    keep_old: keep the one before it for readers that are just opening it; not when it holds what was erased.
    Vectors of unchanged works are taken from the current index, and from a build that was interrupted. Raises
    Conflict while another build runs.
    """
    builder = builder or LibraryBuilder()
    index_root.mkdir(parents=True, exist_ok=True)
    with _alone(index_root):
        previous = _usable(index_root)
        unfinished, folder = index_root / UNFINISHED, index_root / f"{clock.now_us():020d}"
        if (unfinished / MANIFEST).exists():
            shutil.rmtree(unfinished)  # complete, but never taken: works may have changed since
        builder.build(texts.texts(), unfinished, previous, progress)
        try:
            builder.verify(unfinished)
        except Problem:
            shutil.rmtree(unfinished, ignore_errors=True)  # nothing to go on with
            raise
        for file in unfinished.iterdir():
            _sync(file)
        unfinished.rename(folder)
        _point(index_root, folder.name)
        _forget(index_root, folder, previous if keep_old else None)
    return folder


def verify(index_root: Path, *, builder: Builder | None = None) -> IndexInfo:
    """Check the index in use, file by file. NotFound when there is none, Unavailable when it is damaged."""
    path = current(index_root)
    if path is None:
        raise NotFound(f"there is no index in {index_root}", remedy="run `endcredits index build`")
    manifest = (builder or LibraryBuilder()).verify(path)
    size_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return IndexInfo(path, int(path.name), size_bytes, manifest)


def info(index_root: Path, *, builder: Builder | None = None) -> IndexInfo | None:
    """Return what is known of the index in use, None when there is none. It is checked on the way."""
    return None if current(index_root) is None else verify(index_root, builder=builder)


def _usable(index_root: Path) -> Path | None:
    try:
        return current(index_root)
    except Problem:
        return None  # a broken `current` must not keep a new index from being built


def is_building(index_root: Path) -> bool:
    """Return whether a process builds an index here at this moment."""
    try:
        with (index_root / _LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def _alone(index_root: Path) -> Generator[None]:
    # The lock goes with the process, so a killed build leaves nothing to clear away.
    with (index_root / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                "another build of the index is running", remedy="wait for it to end", code="index_building"
            ) from error
        yield


def _point(index_root: Path, name: str) -> None:
    """Make `current` name the folder, so that it holds after a power cut as well."""
    new = index_root / f"{CURRENT}.new"
    with new.open("w", encoding="ascii") as file:
        file.write(name + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(index_root / CURRENT)
    _sync(index_root)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget(index_root: Path, folder: Path, previous: Path | None) -> None:
    kept = {folder, *([previous] if previous and KEPT > 1 else [])}
    for old in index_root.iterdir():
        if old.is_dir() and _FOLDER.fullmatch(old.name) and old not in kept:
            shutil.rmtree(
                old, ignore_errors=True
            )  # a reader may hold a file open; the next build tries again
