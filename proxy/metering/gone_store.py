"""What is written down of answers that are no longer in the store, and who has to ask for it.

Of a period that is long over stay its digest and, a row a shard, the stretch of the log that it covered. A
reader of the log asks before it reads, so that nothing is ever summed as if there had been no answers; the
carrier asks for ids, so that an answer that comes again after it has left is not counted again. The log knows
every settled answer's id for ever, and no answer leaves before the log has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.errors import Conflict
from proxy.metering.archive import Digest

_IDS: Final = 500  # asked for in one statement, under every engine's limit of parameters


class TrimmedPeriodRow(SQLModel, table=True):
    """A period whose answers may leave, or have left; append-only. digest: canonical JSON; seal: its JWS, or
    empty; archive: the file's name, or empty where none was wanted.
    """

    __tablename__: ClassVar[Any] = "trimmed_period"
    label: str = Field(primary_key=True, sa_type=sa.String, foreign_key="period.label")
    at_us: int = Field(sa_type=sa.BigInteger)
    by: str = Field(sa_type=sa.String)
    answers: int = Field(sa_type=sa.BigInteger)
    digest: str = Field(sa_type=sa.Text)
    seal: str = Field(sa_type=sa.Text)
    archive: str = Field(sa_type=sa.String)


class TrimmedRangeRow(SQLModel, table=True):
    """A stretch of a shard that such a period covers: start_idx <= idx < end_idx; append-only."""

    __tablename__: ClassVar[Any] = "trimmed_range"
    shard_id: str = Field(primary_key=True, sa_type=sa.String)
    start_idx: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    end_idx: int = Field(sa_type=sa.BigInteger)
    period_label: str = Field(sa_type=sa.String, foreign_key="trimmed_period.label")


_tables = SQLModel.metadata.tables
_period, _range = _tables["trimmed_period"], _tables["trimmed_range"]
# By their names: the chapter of receipts lies above this one, and the carrier asks here.
_log = sa.table("log_entry", sa.column("ref"), sa.column("kind"))
_attributed = sa.table("attributed", sa.column("event_id"))


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What is written down of a period whose answers left. at_us: when; by: who or what let them go."""

    at_us: int
    by: str
    digest: Digest
    seal: str
    archive: str


def trimmed(connection: sa.Connection) -> dict[str, Trimmed]:
    """Return what is written down, by period."""
    return {
        str(row.label): Trimmed(
            int(row.at_us), row.by, msgspec.json.decode(row.digest, type=Digest), row.seal, row.archive
        )
        for row in connection.execute(sa.select(_period))
    }


def trimmed_answers(connection: sa.Connection) -> int:
    """Return how many answers are written down as trimmed; some of them may be leaving at this moment."""
    return int(connection.scalar(sa.select(sa.func.sum(_period.c.answers))) or 0)


def trimmed_ranges(connection: sa.Connection) -> list[tuple[str, int, int]]:
    """Return every stretch that is written down: (shard, first, end)."""
    query = sa.select(_range.c.shard_id, _range.c.start_idx, _range.c.end_idx)
    return [(str(shard), int(start), int(end)) for shard, start, end in connection.execute(query)]


def mark(connection: sa.Connection, one: Trimmed) -> None:
    """Write down that a period's answers may go; from here on they are no longer read.

    Raises IntegrityError where they may not: the period is not closed, still a draft, or marked already.
    """
    row = {
        "label": one.digest.period,
        "at_us": one.at_us,
        "by": one.by,
        "answers": one.digest.answers,
        "digest": one.digest.canonical().decode(),
        "seal": one.seal,
        "archive": one.archive,
    }
    connection.execute(sa.insert(_period), [row])
    ranges = [
        {"shard_id": shard, "start_idx": start, "end_idx": end, "period_label": one.digest.period}
        for shard, (start, end) in sorted(one.digest.shards.items())
    ]
    if ranges:
        connection.execute(sa.insert(_range), ranges)


def gone_ids(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Return those of these ids whose answers were here, were logged, and have left."""
    if connection.scalar(sa.select(_period.c.label).limit(1)) is None:
        return set()
    here = sa.exists().where(_attributed.c.event_id == _log.c.ref)
    found: set[str] = set()
    for start in range(0, len(ids), _IDS):
        some = ids[start : start + _IDS]
        query = sa.select(_log.c.ref).where(_log.c.ref.in_(some), _log.c.kind == "receipt")
        found.update(str(one) for one in connection.execute(query.where(~here)).scalars())
    return found


def refuse_gone(connection: sa.Connection, start: Mapping[str, int], end: Mapping[str, int]) -> None:
    """Raise Conflict (code "usage_trimmed") where answers of this stretch of the log have left.

    A shard missing in `start` begins at 0; one missing in `end` is not asked for.
    """
    for shard, bound in sorted(end.items()):
        query = sa.select(_range.c.period_label).where(
            _range.c.shard_id == shard,
            _range.c.start_idx < bound,
            _range.c.end_idx > start.get(shard, 0),
        )
        label = connection.scalar(query.limit(1))
        if label is not None:
            raise Conflict(
                f"the answers of {label} are no longer in the store",
                remedy="its statements and invoices are; its answers are in its archive, if one was kept",
                code="usage_trimmed",
            )
