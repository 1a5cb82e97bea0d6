"""What a creator sees of their own works beside the works themselves: how many, whose parts, what is held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.catalogue.lookup_store import chunks, owner_now
from proxy.catalogue.ownership import Held

_work = SQLModel.metadata.tables["work"]
_review, _split = SQLModel.metadata.tables["review"], SQLModel.metadata.tables["split"]
_creator = SQLModel.metadata.tables["creator"]


def count_works(engine: sa.Engine, creator_id: str) -> int:
    """Return how many works are a creator's now."""
    query = sa.select(sa.func.count()).select_from(_work).where(owner_now() == creator_id)
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def held_among(engine: sa.Engine, work_ids: Sequence[str]) -> dict[str, tuple[Held, str]]:
    """Return {work: (why it is held up, what a person said about that)} of those that are."""
    last: dict[str, list[Any]] = {}
    with engine.connect() as connection:
        for chunk in chunks(work_ids):
            query = sa.select(_review).where(_review.c.work_id.in_(chunk)).order_by(_review.c.seq)
            for row in connection.execute(query):
                last.setdefault(str(row.work_id), []).append(row)
    found: dict[str, tuple[Held, str]] = {}
    for work, rows in last.items():
        if rows[-1].decision not in {"held", "upheld"}:
            continue
        why = next((row for row in reversed(rows) if row.decision == "held"), rows[-1])
        said = rows[-1].reason if rows[-1].decision == "upheld" else ""
        found[work] = Held(work, why.kind, why.reason, why.other_work, why.part_ppm), str(said)
    return found


def split_of(engine: sa.Engine, work_id: str) -> list[tuple[str, str, int]]:
    """Return [(party, their name, ppm)] of a work's split as it was agreed last, [] when it has none."""
    newest = sa.select(sa.func.max(_split.c.version)).where(_split.c.work_id == work_id).scalar_subquery()
    query = sa.select(_split.c.party, _creator.c.name, _split.c.ppm)
    query = query.outerjoin(_creator, _creator.c.id == _split.c.party)
    query = query.where(_split.c.work_id == work_id, _split.c.version == newest)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(_split.c.ppm.desc(), _split.c.party)).all()
    return [(str(row.party), str(row.name or ""), int(row.ppm)) for row in rows]
