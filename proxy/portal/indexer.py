"""The child that builds an index for a page, and the file that says how far it is and what came of it.

It does what `endcredits index build` does: every registered work, checked, taken into use while servers go
on, and what is held up written down for the review. Run as `python -m proxy.portal.indexer`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from proxy.catalogue import indexing
from proxy.catalogue.indexing import Builder
from proxy.catalogue.ownership import Held
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.store import Catalogue
from proxy.clock import Clock, RandomIds, SystemClock
from proxy.database import open_engine
from proxy.errors import Problem
from proxy.settings import Settings, serving

RESULT: Final = "last-build.json"  # beside the indexes
NICE: Final = 10
TOLD_EACH_US: Final = 500_000  # how often a page may learn how far it is
HELD_KEPT: Final = 200  # of the works that a build newly holds up; the review has all


class HeldUp(msgspec.Struct, frozen=True):
    """A work that this build holds up and the one before did not, and why."""

    work: str
    why: str


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A build: under way while ended_us is 0. problem: why it came to nothing, else empty.

    done, total: sentences that were made comparable, which is most of the work.
    """

    began_us: int
    ended_us: int = 0
    done: int = 0
    total: int = 0
    index: str = ""
    held: tuple[HeldUp, ...] = ()
    held_all: int = 0
    problem: str = ""
    remedy: str = ""


def last(index_dir: Path) -> Built | None:
    """Return what is known of the last build that a page began, None where there was none."""
    try:
        return msgspec.json.decode((index_dir / RESULT).read_bytes(), type=Built)
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
        return None


def keep(index_dir: Path, one: Built) -> None:
    """Say how far a build is, in the place of what was said before."""
    index_dir.mkdir(parents=True, exist_ok=True)
    beside = index_dir / f"{RESULT}.{os.getpid()}"
    beside.touch(mode=0o600)
    beside.write_bytes(msgspec.json.encode(one))
    beside.replace(index_dir / RESULT)


def run(
    settings: Settings,
    clock: Clock,
    *,
    builder: Builder | None = None,
    quarantined: Callable[[Path], Mapping[str, Held]] = indexing.quarantined,
) -> Built:
    """Build an index of what is registered, and keep what came of it. quarantined: what an index holds up."""
    folder, engine = settings.index_dir, open_engine(settings.store_url)
    made = Built(began_us=clock.now_us())
    told_us = 0

    def progress(done: int, total: int) -> None:
        nonlocal made, told_us
        made = msgspec.structs.replace(made, done=done, total=total)
        if clock.now_us() - told_us >= TOLD_EACH_US:
            told_us = clock.now_us()
            keep(folder, made)

    try:
        keep(folder, made)
        catalogue = Catalogue(engine, clock=clock, ids=RandomIds())
        ownership = Ownership(engine, clock=clock, ids=RandomIds())
        before = _known(folder, quarantined)
        path = indexing.build(catalogue, folder, clock=clock, progress=progress, builder=builder)
        found = quarantined(folder)
        ownership.record_held(found.values())
        fresh = [
            HeldUp(one.work_id, one.note or one.kind) for one in found.values() if one.work_id not in before
        ]
        made = msgspec.structs.replace(
            made, index=path.name, held=tuple(fresh[:HELD_KEPT]), held_all=len(fresh)
        )
    except Problem as refused:
        made = msgspec.structs.replace(made, problem=refused.cause, remedy=refused.remedy)
    finally:
        engine.dispose()
    made = msgspec.structs.replace(made, ended_us=clock.now_us())
    keep(folder, made)
    return made


def _known(folder: Path, quarantined: Callable[[Path], Mapping[str, Held]]) -> frozenset[str]:
    try:
        return frozenset(quarantined(folder))
    except Problem:
        return frozenset()  # a broken index is why a new one is built


def main() -> None:
    """Build once."""
    os.nice(NICE)
    run(serving(), SystemClock())


if __name__ == "__main__":
    main()
