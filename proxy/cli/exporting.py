"""Statements written to a folder, each file whole under its name or not there at all.

What an export costs is putting text together, so where there are many each processor takes pages of them.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.errors import Problem

if TYPE_CHECKING:
    import sqlalchemy as sa

    from proxy.billing.statement import Statement

MANY: Final = 2_000  # statements from which on it pays to start other processes: a second's work
PROCESSES_MAX: Final = 8  # more read the store faster than one disk gives it


@dataclass(frozen=True, slots=True)
class Written:
    """A statement's files, in the order of the formats asked for."""

    statement: str
    creator: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """What is written, and how. until_us: {period: end of its comments}; again: also files that are there."""

    store_url: str
    folder: Path | None
    forms: tuple[str, ...]
    locale: str
    fonts: str
    again: bool
    until_us: Mapping[str, int]
    now_us: int

    def documents(self, statement: Statement, forms: Sequence[str]) -> list[bytes]:
        """Return a statement in each of these formats."""
        from proxy.billing import documents
        from proxy.billing.periods import state_at

        until_us = self.until_us.get(statement.period, 0)
        state = state_at(until_us, self.now_us)
        dresses = {
            form: documents.dressed(form, self.locale, state=state, until_us=until_us, fonts=self.fonts)
            for form in forms
        }
        return documents.render_all(statement, dresses)

    def write(self, statement: Statement) -> Written:
        """Write a statement's files that are not there yet. Raises Problem where one cannot be written."""
        from proxy.billing import documents

        folder = self.folder or Path()
        paths = {form: folder / documents.file_name(statement, form) for form in self.forms}
        missing = [form for form, path in paths.items() if self.again or not path.exists()]
        for form, content in zip(missing, self.documents(statement, missing), strict=True):
            write(paths[form], content)
        return Written(statement.id, statement.creator, tuple(paths.values()))


def written(export: Export, engine: sa.Engine, ids: Sequence[str]) -> Iterator[Written]:
    """Write these statements and yield each when it is. Raises Problem at the first that cannot be."""
    from proxy.billing import export_store

    processes = min(os.cpu_count() or 1, PROCESSES_MAX)
    if len(ids) < MANY or processes == 1:
        yield from map(export.write, export_store.some(engine, ids))
        return
    pages = [ids[start : start + export_store.PAGE] for start in range(0, len(ids), export_store.PAGE)]
    context = multiprocessing.get_context("spawn")  # a fork would share the store's open connections
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        try:
            yield from itertools.chain.from_iterable(pool.map(functools.partial(_page, export), pages))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _page(export: Export, ids: Sequence[str]) -> list[Written]:
    from proxy.billing import export_store

    return [export.write(statement) for statement in export_store.some(_engine(export.store_url), ids)]


@functools.lru_cache(maxsize=1)
def _engine(store_url: str) -> sa.Engine:
    """Return this process's own way to the store, for all pages it is given."""
    from proxy.database import open_engine

    return open_engine(store_url)


def write(target: Path, content: bytes) -> None:
    """Write a file whole, under its name only when it is. Raises Problem where it cannot be written."""
    part = target.with_name(f"{target.name}.part")
    try:
        try:
            part.write_bytes(content)
        except FileNotFoundError:  # the first of a folder, and not asked for each of a hundred thousand
            target.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        raise Problem(
            f"{target}: cannot be written ({error.strerror})", remedy="pass another --out", code="out"
        ) from error
