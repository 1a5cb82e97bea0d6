"""Accounts, transfers, periods and statements in the store: written once, in one transaction, never changed.

A closing is computed without holding any lock, then written whole or not at all. Two closings at once cannot
both succeed: a period takes the next number of its sequence and begins where the one before it ended, and the
number is unique. Ids are hashes of what is booked, so writing a closing again is a no-op that returns the
stored one, and tables refuse UPDATE and DELETE.

Balances are sums of entries, computed here when asked; there is no second number that could disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from proxy.billing import booking_store
from proxy.billing.adapted import with_originals
from proxy.billing.closing_files import Headed, headed
from proxy.billing.kept import Glance, glanced, unpacked
from proxy.billing.ledger import Entry, Transfer
from proxy.billing.spill import Fetched
from proxy.billing.statement import UNCLAIMED, Closing, SplitSet, Statement, canonical
from proxy.billing.tables import AccountRow, EntryRow, PeriodRow, ReportedRow, StatementRow, TransferRow
from proxy.billing.totals import Basis, Totals
from proxy.catalogue.lookup_store import ancestry
from proxy.catalogue.tables import ClaimDecisionRow, ClaimRow, CreatorRow, SplitRow, WorkRow
from proxy.catalogue.works import COMMONS
from proxy.database import insert_rows, much_cache, registry_seq
from proxy.errors import Conflict, NotFound
from proxy.metering.store import AttributedRow, EventRow

STATEMENTS_AT_ONCE: Final = 200  # a busy creator's has a MB
TRANSFERS_READ: Final = 1_000
IN_MAX: Final = 5_000  # names in one statement; both engines take more than twice that
WHOLE_PPM: Final = 1_000_000
_PERIOD: Final = (
    "label", "seq", "state", "currency", "start_bounds", "end_bounds", "closed_us", "totals",
    "manifest_sha256",
)  # fmt: skip
_STATEMENT: Final = (
    "id", "period_label", "creator_id", "currency", "opening", "earned", "closing", "lines_sha256", "body",
)  # fmt: skip
_REPORTED: Final = ("transfer_id", "period_label")


_tables = SQLModel.metadata.tables
_account, _transfer, _entry, _period, _statement, _reported = (
    _tables[str(row.__tablename__)]
    for row in (AccountRow, TransferRow, EntryRow, PeriodRow, StatementRow, ReportedRow)
)
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
        query = sa.select(_work.c.id, _work.c.creator_id, _work.c.title).where(_work.c.id.in_(some))
        owners = {work_id: (creator, title) for work_id, creator, title in connection.execute(query).all()}
        query = (
            sa.select(_split.c.work_id, _split.c.version, _split.c.party, _split.c.ppm)
            .where(_split.c.work_id.in_(some), _split.c.valid_from_seq <= seq)
            .order_by(_split.c.work_id, _split.c.version)
        )
        newest: dict[str, tuple[int, list[tuple[str, int]]]] = {}
        for work_id, version, party, ppm in connection.execute(query).all():
            if work_id not in newest or newest[work_id][0] < version:
                newest[work_id] = (int(version), [])
            newest[work_id][1].append((party, int(ppm)))
        for work_id, (version, parties) in newest.items():
            # Sorted here: the two engines sort text differently, and a statement must not.
            title = owners.pop(work_id)[1] if work_id in owners else ""
            result[work_id] = SplitSet(version, tuple(sorted(parties)), title)
        for work_id, (creator, title) in owners.items():
            # What is nobody's is never credited as paid; were it, its money would wait, and pay nobody.
            party = UNCLAIMED if creator == COMMONS else creator
            result[work_id] = SplitSet(0, ((party, WHOLE_PPM),), title)
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
    folder: Path | None = None,
    also: Callable[[sa.Connection], None] = lambda _: None,
) -> None:
    """Write a closing in one transaction. `after_seq` is the period that it was computed to follow.

    folder: where its rows wait; None where the system keeps temporary files. also: writes what stands beside
    it, in the same transaction.
    Raises Conflict (code "close_raced") when another period was closed meanwhile: then nothing is written but
    the names of accounts, with nothing on them.
    """
    transfers = booking_store.prepared(engine, closing.transfers, closing.currency, folder)
    try:
        with engine.begin() as connection, much_cache(connection):
            insert_rows(connection, _period, _PERIOD, [_period_row(closing, after_seq + 1)])
            for rows in transfers:
                booking_store.insert(connection, rows)
            told: set[str] = set()
            said = (_statement_row(one, told) for one in headed(closing.statements))
            insert_rows(connection, _statement, _STATEMENT, said, at_once=STATEMENTS_AT_ONCE)
            insert_rows(
                connection, _reported, _REPORTED, ((transfer, closing.label) for transfer in sorted(told))
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


def _period_row(closing: Closing, seq: int) -> tuple[object, ...]:
    body = _PeriodBody(closing.basis, closing.totals, closing.charged_by_app)
    return (
        closing.label,
        seq,
        "closed",
        closing.currency,
        canonical(closing.basis.start_bounds).decode(),
        canonical(closing.basis.end_bounds).decode(),
        closing.closed_us,
        canonical(body).decode(),
        closing.manifest_sha256,
    )


def _statement_row(one: Headed, told: set[str]) -> tuple[object, ...]:
    """Return the values of _STATEMENT, and add to `told` the transfers that the statement tells of."""
    told.update(one.told)
    return *one[:-2], one.body.decode()


# Reading what was written


def load_closing(engine: sa.Engine, label: str) -> Closing | None:
    """Return the stored closing of `label`, equal to the one that was written, or None.

    Its transfers and statements are read as they are asked for.
    """
    with engine.connect() as connection:
        row = connection.execute(sa.select(_period).where(_period.c.label == label)).first()
    if row is None:
        return None
    body = msgspec.json.decode(row.totals, type=_PeriodBody)
    return Closing(
        label=label,
        currency=row.currency,
        closed_us=row.closed_us,
        basis=body.basis,
        totals=body.totals,
        charged_by_app=body.charged_by_app,
        transfers=Fetched(
            lambda: _transfer_ids(engine, label), lambda ids: _transfers(engine, ids), TRANSFERS_READ
        ),
        statements=Fetched(
            lambda: _statement_ids(engine, label), lambda ids: _statements(engine, ids), STATEMENTS_AT_ONCE
        ),
        manifest_sha256=row.manifest_sha256,
    )


# Sorted here and not there, as they were made: the two engines sort text differently.
def _transfer_ids(engine: sa.Engine, label: str) -> list[str]:
    query = sa.select(_transfer.c.kind, _transfer.c.ref, _transfer.c.id).where(
        _transfer.c.period_label == label
    )
    with engine.connect() as connection:
        return [row[2] for row in sorted(tuple(row) for row in connection.execute(query))]


def _statement_ids(engine: sa.Engine, label: str) -> list[str]:
    query = sa.select(_statement.c.creator_id, _statement.c.id).where(_statement.c.period_label == label)
    with engine.connect() as connection:
        return [row[1] for row in sorted(tuple(row) for row in connection.execute(query))]


def _transfers(engine: sa.Engine, ids: Sequence[str]) -> Iterator[Transfer]:
    query = (
        sa.select(_entry.c.transfer_id, _account.c.code, _entry.c.side, _entry.c.amount)
        .join_from(_entry, _account, _entry.c.account_id == _account.c.id)
        .where(_entry.c.transfer_id.in_(ids))
        .order_by(_entry.c.transfer_id, _entry.c.ord)
    )
    entries: dict[str, list[Entry]] = {}
    with engine.connect() as connection:
        for transfer_id, code, side, amount in connection.execute(query):
            entries.setdefault(transfer_id, []).append(Entry(code, side, int(amount)))
        rows = {
            row.id: row for row in connection.execute(sa.select(_transfer).where(_transfer.c.id.in_(ids)))
        }
    for one in map(rows.__getitem__, ids):
        yield Transfer(
            one.id, one.kind, one.currency, one.at_us, one.period_label, one.ref, tuple(entries[one.id])
        )


def _statements(engine: sa.Engine, ids: Sequence[str]) -> Iterator[Statement]:
    query = sa.select(_statement.c.id, _statement.c.body).where(_statement.c.id.in_(ids))
    with engine.connect() as connection:
        bodies = {row[0]: row[1] for row in connection.execute(query)}
    return (unpacked(bodies[one]) for one in ids)


def statements(engine: sa.Engine, label: str) -> Iterator[Statement]:
    """Give the statements of a period one at a time."""
    query = sa.select(_statement.c.body).where(_statement.c.period_label == label).order_by(_statement.c.id)
    with engine.connect() as connection:
        for (body,) in connection.execute(query):
            yield unpacked(body)


def statement(engine: sa.Engine, statement_id: str) -> Statement:
    """Return one statement. Raises NotFound."""
    return unpacked(_body(engine, statement_id))


def glance(engine: sa.Engine, statement_id: str, lines_max: int) -> Glance:
    """Return what a page shows of a statement. Raises NotFound."""
    return glanced(_body(engine, statement_id), lines_max)


def _body(engine: sa.Engine, statement_id: str) -> bytes:
    with engine.connect() as connection:
        body = connection.scalar(sa.select(_statement.c.body).where(_statement.c.id == statement_id))
    if body is None:
        raise NotFound(f"no statement {statement_id}", remedy="`endcredits statements list` shows them")
    return body


def list_statements(engine: sa.Engine, *, label: str = "", creator: str = "") -> list[StatementSummary]:
    """Return statements of a period, of a creator, or all: newest period first, then by creator."""
    names = ("id", "period_label", "creator_id", "currency", "opening", "earned", "closing")  # no body: MB
    told: sa.Select[Any] = sa.select(*(_statement.c[name] for name in names), _period.c.seq)
    query = told.join(_period, _statement.c.period_label == _period.c.label)
    query = query.where(_statement.c.period_label == label if label else sa.true())
    query = query.where(_statement.c.creator_id == creator if creator else sa.true())
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
