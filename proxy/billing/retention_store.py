"""Which periods' answers may leave the store, and their leaving: archived, digested, written down, deleted.

Everything that can be told in sums stays where it was: periods, statements, transfers, the log. The order of
a period's leaving makes it safe to be killed at any moment: the archive is whole and on the disk before the
mark is made, the mark is made in one transaction, and only what is marked is deleted, some at a time. Run
again it goes on; two at once do no harm, as one alone makes the mark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from proxy.billing import periods_store, store
from proxy.billing.audit_trimmed_store import counts
from proxy.billing.disputes_store import DisputeEventRow, DisputeRow
from proxy.billing.invariants import counted_parts
from proxy.billing.retention import Facts, Standing, standing
from proxy.billing.store import PeriodSummary, StatementRow
from proxy.errors import Conflict
from proxy.metering import archive, gone_store, trim_store
from proxy.metering.archive import Archived, Digest, Digesting, Writing
from proxy.metering.gone_store import Trimmed
from proxy.metering.log_store import events_between
from proxy.metering.trim_store import Pause
from proxy.metering.usage import MeteredEvent
from proxy.receipts.store import read_state
from proxy.settings import Retention

FOLDER: Final = "archive"
SEAL_TYPE: Final = "endcredits-trimmed+jws"  # of the JWS over a digest
Seal = Callable[[bytes], str]  # a digest's bytes -> its JWS
_tables = StatementRow.metadata.tables
_statement, _dispute, _event = (
    _tables[str(row.__tablename__)] for row in (StatementRow, DisputeRow, DisputeEventRow)
)


@dataclass(frozen=True, slots=True)
class Left:
    """What became of one period. deleted: answers that left now; longest_us: the longest transaction, the
    time in which nobody else could write.
    """

    standing: Standing
    deleted: int
    digest: Digest
    archive: str
    longest_us: int


def standings(engine: sa.Engine, rules: Retention, now_us: int) -> list[Standing]:
    """Return what becomes of each closed period's answers, newest first; changes nothing."""
    return [one for _, one in _standings(engine, rules, now_us)]


def _standings(engine: sa.Engine, rules: Retention, now_us: int) -> list[tuple[PeriodSummary, Standing]]:
    logged = read_state(engine).positions
    windows = periods_store.windows(engine)
    with engine.connect() as connection:
        gone, disputes = gone_store.trimmed(connection), _open_disputes(connection)
    made: list[tuple[PeriodSummary, Standing]] = []
    for period in store.list_periods(engine):
        left = gone.get(period.label)
        facts = Facts(
            period.label,
            period.closed_us,
            windows.get(period.label, 0),
            period.totals.events,
            period.basis.end_bounds,
            disputes.get(period.label, 0),
            left.at_us if left else 0,
        )
        made.append((period, standing(facts, days=rules.usage_days, logged=logged, now_us=now_us)))
    return made


def _open_disputes(connection: sa.Connection) -> dict[str, int]:
    over = sa.exists().where(
        _event.c.dispute_id == _dispute.c.id, _event.c.kind.in_(("withdrawn", "settled"))
    )
    query = (
        sa.select(_statement.c.period_label, sa.func.count())
        .join_from(_dispute, _statement, _statement.c.id == _dispute.c.statement_id)
        .where(~over)
        .group_by(_statement.c.period_label)
    )
    return {str(label): int(count) for label, count in connection.execute(query)}


def retain(
    engine: sa.Engine,
    rules: Retention,
    data_dir: Path,
    *,
    seal: Seal,
    by: str,
    now_us: int,
    pause: Pause = time.sleep,
) -> Iterator[Left]:
    """Let go of every period's answers that may leave, oldest first, and of what an earlier run left behind.

    Yields each period as it is done. seal: signs a digest. by: who or what asks for it. pause: waits, between
    two transactions. Raises Conflict (code "usage_not_as_closed") for a period whose answers are not what its
    close counted: nothing of it is deleted. Raises Unavailable when the store is away, OSError from the disk.
    """
    for period, one in reversed(_standings(engine, rules, now_us)):
        if one.state == "due":
            left = _marked(engine, rules, data_dir, period, _Asked(seal, by, now_us, pause))
        elif one.state == "trimmed":
            with engine.connect() as connection:
                left = gone_store.trimmed(connection)[period.label]
        else:
            continue
        deleted, longest_us = trim_store.delete(engine, left.digest.shards, pause)
        if deleted or one.state == "due":
            yield Left(one, deleted, left.digest, left.archive, longest_us)
    trim_store.give_back(engine, pause)


@dataclass(frozen=True, slots=True)
class _Asked:
    seal: Seal
    by: str
    now_us: int
    pause: Pause


def _marked(
    engine: sa.Engine,
    rules: Retention,
    data_dir: Path,
    period: PeriodSummary,
    asked: _Asked,
) -> Trimmed:
    """Archive a period, and write down that its answers may go."""
    shards = {
        shard: (period.basis.start_bounds.get(shard, 0), end)
        for shard, end in sorted(period.basis.end_bounds.items())
        if end > period.basis.start_bounds.get(shard, 0)
    }
    answers = (
        one
        for shard, bounds in shards.items()
        for one in trim_store.archived_between(engine, shard, *bounds, asked.pause)
    )
    digesting = Digesting()
    name = f"{period.label}{archive.SUFFIX}" if rules.archive == "file" else ""
    if name:
        with Writing(data_dir / FOLDER / name) as file:
            for one in answers:
                file.write(digesting.line(one))
            digest = _as_closed(period, digesting.digest(period.label, shards))
    else:
        for one in answers:
            digesting.line(one)
        digest = _as_closed(period, digesting.digest(period.label, shards))
    made = Trimmed(asked.now_us, asked.by, digest, asked.seal(digest.canonical()), name)
    try:
        with engine.begin() as connection:
            gone_store.mark(connection, made)
    except IntegrityError as error:
        with engine.connect() as connection:
            there = gone_store.trimmed(connection).get(period.label)
        if there is None or there.digest != digest:
            raise Conflict(
                f"the store does not let the answers of {period.label} go: {error.orig}",
                remedy="run `endcredits audit`",
                code="usage_not_as_closed",
            ) from error
        return there  # another was first, with the same answers
    return made


def _as_closed(period: PeriodSummary, digest: Digest) -> Digest:
    wrong = [
        f"{told} {what}, the store has {there}"
        for what, told, there in counted_parts(period.totals, counts(digest))
        if told != there
    ]
    if wrong:
        raise Conflict(
            f"period {period.label} was closed with {wrong[0]}: its answers stay",
            remedy="run `endcredits audit` and see what it names",
            code="usage_not_as_closed",
        )
    return digest


def answers(engine: sa.Engine, data_dir: Path, period: PeriodSummary) -> Iterator[MeteredEvent]:
    """Yield a closed period's answers in the order of the log, from its archive where they have left.

    Raises Conflict (code "usage_trimmed") where no archive was kept, Unavailable as `archive.read` does.
    """
    with engine.connect() as connection:
        left = gone_store.trimmed(connection).get(period.label)
    if left is None or not left.archive:
        yield from events_between(engine, period.basis.start_bounds, period.basis.end_bounds)
        return
    yield from (one.answer for one in archived(data_dir, left))


def archived(data_dir: Path, left: Trimmed) -> Iterator[Archived]:
    """Yield what an archive holds, checked against the digest. Raises as `archive.read` does."""
    return archive.read(data_dir / FOLDER / left.archive, left.digest)
