"""What pages show of works beside the works: how many, whose parts, what is held up, what was changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.catalogue.lookup_store import chunks, owner_now
from proxy.catalogue.ownership import Held, ReviewEntry
from proxy.catalogue.ownership_store import FOR_THE_INDEX
from proxy.catalogue.works import COMMONS, Creator

CHANGES_LOOKED_AT: Final = 20_000  # twenty milliseconds of rows
_work = SQLModel.metadata.tables["work"]
_review, _split = SQLModel.metadata.tables["review"], SQLModel.metadata.tables["split"]
_event = SQLModel.metadata.tables["registry_event"]
_creator = SQLModel.metadata.tables["creator"]


def count_works(engine: sa.Engine, creator_id: str) -> int:
    """Return how many works are a creator's now."""
    query = sa.select(sa.func.count()).select_from(_work).where(owner_now() == creator_id)
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def creators(engine: sa.Engine, named: str, after: str, limit: int) -> list[Creator]:
    """Return creators by id, from behind `after` on; named: only the one of this id or ref."""
    query = sa.select(_creator).where(_creator.c.id != COMMONS, _creator.c.id > after)
    if named:
        query = query.where(sa.or_(_creator.c.id == named, _creator.c.ref == named))
    with engine.connect() as connection:
        return [Creator(*row) for row in connection.execute(query.order_by(_creator.c.id).limit(limit))]


def held_among(engine: sa.Engine, work_ids: Sequence[str]) -> dict[str, tuple[Held, str]]:
    """Return {work: (why it is held up, what a person said about that)} of those that are."""
    with engine.connect() as connection:
        rows = [
            row
            for chunk in chunks(work_ids)
            for row in connection.execute(_reviews().where(_review.c.work_id.in_(chunk)))
        ]
    return {one.held.work_id: (one.held, one.said) for one in _entries(rows)}


def waiting(engine: sa.Engine) -> list[ReviewEntry]:
    """Return what the last index that was built holds up, longest held first."""
    with engine.connect() as connection:
        rows = connection.execute(_reviews()).all()
    return sorted(_entries(rows), key=lambda one: (one.since_us, one.held.work_id))


def _reviews() -> sa.Select[Any]:
    return sa.select(_review).order_by(_review.c.work_id, _review.c.seq)


def _entries(rows: Iterable[Any]) -> Iterator[ReviewEntry]:
    for work, group in itertools.groupby(rows, key=lambda row: str(row.work_id)):
        said = list(group)
        last = said[-1]
        why = next((row for row in reversed(said) if row.decision == "held"), None)
        if why is None or last.decision not in {"held", "upheld"}:
            continue
        held = Held(work, why.kind, why.reason, why.other_work, why.part_ppm)
        if last.decision == "upheld":
            yield ReviewEntry(held, why.at_us, "upheld", last.reason, last.decided_by, last.at_us)
        else:
            yield ReviewEntry(held, why.at_us)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the registry: what, of which work, by whom, when."""

    seq: int
    kind: str
    work_id: str
    actor: str
    at_us: int


def changes(engine: sa.Engine, before_seq: int, limit: int) -> list[Change]:
    """Return changes of the registry, newest first, those before `before_seq` when it is not 0."""
    query = sa.select(_event).order_by(_event.c.seq.desc()).limit(limit)
    if before_seq:
        query = query.where(_event.c.seq < before_seq)
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    return [Change(row.seq, row.kind, row.work_id or "", row.actor, row.at_us) for row in rows]


def awaiting_index(engine: sa.Engine, built_us: int) -> tuple[int, bool]:
    """Return how many works changed for the next index since one was begun, and whether more did.

    The last CHANGES_LOOKED_AT changes are looked at, because nothing finds them by their time.
    """
    newest = sa.select(_event.c.kind, _event.c.work_id, _event.c.at_us).order_by(_event.c.seq.desc())
    with engine.connect() as connection:
        rows = connection.execute(newest.limit(CHANGES_LOOKED_AT)).all()
    since = [row for row in rows if row.at_us > built_us]
    return len({row.work_id for row in since if row.kind in FOR_THE_INDEX}), len(since) == CHANGES_LOOKED_AT


def split_of(engine: sa.Engine, work_id: str) -> list[tuple[str, str, int]]:
    """Return [(party, their name, ppm)] of a work's split as it was agreed last, [] when it has none."""
    newest = sa.select(sa.func.max(_split.c.version)).where(_split.c.work_id == work_id).scalar_subquery()
    query = sa.select(_split.c.party, _creator.c.name, _split.c.ppm)
    query = query.outerjoin(_creator, _creator.c.id == _split.c.party)
    query = query.where(_split.c.work_id == work_id, _split.c.version == newest)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(_split.c.ppm.desc(), _split.c.party)).all()
    return [(str(row.party), str(row.name or ""), int(row.ppm)) for row in rows]
