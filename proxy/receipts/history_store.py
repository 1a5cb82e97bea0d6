"""Which of the registry's changes are in the log, and in which batch; the rows themselves are the registry's.

A batch's entry is named by its last change, in digits of one width, so that the entry that holds a number is
found by the index of names.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import sqlalchemy as sa

from proxy.catalogue.tables import ConsentRow, WorkLinkRow
from proxy.database import RegistryEventRow
from proxy.metering.store import store_errors
from proxy.receipts.history import CHANGES_AT_ONCE, Change
from proxy.receipts.store import LogEntryRow
from proxy.receipts.verify import canonical

_tables = RegistryEventRow.metadata.tables
_event, _entry = _tables[str(RegistryEventRow.__tablename__)], _tables[str(LogEntryRow.__tablename__)]
_consent, _link = _tables[str(ConsentRow.__tablename__)], _tables[str(WorkLinkRow.__tablename__)]
_DIGITS: Final = 19  # of the largest number that the column holds
_LAST: Final = 10**_DIGITS - 1


def ref_of(last: int) -> str:
    """Return how the log names the batch that ends with change `last`: no answer or period begins so."""
    return f"changes {last:0{_DIGITS}d}"


def logged_upto(engine: sa.Engine) -> int:
    """Return the last change that the log holds, 0 for none."""
    with store_errors(), engine.connect() as connection:
        return _logged_below(connection, _LAST)


def unlogged(engine: sa.Engine) -> list[Change]:
    """Return the changes that follow those in the log, CHANGES_AT_ONCE at most."""
    with store_errors(), engine.connect() as connection:
        upto = _logged_below(connection, _LAST)
        return _changes(connection, upto + 1, upto + CHANGES_AT_ONCE)


def batch_with(engine: sa.Engine, seq: int) -> list[Change]:
    """Return all changes of the batch that holds `seq`, in their order; none while the log has none such."""
    with store_errors(), engine.connect() as connection:
        following = sa.select(sa.func.min(_entry.c.ref)).where(
            _entry.c.ref.between(ref_of(seq), ref_of(_LAST))
        )
        found = connection.scalar(following) if 0 < seq <= _LAST else None
        if found is None:
            return []
        return _changes(connection, _logged_below(connection, seq - 1) + 1, _number(found))


def batches_between(engine: sa.Engine, begin: int, end: int) -> list[int]:
    """Return the last change of each batch that stands at begin to end in the log, in its order."""
    at = (_entry.c.idx >= begin, _entry.c.idx < end, _entry.c.kind == "changes")
    with store_errors(), engine.connect() as connection:
        found = connection.scalars(sa.select(_entry.c.ref).where(*at).order_by(_entry.c.idx))
        return [_number(ref) for ref in found]


def change_at(engine: sa.Engine, seq: int) -> Change | None:
    """Return the registry's change of this number; None where there is none."""
    with store_errors(), engine.connect() as connection:
        return next(iter(_changes(connection, seq, seq)), None)


def changes_of(engine: sa.Engine, work: str) -> list[Change]:
    """Return all changes that were made of a work, oldest first."""
    query = sa.select(_event).where(_event.c.work_id == work).order_by(_event.c.seq)
    with store_errors(), engine.connect() as connection:
        return [_change(row) for row in connection.execute(query)]


def said_of(engine: sa.Engine, change: Change) -> dict[str, str] | None:
    """Return what changed, where the registry can still say it of a work: withdrawn, allowed or linked."""
    query = sa.select(_consent.c.use, _consent.c.verdict)
    query = query.where(_consent.c.work_id == change.work, _consent.c.seq == change.seq)
    linked = sa.select(_link.c.kind, _link.c.of_id)
    linked = linked.where(_link.c.work_id == change.work, _link.c.seq == change.seq)
    with store_errors(), engine.connect() as connection:
        consents = [{"use": use, "verdict": verdict} for use, verdict in connection.execute(query)]
        links = [{"kind": kind, "of": of} for kind, of in connection.execute(linked)]
    for said in ({"work": change.work}, *consents, *links):
        if hashlib.sha256(canonical(said)).hexdigest() == change.payload_sha256:
            return said
    return None


def _logged_below(connection: sa.Connection, seq: int) -> int:
    """Return the last change up to `seq` with which a batch ends, 0 for none."""
    within = _entry.c.ref.between(ref_of(0), ref_of(seq))
    found = connection.scalar(sa.select(sa.func.max(_entry.c.ref)).where(within))
    return 0 if found is None else _number(found)


def _changes(connection: sa.Connection, first: int, last: int) -> list[Change]:
    query = sa.select(_event).where(_event.c.seq >= first, _event.c.seq <= last).order_by(_event.c.seq)
    return [_change(row) for row in connection.execute(query)]


def _change(row: Any) -> Change:
    return Change(row.seq, row.kind, row.work_id or "", row.payload_sha256, row.actor, row.at_us)


def _number(ref: str) -> int:
    return int(ref.removeprefix("changes "))
