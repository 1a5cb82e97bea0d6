"""Accounts, transfers, periods and statements in the store: written once, in one transaction, never changed.

A closing is computed without holding any lock, then written whole or not at all. Two closings at once cannot
both succeed: a period takes the next number of its sequence and begins where the one before it ended, and the
number is unique. Ids are hashes of what is booked, so writing a closing again is a no-op that returns the
stored one, and tables refuse UPDATE and DELETE.

Balances are sums of entries, computed here when asked; there is no second number that could disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, SQLModel

from proxy.billing.adapted import with_originals
from proxy.billing.ledger import Entry, Transfer, normal_side
from proxy.billing.statements import UNCLAIMED, Basis, Closing, SplitSet, Statement, Totals, canonical
from proxy.catalogue.lookup_store import ancestry
from proxy.catalogue.tables import ClaimDecisionRow, ClaimRow, CreatorRow, SplitRow, WorkRow
from proxy.catalogue.works import COMMONS
from proxy.database import registry_seq
from proxy.errors import Conflict, NotFound
from proxy.metering.store import AttributedRow, EventRow

ROWS_AT_ONCE: Final = 1_000  # one INSERT's parameters stay small on both engines
IN_MAX: Final = 5_000  # names in one statement; both engines take more than twice that
WHOLE_PPM: Final = 1_000_000


class AccountRow(SQLModel, table=True):
    """One account in one currency."""

    __tablename__: ClassVar[Any] = "account"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("code", "currency"),)
    id: int | None = Field(
        default=None,
        sa_column=sa.Column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    )
    code: str = Field(sa_type=sa.String)
    currency: str = Field(sa_type=sa.String)
    normal: str = Field(sa_type=sa.String)


class TransferRow(SQLModel, table=True):
    """One booking; append-only."""

    __tablename__: ClassVar[Any] = "transfer"
    id: str = Field(primary_key=True, sa_type=sa.String)
    kind: str = Field(sa_type=sa.String)
    currency: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)
    period_label: str = Field(sa_type=sa.String, index=True)
    ref: str = Field(sa_type=sa.String)


class EntryRow(SQLModel, table=True):
    """One side of a booking; append-only."""

    __tablename__: ClassVar[Any] = "entry"
    transfer_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="transfer.id")
    ord: int = Field(primary_key=True, sa_type=sa.BigInteger)
    account_id: int = Field(sa_type=sa.BigInteger, foreign_key="account.id", index=True)
    side: str = Field(sa_type=sa.String)
    amount: int = Field(sa_type=sa.BigInteger)


class ReportedRow(SQLModel, table=True):
    """Which statements told of a transfer that no close booked: those of one period, once; append-only."""

    __tablename__: ClassVar[Any] = "reported_transfer"
    transfer_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="transfer.id")
    period_label: str = Field(sa_type=sa.String, foreign_key="period.label")


class PeriodRow(SQLModel, table=True):
    """One closed period; append-only. `totals` is JSON with the basis and the charges by app."""

    __tablename__: ClassVar[Any] = "period"
    label: str = Field(primary_key=True, sa_type=sa.String)
    seq: int = Field(sa_type=sa.BigInteger, unique=True)
    state: str = Field(sa_type=sa.String)
    currency: str = Field(sa_type=sa.String)
    start_bounds: str = Field(sa_type=sa.Text)
    end_bounds: str = Field(sa_type=sa.Text)
    closed_us: int = Field(sa_type=sa.BigInteger)
    totals: str = Field(sa_type=sa.Text)
    manifest_sha256: str = Field(sa_type=sa.String)


class StatementRow(SQLModel, table=True):
    """One creator's statement; append-only. `body` is its canonical JSON, the statement itself."""

    __tablename__: ClassVar[Any] = "statement"
    id: str = Field(primary_key=True, sa_type=sa.String)
    period_label: str = Field(sa_type=sa.String, foreign_key="period.label", index=True)
    creator_id: str = Field(sa_type=sa.String, index=True)
    currency: str = Field(sa_type=sa.String)
    opening: int = Field(sa_type=sa.BigInteger)
    earned: int = Field(sa_type=sa.BigInteger)
    closing: int = Field(sa_type=sa.BigInteger)
    lines_sha256: str = Field(sa_type=sa.String)
    body: str = Field(sa_type=sa.Text)


_tables = SQLModel.metadata.tables
_account, _transfer, _entry = _tables["account"], _tables["transfer"], _tables["entry"]
_period, _statement = _tables["period"], _tables["statement"]
_creator, _work, _split, _event, _attributed, _claim, _decision = (
    _tables[str(row.__tablename__)]
    for row in (CreatorRow, WorkRow, SplitRow, EventRow, AttributedRow, ClaimRow, ClaimDecisionRow)
)


class _PeriodBody(msgspec.Struct, frozen=True):
    basis: Basis
    totals: Totals
    charged_by_app: dict[str, int]


class PeriodSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A closed period as lists show it."""

    label: str
    state: str
    currency: str
    closed_us: int
    statements: int
    totals: Totals
    charged_by_app: dict[str, int]
    basis: Basis
    manifest_sha256: str


class StatementSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A statement as lists show it."""

    id: str
    period: str
    creator: str
    currency: str
    opening_grains: int
    earned_grains: int
    closing_grains: int


# Reading what a closing needs


def last_period(engine: sa.Engine) -> tuple[int, dict[str, int]]:
    """Return (number of the last closed period, where it ended); (0, {}) before the first."""
    query = sa.select(_period.c.seq, _period.c.end_bounds).order_by(_period.c.seq.desc()).limit(1)
    with engine.connect() as connection:
        row = connection.execute(query).first()
    return (int(row[0]), msgspec.json.decode(row[1], type=dict[str, int])) if row else (0, {})


def balances(engine: sa.Engine, prefix: str = "") -> dict[tuple[str, str], int]:
    """Return {(account, currency): grains on its normal side}, accounts whose code begins with `prefix`."""
    signed = sa.case((_entry.c.side == _account.c.normal, _entry.c.amount), else_=-_entry.c.amount)
    query = (
        sa.select(_account.c.code, _account.c.currency, sa.func.sum(signed))
        .join_from(_entry, _account, _entry.c.account_id == _account.c.id)
        .where(_account.c.code.startswith(prefix, autoescape=True))
        .group_by(_account.c.code, _account.c.currency)
    )
    with engine.connect() as connection:
        return {
            (str(code), str(currency)): int(grains) for code, currency, grains in connection.execute(query)
        }


def registry_now(engine: sa.Engine) -> int:
    """Return the registry's last number."""
    with engine.connect() as connection:
        return registry_seq(connection)


def splits_of(engine: sa.Engine, works: Collection[str], seq: int) -> dict[str, SplitSet]:
    """Return the splits in force at the registry's number `seq`; a work without one is its creator's.

    A work that was made from others gives the part that its licence states to the parties of each.
    """
    with engine.connect() as connection:
        adapted = ancestry(connection, works, upto_seq=seq)
        originals = {one.work for made in adapted.values() for one in made}
        own = _own_splits(connection, originals.union(works), seq)
    return {work: with_originals(work, own, adapted) for work in works if work in own}


def _own_splits(connection: sa.Connection, works: Collection[str], seq: int) -> dict[str, SplitSet]:
    result: dict[str, SplitSet] = {}
    for some in _chunks(sorted(works), IN_MAX):
        titles: dict[str, str] = {}
        query = sa.select(_work.c.id, _work.c.creator_id, _work.c.title).where(_work.c.id.in_(some))
        for work_id, creator, title in connection.execute(query):
            titles[work_id] = title
            # What is nobody's is never credited as paid; were it, its money would wait, and pay nobody.
            party = UNCLAIMED if creator == COMMONS else creator
            result[work_id] = SplitSet(0, ((party, WHOLE_PPM),), title)
        query = (
            sa.select(_split.c.work_id, _split.c.version, _split.c.party, _split.c.ppm)
            .where(_split.c.work_id.in_(some), _split.c.valid_from_seq <= seq)
            .order_by(_split.c.work_id, _split.c.version)
        )
        newest: dict[str, tuple[int, list[tuple[str, int]]]] = {}
        for work_id, version, party, ppm in connection.execute(query):
            if work_id not in newest or newest[work_id][0] < version:
                newest[work_id] = (int(version), [])
            newest[work_id][1].append((party, int(ppm)))
        for work_id, (version, parties) in newest.items():
            # Sorted here: the two engines sort text differently, and a statement must not.
            result[work_id] = SplitSet(version, tuple(sorted(parties)), titles.get(work_id, ""))
    return result


def claimed_works(engine: sa.Engine, seq: int) -> frozenset[str]:
    """Return the works on which a claim was open at the registry's number `seq`."""
    decided = sa.exists().where(_decision.c.claim_id == _claim.c.id, _decision.c.seq <= seq)
    query = sa.select(_claim.c.work_id).where(_claim.c.opened_seq <= seq, ~decided).distinct()
    with engine.connect() as connection:
        return frozenset(str(work) for work in connection.execute(query).scalars())


def creator_names(engine: sa.Engine, ids: Collection[str]) -> dict[str, str]:
    """Return {id: name} of creators; ids without a row are left out."""
    result: dict[str, str] = {}
    with engine.connect() as connection:
        for some in _chunks(sorted(ids), IN_MAX):
            found = connection.execute(
                sa.select(_creator.c.id, _creator.c.name).where(_creator.c.id.in_(some))
            )
            result.update({str(key): str(name) for key, name in found})
    return result


def registered_between(engine: sa.Engine, after_seq: int, upto_seq: int) -> dict[str, int]:
    """Return {creator: works they registered} with after_seq < the registry's number <= upto_seq."""
    query = (
        sa.select(_work.c.creator_id, sa.func.count())
        .where(_work.c.registered_seq > after_seq, _work.c.registered_seq <= upto_seq)
        .group_by(_work.c.creator_id)
    )
    with engine.connect() as connection:
        return {str(creator): int(count) for creator, count in connection.execute(query)}


def count_pending(engine: sa.Engine) -> int:
    """Return how many answers are metered and not yet attributed: they fall into a later period."""
    settled = sa.exists().where(_attributed.c.event_id == _event.c.id)
    with engine.connect() as connection:
        return int(
            connection.execute(sa.select(sa.func.count()).select_from(_event).where(~settled)).scalar_one()
        )


# Writing


def write(
    engine: sa.Engine,
    closing: Closing,
    *,
    after_seq: int,
    also: Callable[[sa.Connection], None] = lambda _: None,
) -> None:
    """Write a closing in one transaction. `after_seq` is the period that it was computed to follow.

    also: writes what stands beside it, in the same transaction.
    Raises Conflict (code "close_raced") when another period was closed meanwhile; nothing is then written.
    """
    try:
        with engine.begin() as connection:
            _insert(connection, _period, [_period_row(closing, after_seq + 1)])
            book(connection, closing.transfers, closing.currency)
            _insert(connection, _statement, (_statement_row(statement) for statement in closing.statements))
            told = sorted({move.transfer for statement in closing.statements for move in statement.moves})
            _insert(
                connection,
                _tables["reported_transfer"],
                ({"transfer_id": transfer, "period_label": closing.label} for transfer in told),
            )
            also(connection)
    except IntegrityError as error:
        if last_period(engine)[0] == after_seq:
            raise  # nobody was first: the rows themselves are wrong, and that is our mistake
        raise Conflict(
            f"another period was closed while {closing.label} was being computed",
            remedy="close it again: it will begin where that one ended",
            code="close_raced",
        ) from error


def book(connection: sa.Connection, transfers: Sequence[Transfer], currency: str) -> None:
    """Book transfers of one currency in a transaction. Raises IntegrityError for one that is booked."""
    accounts = _accounts(connection, transfers, currency)
    _insert(connection, _transfer, [_transfer_row(transfer) for transfer in transfers])
    _insert(
        connection,
        _entry,
        (
            {
                "transfer_id": transfer.id,
                "ord": place,
                "account_id": accounts[entry.account],
                "side": entry.side,
                "amount": entry.grains,
            }
            for transfer in transfers
            for place, entry in enumerate(transfer.entries)
        ),
    )


def _period_row(closing: Closing, seq: int) -> dict[str, object]:
    body = _PeriodBody(closing.basis, closing.totals, closing.charged_by_app)
    return {
        "label": closing.label,
        "seq": seq,
        "state": "closed",
        "currency": closing.currency,
        "start_bounds": canonical(closing.basis.start_bounds).decode(),
        "end_bounds": canonical(closing.basis.end_bounds).decode(),
        "closed_us": closing.closed_us,
        "totals": canonical(body).decode(),
        "manifest_sha256": closing.manifest_sha256,
    }


def _transfer_row(transfer: Transfer) -> dict[str, object]:
    return {
        "id": transfer.id,
        "kind": transfer.kind,
        "currency": transfer.currency,
        "at_us": transfer.at_us,
        "period_label": transfer.period,
        "ref": transfer.ref,
    }


def _statement_row(statement: Statement) -> dict[str, object]:
    return {
        "id": statement.id,
        "period_label": statement.period,
        "creator_id": statement.creator,
        "currency": statement.currency,
        "opening": statement.opening_grains,
        "earned": statement.earned_grains,
        "closing": statement.closing_grains,
        "lines_sha256": statement.lines_sha256,
        "body": canonical(statement).decode(),
    }


def _accounts(connection: sa.Connection, transfers: Sequence[Transfer], currency: str) -> dict[str, int]:
    codes = sorted({entry.account for transfer in transfers for entry in transfer.entries})
    known = _account_ids(connection, codes, currency)
    new = [
        {"code": code, "currency": currency, "normal": normal_side(code)}
        for code in codes
        if code not in known
    ]
    _insert(connection, _account, new)
    return known | _account_ids(connection, [str(row["code"]) for row in new], currency)


def _account_ids(connection: sa.Connection, codes: Sequence[str], currency: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in _chunks(codes, IN_MAX):
        query = sa.select(_account.c.code, _account.c.id)
        rows = connection.execute(query.where(_account.c.code.in_(some), _account.c.currency == currency))
        found.update({str(code): int(number) for code, number in rows})
    return found


def _insert(connection: sa.Connection, table: sa.Table, rows: Any) -> None:
    batch: list[dict[str, object]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_AT_ONCE:
            connection.execute(sa.insert(table), batch)
            batch = []
    if batch:
        connection.execute(sa.insert(table), batch)


# Reading what was written


def load_closing(engine: sa.Engine, label: str) -> Closing | None:
    """Return the stored closing of `label`, equal to the one that was written, or None."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(_period).where(_period.c.label == label)).first()
        if row is None:
            return None
        query = (
            sa.select(_entry.c.transfer_id, _account.c.code, _entry.c.side, _entry.c.amount)
            .join_from(_entry, _account, _entry.c.account_id == _account.c.id)
            .join(_transfer, _transfer.c.id == _entry.c.transfer_id)
            .where(_transfer.c.period_label == label)
            .order_by(_entry.c.transfer_id, _entry.c.ord)
        )
        entries: dict[str, list[Entry]] = {}
        for transfer_id, code, side, amount in connection.execute(query):
            entries.setdefault(transfer_id, []).append(Entry(code, side, int(amount)))
        booked = connection.execute(sa.select(_transfer).where(_transfer.c.period_label == label))
        transfers = [
            Transfer(one.id, one.kind, one.currency, one.at_us, label, one.ref, tuple(entries[one.id]))
            for one in booked
        ]
    body = msgspec.json.decode(row.totals, type=_PeriodBody)
    return Closing(
        label=label,
        currency=row.currency,
        closed_us=row.closed_us,
        basis=body.basis,
        totals=body.totals,
        charged_by_app=body.charged_by_app,
        # Sorted here, as they were made: the two engines sort text differently.
        transfers=tuple(sorted(transfers, key=lambda one: (one.kind, one.ref))),
        statements=tuple(sorted(statements(engine, label), key=lambda one: one.creator)),
        manifest_sha256=row.manifest_sha256,
    )


def statements(engine: sa.Engine, label: str) -> Iterator[Statement]:
    """Give the statements of a period one at a time."""
    query = sa.select(_statement.c.body).where(_statement.c.period_label == label).order_by(_statement.c.id)
    with engine.connect() as connection:
        for (body,) in connection.execute(query):
            yield msgspec.json.decode(body, type=Statement)


def statement(engine: sa.Engine, statement_id: str) -> Statement:
    """Return one statement. Raises NotFound."""
    with engine.connect() as connection:
        body = connection.execute(
            sa.select(_statement.c.body).where(_statement.c.id == statement_id)
        ).scalar()
    if body is None:
        raise NotFound(f"no statement {statement_id}", remedy="`endcredits statements list` shows them")
    return msgspec.json.decode(body, type=Statement)


def list_statements(engine: sa.Engine, *, label: str = "", creator: str = "") -> list[StatementSummary]:
    """Return statements of a period, of a creator, or all: newest period first, then by creator."""
    query = sa.select(_statement, _period.c.seq).join_from(
        _statement, _period, _statement.c.period_label == _period.c.label
    )
    if label:
        query = query.where(_statement.c.period_label == label)
    if creator:
        query = query.where(_statement.c.creator_id == creator)
    with engine.connect() as connection:
        rows = sorted(connection.execute(query), key=lambda row: (-row.seq, row.creator_id))
    return [
        StatementSummary(
            id=row.id,
            period=row.period_label,
            creator=row.creator_id,
            currency=row.currency,
            opening_grains=row.opening,
            earned_grains=row.earned,
            closing_grains=row.closing,
        )
        for row in rows
    ]


def list_periods(engine: sa.Engine) -> list[PeriodSummary]:
    """Return every closed period, newest first."""
    counts = sa.select(_statement.c.period_label, sa.func.count()).group_by(_statement.c.period_label)
    with engine.connect() as connection:
        made: Mapping[str, int] = {str(label): int(count) for label, count in connection.execute(counts)}
        rows = list(connection.execute(sa.select(_period).order_by(_period.c.seq.desc())))
    bodies = [msgspec.json.decode(row.totals, type=_PeriodBody) for row in rows]
    return [
        PeriodSummary(
            label=row.label,
            state=row.state,
            currency=row.currency,
            closed_us=row.closed_us,
            statements=made.get(row.label, 0),
            totals=body.totals,
            charged_by_app=body.charged_by_app,
            basis=body.basis,
            manifest_sha256=row.manifest_sha256,
        )
        for row, body in zip(rows, bodies, strict=True)
    ]


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
