"""What several of the registry's transactions ask of the store: names, owners, standing, what was said last.

Each takes the connection of the transaction that asks, so that what it answers and what is then written are
of one moment. Whose a work is now is never stored: it is who registered it, or whose claim was upheld last,
so that the history alone says it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from proxy.catalogue.ownership import STANDING_UPHELD, STANDING_VERIFIED
from proxy.catalogue.tables import metadata
from proxy.catalogue.works import Creator, Given, Split, Status
from proxy.errors import NotFound

IN_MAX = 5_000  # names in one statement; both engines take more than twice that

_tables = metadata.tables
_creator, _work, _consent = _tables["creator"], _tables["work"], _tables["consent"]
_claim, _decision = _tables["claim"], _tables["claim_decision"]
_identifier, _event = _tables["work_identifier"], _tables["registry_event"]


def chunks(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield `names` in lists that fit into one statement's parameters on both engines."""
    rest = iter(names)
    while chunk := list(itertools.islice(rest, IN_MAX)):
        yield chunk


def creators_by_handle(connection: sa.Connection, names: set[str]) -> dict[str, Creator]:
    """Return {id or ref: creator} for those of `names` that are known; an id wins over a ref like it."""
    by_id: dict[str, Creator] = {}
    by_ref: dict[str, Creator] = {}
    for chunk in chunks(names):
        statement = sa.select(_creator).where(sa.or_(_creator.c.id.in_(chunk), _creator.c.ref.in_(chunk)))
        for row in connection.execute(statement):
            creator = Creator(row.id, row.ref, row.name, row.country, row.created_us)
            by_id[creator.id] = by_ref[creator.ref] = creator
    return {name: creator for name, creator in {**by_ref, **by_id}.items() if name in names}


def status_of(connection: sa.Connection, work_id: str) -> Status:
    """Return a work's status; NotFound when there is no such work."""
    status = connection.execute(sa.select(_work.c.status).where(_work.c.id == work_id)).scalar_one_or_none()
    if status is None:
        raise NotFound(f"there is no work '{work_id}'", remedy="`endcredits works list` shows them")
    return "withdrawn" if status == "withdrawn" else "active"


def owner_now() -> sa.ColumnElement[str]:
    """Return the column of a work's owner: who registered it, or whose claim was upheld last."""
    upheld = (
        sa.select(_claim.c.claimant)
        .join(_decision, _decision.c.claim_id == _claim.c.id)
        .where(_claim.c.work_id == _work.c.id, _decision.c.outcome == "upheld")
        .order_by(_decision.c.seq.desc())
        .limit(1)
        .correlate(_work)
        .scalar_subquery()
    )
    return sa.func.coalesce(upheld, _work.c.creator_id)


def owner_of(connection: sa.Connection, work_id: str) -> str:
    """Return whose a work is now; NotFound when there is no such work."""
    status_of(connection, work_id)
    return str(connection.execute(sa.select(owner_now()).where(_work.c.id == work_id)).scalar_one())


def standings(connection: sa.Connection, work_ids: list[str] | None = None) -> dict[str, int]:
    """Return {work: standing} of those that have one, among all works when `work_ids` is None."""
    found: dict[str, int] = {}
    for chunk in [None] if work_ids is None else chunks(work_ids):
        verified = sa.select(_identifier).order_by(_identifier.c.seq)
        upheld = sa.select(_claim.c.work_id).join(_decision, _decision.c.claim_id == _claim.c.id)
        upheld = upheld.where(_decision.c.outcome == "upheld")
        if chunk is not None:
            verified = verified.where(_identifier.c.work_id.in_(chunk))
            upheld = upheld.where(_claim.c.work_id.in_(chunk))
        last = {
            (str(row.work_id), row.scheme, row.value): row.state == "verified"
            for row in connection.execute(verified)
        }
        found |= {work: STANDING_VERIFIED for (work, _, _), holds in last.items() if holds}
        found |= dict.fromkeys(map(str, connection.execute(upheld).scalars()), STANDING_UPHELD)
    return found


def released(connection: sa.Connection) -> frozenset[str]:
    """Return the works that somebody has released from the review queue, and not held up again since."""
    said = sa.select(_event.c.work_id, _event.c.kind).order_by(_event.c.seq)
    said = said.where(_event.c.kind.in_(("work_released", "hold_upheld")))
    last = {str(row.work_id): row.kind for row in connection.execute(said)}
    return frozenset(work for work, kind in last.items() if kind == "work_released")


def said_last(connection: sa.Connection, work_ids: list[str] | None) -> dict[tuple[str, str], Given]:
    """Return {(work, use): the consent given last}, of all works when `work_ids` is None."""
    said: dict[tuple[str, str], Given] = {}
    for chunk in [None] if work_ids is None else chunks(work_ids):
        statement = sa.select(_consent).order_by(_consent.c.seq)
        if chunk is not None:
            statement = statement.where(_consent.c.work_id.in_(chunk))
        for row in connection.execute(statement):
            said[row.work_id, row.use] = row.verdict
    return said


def next_split_version(connection: sa.Connection, work_id: str) -> int:
    """Return the number that the next version of a work's split gets."""
    split = _tables["split"]
    last = sa.select(sa.func.max(split.c.version)).where(split.c.work_id == work_id)
    return int(connection.execute(last).scalar_one_or_none() or 0) + 1


def split_rows(work_id: str, version: int, split: Split, seq: int) -> list[dict[str, Any]]:
    """Return the rows of one version of a work's split, in force from the registry's number `seq` on."""
    return [
        {
            "work_id": work_id,
            "version": version,
            "party": part.party,
            "ppm": part.ppm,
            "role": part.role,
            "valid_from_seq": seq,
        }
        for part in split.parts
    ]
