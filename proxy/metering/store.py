"""Usage in the store: events, their shares, and how far each journal shard has been carried.

`carry` is the one writer. A batch and the shard's new high-water mark go in one transaction, and the mark
moves only from the index the batch begins at: of two carriers one wins, and a batch carried again changes
nothing. Ids are the second proof: an event that is there already with equal content is passed over; with
other content the first stands and the contradiction is told. Plain Core with executemany: the ORM costs 12
to 260 times as much.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Field, SQLModel

from proxy.database import insert_rows
from proxy.errors import Conflict, Unavailable
from proxy.metering.frames import Frame
from proxy.metering.gone_store import gone_ids
from proxy.metering.usage import PPM, Attributed, Begun, Line, MeteredEvent, Used, stored_text

PAGE_EVENTS = 2_000  # rows read at once: a few MB with their lines, whatever a period holds
BATCH_ROWS = 20_000  # inserted by one statement: the lines of a whole batch
LOOKUP_IDS = 500  # ids asked for in one statement, under every engine's limit of parameters


class ShardRow(SQLModel, table=True):
    """One journal shard. next_index: every record below it is in the store."""

    __tablename__: ClassVar[Any] = "shard"

    id: str = Field(primary_key=True)
    next_index: int = Field(sa_type=sa.BigInteger)


class EventRow(SQLModel, table=True):
    """One answer given: the `Used` record. body_sha256 is that of the record's bytes in the journal."""

    __tablename__: ClassVar[Any] = "event"
    __table_args__ = (sa.Index("ix_event_occurred_us_id", "occurred_us", "id"),)

    id: str = Field(primary_key=True)
    shard_id: str
    idx: int = Field(sa_type=sa.BigInteger)
    occurred_us: int = Field(sa_type=sa.BigInteger)
    app_id: str
    backend: str
    model: str
    endpoint: str
    outcome: str
    input_tokens: int = Field(sa_type=sa.BigInteger)
    output_tokens: int = Field(sa_type=sa.BigInteger)
    estimated: bool
    output_digest: str
    subject_digest: str
    price_version: str
    price_grains: int | None = Field(sa_type=sa.BigInteger)
    currency: str
    policy_seq: int | None = Field(sa_type=sa.BigInteger)
    images: int = Field(default=0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": sa.text("0")})
    milliseconds: int = Field(
        default=0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": sa.text("0")}
    )
    body_sha256: str


class AttributedRow(SQLModel, table=True):
    """One answer's shares: the `Attributed` record. Its (shard, idx) is where a statement counts the answer.

    No foreign key to the event: after a restart the two may be carried from two shards, in either order.
    """

    __tablename__: ClassVar[Any] = "attributed"
    __table_args__ = (sa.UniqueConstraint("shard_id", "idx", name="uq_attributed_shard_id_idx"),)

    event_id: str = Field(primary_key=True)
    shard_id: str
    idx: int = Field(sa_type=sa.BigInteger)
    unattributed_ppm: int = Field(sa_type=sa.BigInteger)
    reason: str
    method: str
    registry_seq: int = Field(sa_type=sa.BigInteger)
    body_sha256: str


class EventLineRow(SQLModel, table=True):
    """One work's share of one answer, in the order of the record."""

    __tablename__: ClassVar[Any] = "event_line"
    __table_args__ = ({"sqlite_with_rowid": False},)

    event_id: str = Field(primary_key=True, foreign_key="attributed.event_id")
    ord: int = Field(sa_type=sa.BigInteger, primary_key=True)
    work_id: str
    ppm: int = Field(sa_type=sa.BigInteger)
    verdict: str


_tables = SQLModel.metadata.tables
shard, event = _tables["shard"], _tables["event"]
attributed, event_line = _tables["attributed"], _tables["event_line"]


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a batch. contradicted: ids recorded twice with different content; the first stands."""

    next_index: int
    contradicted: tuple[str, ...] = ()


@dataclass(slots=True)
class _Batch:
    """The rows of a batch by table, values in the order of columns: the id first, the body's sha256 last.

    lines: by the sha256 and not by the id, so that two contradicting records of one id do not mix theirs.
    """

    events: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    attributed: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    lines: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict[str, list[tuple[Any, ...]]])

    def let_go(self, gone: set[str]) -> None:
        """Leave out what was here once and has left since."""
        self.events = [row for row in self.events if row[0] not in gone]
        self.attributed = [row for row in self.attributed if row[0] not in gone]
        kept = {row[-1] for row in self.attributed}
        self.lines = {body: lines for body, lines in self.lines.items() if body in kept}


def carry(engine: sa.Engine, shard_id: str, frames: Sequence[Frame]) -> Carried | None:
    """Put a run of journal frames into the store and move the shard's mark past it, all or nothing.

    Returns None, having changed nothing, when the mark is not where the run begins: another was first.
    Raises Unavailable(code "journal_gap") for a run with a hole, (code "store_unavailable") when the store
    is away, and Conflict when it refuses the rows.
    """
    first, end = frames[0].index, frames[-1].index + 1
    if [frame.index for frame in frames] != list(range(first, end)):
        raise Unavailable(
            f"journal shard {shard_id}: records between {first} and {end} are missing",
            remedy="run `endcredits doctor`; carrying stops here so that no usage is skipped in silence",
            code="journal_gap",
        )
    batch = _rows(shard_id, frames)
    with store_errors():
        with engine.connect() as connection:
            ids = {row[0] for row in itertools.chain(batch.events, batch.attributed)}
            if gone := gone_ids(connection, sorted(ids)):
                batch.let_go(gone)
        with contextlib.suppress(_NotAllNew):
            return _insert_all_new(engine, shard_id, first, end, batch)
        return _insert_what_is_new(engine, shard_id, first, end, batch)


class _NotAllNew(Exception):
    """Some of the batch is in the store already: look row by row."""


def _insert_all_new(engine: sa.Engine, shard_id: str, first: int, end: int, batch: _Batch) -> Carried | None:
    """The common case: nothing of the batch is there, so nothing is looked up."""
    lines = list(itertools.chain.from_iterable(batch.lines.values()))
    try:
        with engine.begin() as connection:
            if not _move_mark(connection, shard_id, first, end):
                return None
            for table, rows in ((event, batch.events), (attributed, batch.attributed), (event_line, lines)):
                _insert(connection, table, rows)
    except IntegrityError as error:  # an id is taken, by the same or by other content
        raise _NotAllNew from error
    return Carried(end)


def _insert_what_is_new(
    engine: sa.Engine, shard_id: str, first: int, end: int, batch: _Batch
) -> Carried | None:
    """A replay, or a contradiction: compare with what is there, insert the rest."""
    contradicted: list[str] = []
    with engine.begin() as connection:
        if not _move_mark(connection, shard_id, first, end):
            return None
        for table, key, rows in ((event, "id", batch.events), (attributed, "event_id", batch.attributed)):
            known = _bodies(connection, table, key, [row[0] for row in rows])
            new: list[tuple[Any, ...]] = []
            for row in rows:
                answer, body = row[0], row[-1]
                if known.setdefault(answer, body) != body:
                    contradicted.append(answer)
                elif answer not in known.taken:
                    known.taken.add(answer)
                    new.append(row)
            _insert(connection, table, new)
            if table is attributed:
                _insert(connection, event_line, [line for row in new for line in batch.lines[row[-1]]])
    return Carried(end, tuple(contradicted))


class _Known(dict[str, str]):
    """Body sha256 by id; `taken` are the ids whose row is in the store or on its way there."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[str] = set()


def _bodies(connection: sa.Connection, table: sa.Table, key: str, ids: Sequence[str]) -> _Known:
    known = _Known()
    for start in range(0, len(ids), LOOKUP_IDS):
        some = ids[start : start + LOOKUP_IDS]
        query = sa.select(table.c[key], table.c.body_sha256).where(table.c[key].in_(some))
        known.update((row[0], row[1]) for row in connection.execute(query))
    known.taken.update(known)
    return known


def _move_mark(connection: sa.Connection, shard_id: str, first: int, end: int) -> bool:
    statement = sa.update(shard).where(shard.c.id == shard_id, shard.c.next_index == first)
    return connection.execute(statement.values(next_index=end)).rowcount == 1


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    insert_rows(connection, table, table.c.keys(), rows, at_once=BATCH_ROWS)


def _rows(shard_id: str, frames: Iterable[Frame]) -> _Batch:
    batch = _Batch()
    for frame in frames:
        record = frame.record()
        body = hashlib.sha256(frame.payload).hexdigest()
        match record:
            case Begun():
                pass  # only a restart needs it
            case Used():
                batch.events.append(
                    (
                        record.id,
                        shard_id,
                        frame.index,
                        record.occurred_us,
                        record.app,
                        stored_text(record.backend),
                        stored_text(record.model),
                        stored_text(record.endpoint),
                        record.outcome,
                        record.input_tokens,
                        record.output_tokens,
                        record.estimated,
                        record.output_digest,
                        record.subject_digest,
                        record.price_version,
                        record.price_grains,
                        record.currency,
                        record.policy_seq,
                        record.images,
                        record.milliseconds,
                        body,
                    )
                )
            case Attributed():
                batch.attributed.append(
                    (
                        record.id,
                        shard_id,
                        frame.index,
                        record.unattributed_ppm,
                        record.reason,
                        record.method,
                        record.registry_seq,
                        body,
                    )
                )
                batch.lines[body] = [
                    (record.id, number, line.work, line.ppm, line.verdict)
                    for number, line in enumerate(record.lines)
                ]
    return batch


# Of five seconds each, before `store_busy` is a fault: so long may a close of tens of millions of lines take.
BUSY_TRIES: Final = 24


@contextlib.contextmanager
def store_errors() -> Generator[None]:
    """Turn what the driver says into Conflict (rows refused) and Unavailable (the store is away, or busy)."""
    try:
        yield
    except IntegrityError as error:
        raise Conflict(
            f"the store refused usage records: {error.orig}",
            remedy="run `endcredits doctor`; the records stay in the journal and are tried again",
            code="usage_refused",
        ) from error
    except SQLAlchemyError as error:
        code: int = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
        if code & 0xFF == sqlite3.SQLITE_BUSY:
            raise Unavailable(
                "somebody else has been writing to the store for longer than this waits",
                remedy="a period of millions of lines is written so; usage waits in the journal",
                code="store_busy",
            ) from error
        raise Unavailable(
            f"the store cannot be reached: {error.__class__.__name__}",
            remedy="check [store] url and its server; usage waits in the journal",
            code="store_unavailable",
        ) from error


def watermark(engine: sa.Engine, shard_id: str) -> int:
    """Return how far a shard is carried, entering the shard at 0 when the store has not seen it."""
    with store_errors(), engine.begin() as connection:
        found = connection.scalar(sa.select(shard.c.next_index).where(shard.c.id == shard_id))
        if found is None:
            insert_rows(connection, shard, ("id", "next_index"), [(shard_id, 0)], pass_over=True)
            return 0
        return int(found)


def watermarks(engine: sa.Engine) -> dict[str, int]:
    """Return each shard's next index: the bounds a period ends at."""
    with store_errors(), engine.connect() as connection:
        rows = connection.execute(sa.select(shard.c.id, shard.c.next_index).order_by(shard.c.id))
        return {row[0]: int(row[1]) for row in rows}


def usage(
    engine: sa.Engine, since_us: int = 0, *, after_id: str = "", app: str = ""
) -> Iterator[MeteredEvent]:
    """Yield answers given since `since_us`, oldest first; "pending" while their shares are to come.

    after_id: of those given at `since_us` itself, only ids after this one. app: only that app's answers.
    """
    after: tuple[int, str] = (since_us, after_id)
    while True:
        query = (
            _joined(event.outerjoin(attributed, event.c.id == attributed.c.event_id))
            .where(sa.tuple_(event.c.occurred_us, event.c.id) > sa.tuple_(*map(sa.literal, after)))
            .where(event.c.app_id == app if app else sa.true())
            .order_by(event.c.occurred_us, event.c.id)
            .limit(PAGE_EVENTS)
        )
        page, rows = _page(engine, query)
        yield from page
        if len(rows) < PAGE_EVENTS:
            return
        after = (rows[-1]["occurred_us"], rows[-1]["id"])


def find_event(engine: sa.Engine, event_id: str) -> MeteredEvent | None:
    """Return one answer, "pending" while its shares are to come, None when no such usage is in the store."""
    joined = event.outerjoin(attributed, event.c.id == attributed.c.event_id)
    page, _ = _page(engine, _joined(joined).where(event.c.id == event_id))
    return page[0] if page else None


def answers_of(engine: sa.Engine, ids: Sequence[str]) -> list[MeteredEvent]:
    """Return the answers with these ids that are in the store, in no order."""
    joined = _joined(event.outerjoin(attributed, event.c.id == attributed.c.event_id))
    some = (ids[start : start + LOOKUP_IDS] for start in range(0, len(ids), LOOKUP_IDS))
    return [one for part in some for one in _page(engine, joined.where(event.c.id.in_(part)))[0]]


def known_ids(engine: sa.Engine, ids: Sequence[str]) -> set[str]:
    """Return those of these ids under which an answer is metered already, also one that has left since."""
    with store_errors(), engine.connect() as connection:
        return gone_ids(connection, ids) | {
            row.id
            for start in range(0, len(ids), LOOKUP_IDS)
            for row in connection.execute(
                sa.select(event.c.id).where(event.c.id.in_(ids[start : start + LOOKUP_IDS]))
            )
        }


@dataclass(frozen=True, slots=True)
class Totals:
    """How much usage the store holds."""

    events: int
    pending: int
    lines: int
    input_tokens: int
    output_tokens: int


def totals(engine: sa.Engine) -> Totals:
    """Count the store's usage; reads every row."""
    unsettled = ~sa.exists().where(attributed.c.event_id == event.c.id)
    counted = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(sa.case((unsettled, 1), else_=0)), 0),
        sa.func.coalesce(sa.func.sum(event.c.input_tokens), 0),
        sa.func.coalesce(sa.func.sum(event.c.output_tokens), 0),
    ).select_from(event)
    with store_errors(), engine.connect() as connection:
        events, pending, tokens_in, tokens_out = connection.execute(counted).one()
        lines = connection.scalar(sa.select(sa.func.count()).select_from(event_line))
    return Totals(int(events), int(pending), int(lines or 0), int(tokens_in), int(tokens_out))


def _joined(source: sa.Join) -> sa.Select[Any]:
    names = ("event_id", "unattributed_ppm", "reason", "method", "registry_seq")
    shares = [attributed.c[name] for name in names]
    own = [column for column in event.c if column.name not in {"shard_id", "idx"}]
    return sa.select(*own, *shares, attributed.c.idx.label("attributed_idx")).select_from(source)


def _page(engine: sa.Engine, query: sa.Select[Any]) -> tuple[list[MeteredEvent], list[Mapping[str, Any]]]:
    """Return a page's answers with their lines, and its rows; a row without usage makes no answer."""
    with store_errors(), engine.connect() as connection:
        rows: list[Mapping[str, Any]] = [dict(row) for row in connection.execute(query).mappings()]
        settled = [str(row["event_id"]) for row in rows if row["event_id"] is not None]
        lines: dict[str, list[Line]] = {}
        for start in range(0, len(settled), LOOKUP_IDS):
            some = settled[start : start + LOOKUP_IDS]
            asked = sa.select(event_line).where(event_line.c.event_id.in_(some))
            for line in connection.execute(asked.order_by(event_line.c.event_id, event_line.c.ord)):
                lines.setdefault(line.event_id, []).append(Line(line.work_id, line.ppm, line.verdict))
    return [_answer(row, lines) for row in rows if row["id"] is not None], rows


def _answer(row: Mapping[str, Any], lines: Mapping[str, list[Line]]) -> MeteredEvent:
    pending = row["event_id"] is None
    return MeteredEvent(
        id=row["id"],
        occurred_us=row["occurred_us"],
        app_id=row["app_id"],
        backend=row["backend"],
        model=row["model"],
        endpoint=row["endpoint"],
        outcome=row["outcome"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        estimated=bool(row["estimated"]),
        output_digest=row["output_digest"],
        subject_digest=row["subject_digest"],
        price_version=row["price_version"],
        price_grains=row["price_grains"],
        currency=row["currency"],
        status="pending" if pending else "settled",
        unattributed_ppm=PPM if pending else row["unattributed_ppm"],
        reason="" if pending else row["reason"],
        method="" if pending else row["method"],
        registry_seq=0 if pending else row["registry_seq"],
        policy_seq=row["policy_seq"],
        images=row["images"],
        milliseconds=row["milliseconds"],
        lines=tuple(lines.get(row["id"], ())),
    )
