"""Asking a live store whether the invariants hold: sums inside the engine, everything else as it streams by.

Read only, and of one moment: one transaction sees the books as they were when it began, while answers are
metered and periods closed. What stays in memory is one creator's name with a balance each, and one statement
or payout batch at a time; on SQLite the write-ahead file can't shrink meanwhile, so an audit of a large store
belongs to quiet hours.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from proxy.billing import audit_trimmed_store, ledger
from proxy.billing.audit_queries_store import BROKEN, COUNTED, HISTORY, INTEGERS, SUMMED
from proxy.billing.invariants import (
    Booked,
    Checked,
    Counted,
    Period,
    Row,
    Tally,
    batch_findings,
    booked_findings,
    counted_findings,
    period_findings,
    statement_findings,
)
from proxy.billing.ledger import transfer_id
from proxy.billing.payouts import Batch, Event
from proxy.billing.statement import canonical
from proxy.billing.totals import Basis, Totals
from proxy.errors import Unavailable
from proxy.receipts import store as log

STATEMENTS_AT_ONCE: Final = 200
TRANSFERS_AT_ONCE: Final = 1_000
PAYMENTS_AT_ONCE: Final = 1_000
_HALF: Final = 1 << 32  # sums are asked for in halves: SQLite's own overflows where the total would still fit
_PAYOUT_KINDS: Final = ("payout", "payout_tax", "payout_settled", "payout_return", "payout_tax_return")
Progress = Callable[[int, int], None]


class _Body(msgspec.Struct, frozen=True):
    basis: Basis
    totals: Totals
    charged_by_app: dict[str, int]


def audit(engine: sa.Engine, *, progress: Progress = lambda _done, _all: None) -> list[Checked]:
    """Check every invariant on the store as it is now; progress: told (periods done, periods).

    Raises Unavailable when the store is away.
    """
    tally = Tally()
    try:
        with snapshot(engine) as connection:
            _rows(connection, tally)
            _sums(connection, tally)
            _kept(connection, tally)
            closings, last = _periods(connection, tally, progress)
            _balances(connection, tally, closings)
            _claims(connection, tally, last.basis.registry_seq if last else 0)
            _batches(connection, tally)
            _logged(connection, tally)
    except OperationalError as error:
        raise Unavailable(
            f"the store went away while it was audited: {error.__class__.__name__}",
            remedy="see that the store answers and run the audit again; it changes nothing",
            code="store_unavailable",
        ) from error
    return tally.results()


@contextlib.contextmanager
def snapshot(engine: sa.Engine) -> Generator[sa.Connection]:
    """Give a connection that sees one moment and can't write."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
            try:
                connection.exec_driver_sql("BEGIN")
                yield connection
            finally:
                connection.rollback()
                connection.exec_driver_sql("PRAGMA query_only = OFF")
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection
            connection.rollback()


def _ask(connection: sa.Connection, statement: str, **asked: object) -> Iterator[Sequence[Any]]:
    """Yield rows some at a time: a list of millions stays with the engine."""
    streamed = connection.execution_options(stream_results=True, max_row_buffer=2_000)
    with streamed.execute(sa.text(statement), asked) as found:
        for row in found:
            yield tuple(row)


def _one(connection: sa.Connection, statement: str, **asked: object) -> Sequence[Any]:
    return next(iter(list(_ask(connection, statement, **asked))))


def _rows(connection: sa.Connection, tally: Tally) -> None:
    """Rows that break an invariant by themselves."""
    for invariant, statement in COUNTED:
        tally.looked(invariant, int(_one(connection, statement)[0]))
    for invariant, says, statement in BROKEN:
        for row in _ask(connection, statement):
            tally.found(invariant, says.format(*row))


def _sums(connection: sa.Connection, tally: Tally) -> None:
    """Sums over whole tables that must be 0."""
    for invariant, says, statement in SUMMED:
        for *names, high, low in _ask(connection, statement):
            if excess := _whole(high, low):
                tally.found(invariant, says.format(*names, excess))


def _whole(high: Any, low: Any) -> int:
    return int(high or 0) * _HALF + int(low or 0)


def _kept(connection: sa.Connection, tally: Tally) -> None:
    """What keeps history from being changed, and amounts from being anything but integers."""
    if connection.dialect.name == "sqlite":
        there = {row[0] for row in _ask(connection, "SELECT name FROM sqlite_master WHERE type = 'trigger'")}
        guards = ("no_update", "no_delete", "no_replace")
        for table, column in INTEGERS:
            tally.looked("I20")
            wrong = f"SELECT count(*) FROM {table} WHERE typeof({column}) NOT IN ('integer', 'null')"  # noqa: S608  our names
            if count := int(_one(connection, wrong)[0]):
                tally.found("I20", f"{table}.{column}: {count} values are no integers")
    else:
        enabled = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'"
        there = {row[0] for row in _ask(connection, enabled)}
        guards = ("no_change", "no_truncate")
        types = "SELECT table_name, column_name, data_type FROM information_schema.columns"
        kinds = {
            (row[0], row[1]): row[2] for row in _ask(connection, f"{types} WHERE table_schema = 'public'")
        }
        for table, column in INTEGERS:
            tally.looked("I20")
            if (kind := kinds.get((table, column))) != "bigint":
                tally.found("I20", f"{table}.{column} is {kind}, not bigint")
    for table, guard in itertools.product(HISTORY, guards):
        tally.looked("I10")
        if f"{table}_{guard}" not in there:
            tally.found("I10", f"{table} can be changed: its trigger {table}_{guard} is gone")


# Periods and their statements


def _periods(
    connection: sa.Connection, tally: Tally, progress: Progress
) -> tuple[dict[tuple[str, str], int], Period | None]:
    """Check periods with their statements.

    Return {(creator, currency): what the last one closed with}, and the last period that could be read.
    """
    columns = "label, seq, currency, start_bounds, end_bounds, totals, manifest_sha256"
    rows = list(_ask(connection, f"SELECT {columns} FROM period ORDER BY seq"))  # noqa: S608  our names
    marks = {str(row[0]): int(row[1]) for row in _ask(connection, "SELECT id, next_index FROM shard")}
    closings: dict[tuple[str, str], int] = {}
    before: Period | None = None
    left = audit_trimmed_store.trimmed(connection, tally)
    for done, row in enumerate(rows):
        progress(done, len(rows))
        try:
            period = _period(row)
        except msgspec.MsgspecError as error:
            tally.found("I10", f"period {row[0]} can't be read: {error}")
            continue
        tally.looked("I5")
        tally.take(period_findings(period, before))
        tally.take(
            (
                "I6",
                f"period {period.label} ends at {end} of {shard}, which is carried up to {marks.get(shard)}",
            )
            for shard, end in sorted(period.end_bounds.items())
            if end > marks.get(shard, 0)
        )
        tally.take(booked_findings(period, _booked(connection, period)))
        tally.looked("I7")
        gone = left.get(period.label)
        counts = audit_trimmed_store.counted(connection, tally, period, gone) if gone else None
        tally.take(counted_findings(period, counts or _counted(connection, period)))
        _statements(connection, tally, period, closings)
        before = period
    progress(len(rows), len(rows))
    return closings, before


def _period(row: Sequence[Any]) -> Period:
    label, seq, currency, start, end, body, manifest = row
    read = msgspec.json.decode(body, type=_Body)
    bounds = dict[str, int]
    return Period(
        label,
        int(seq),
        currency,
        msgspec.json.decode(start, type=bounds),
        msgspec.json.decode(end, type=bounds),
        read.basis,
        read.totals,
        read.charged_by_app,
        manifest,
    )


_BOOKED: Final = """
SELECT CASE WHEN a.code LIKE 'liab:payee:%' THEN 'payee'
  WHEN a.code LIKE 'liab:escrow:unclaimed:%' THEN 'unclaimed'
  WHEN a.code LIKE 'liab:escrow:claimed:%' THEN 'claimed'
  WHEN a.code LIKE 'income:platform:%' THEN 'platform'
  WHEN a.code LIKE 'liab:work:%' THEN 'work' ELSE a.code END AS what, e.side,
  SUM(e.amount / 4294967296), SUM(e.amount % 4294967296)
FROM transfer t JOIN entry e ON e.transfer_id = t.id JOIN account a ON a.id = e.account_id
WHERE t.period_label = :label GROUP BY what, e.side"""
_ON_THE_WAY: Final = """
SELECT a.code, SUM(CASE e.side WHEN 'C' THEN e.amount ELSE -e.amount END)
FROM transfer t JOIN entry e ON e.transfer_id = t.id JOIN account a ON a.id = e.account_id
WHERE t.period_label = :label AND (a.code LIKE 'liab:work:%' OR a.code LIKE 'liab:pool:%')
GROUP BY a.code HAVING SUM(CASE e.side WHEN 'C' THEN e.amount ELSE -e.amount END) <> 0"""


def _booked(connection: sa.Connection, period: Period) -> Booked:
    sums = {
        (str(what), str(side)): _whole(high, low)
        for what, side, high, low in _ask(connection, _BOOKED, label=period.label)
    }

    def net(what: str) -> int:
        return sums.get((what, "C"), 0) - sums.get((what, "D"), 0)

    codes = sorted({what for what, _ in sums if ":" in what})
    owed, common = ledger.receivable(""), ledger.common(period.label, "")
    return Booked(
        receivable={code.removeprefix(owed): -net(code) for code in codes if code.startswith(owed)},
        common={code.removeprefix(common): net(code) for code in codes if code.startswith(common)},
        payees=net("payee"),
        unclaimed=sums.get(("unclaimed", "C"), 0),
        claimed=sums.get(("claimed", "C"), 0),
        released=sums.get(("claimed", "D"), 0) + sums.get(("unclaimed", "D"), 0),
        platform=net("platform"),
        on_the_way={str(c): int(g) for c, g in _ask(connection, _ON_THE_WAY, label=period.label)},
    )


_ANSWERS: Final = """
SELECT e.outcome, a.reason, COUNT(*), SUM(CASE WHEN e.estimated THEN 1 ELSE 0 END), SUM(a.unattributed_ppm),
  MIN(e.occurred_us), MAX(e.occurred_us)
FROM attributed a JOIN event e ON e.id = a.event_id
WHERE a.shard_id = :shard AND a.idx >= :start AND a.idx < :bound GROUP BY e.outcome, a.reason"""
_LINE_PPM: Final = """
SELECT l.verdict, SUM(l.ppm) FROM attributed a JOIN event_line l ON l.event_id = a.event_id
WHERE a.shard_id = :shard AND a.idx >= :start AND a.idx < :bound GROUP BY l.verdict"""


def _counted(connection: sa.Connection, period: Period) -> Counted:
    outcomes: dict[str, int] = {}
    unscored: dict[str, int] = {}
    line_ppm: dict[str, int] = {}
    estimated = unattributed = last_us = 0
    first: list[int] = []
    for shard, bound in sorted(period.end_bounds.items()):
        asked = {"shard": shard, "start": period.start_bounds.get(shard, 0), "bound": bound}
        for outcome, reason, count, guessed, ppm, since, upto in _ask(connection, _ANSWERS, **asked):
            outcomes[outcome] = outcomes.get(outcome, 0) + int(count)
            if reason:
                unscored[reason] = unscored.get(reason, 0) + int(count)
            estimated, unattributed = estimated + int(guessed), unattributed + int(ppm)
            first.append(int(since))
            last_us = max(last_us, int(upto))
        for verdict, ppm in _ask(connection, _LINE_PPM, **asked):
            line_ppm[verdict] = line_ppm.get(verdict, 0) + int(ppm)
    events = sum(outcomes.values())
    return Counted(
        events, estimated, outcomes, unscored, unattributed, line_ppm, min(first, default=0), last_us
    )


_EARNED: Final = """
SELECT a.code, SUM(CASE e.side WHEN 'C' THEN e.amount ELSE -e.amount END)
FROM transfer t JOIN entry e ON e.transfer_id = t.id JOIN account a ON a.id = e.account_id
WHERE t.period_label = :label AND a.code LIKE 'liab:payee:%' GROUP BY a.code"""
_MOVES: Final = """
SELECT a.code, r.transfer_id, SUM(CASE e.side WHEN 'C' THEN e.amount ELSE -e.amount END)
FROM reported_transfer r JOIN entry e ON e.transfer_id = r.transfer_id JOIN account a ON a.id = e.account_id
WHERE r.period_label = :label AND a.code LIKE 'liab:payee:%' GROUP BY a.code, r.transfer_id"""


def _statements(
    connection: sa.Connection, tally: Tally, period: Period, closings: dict[tuple[str, str], int]
) -> None:
    payee = ledger.payee("")
    earned = {
        str(code).removeprefix(payee): int(grains)
        for code, grains in _ask(connection, _EARNED, label=period.label)
    }
    moves: dict[str, dict[str, int]] = {}
    for code, transfer, grains in _ask(connection, _MOVES, label=period.label):
        moves.setdefault(str(code).removeprefix(payee), {})[str(transfer)] = int(grains)
    manifest = _manifest(connection, period)
    asked = "SELECT creator_id, id FROM statement WHERE period_label = :label"
    named = [(str(row[0]), str(row[1])) for row in _ask(connection, asked, label=period.label)]
    for some in _chunks([id_ for _, id_ in sorted(named)], STATEMENTS_AT_ONCE):
        for row in _fetched(connection, _STATEMENT, some):
            id_, label, creator, currency, opening, gained, closing, lines, body = row
            key = (str(creator), str(currency))
            tally.looked("I8")
            read = Row(
                id_,
                label,
                creator,
                currency,
                (int(opening), int(gained), int(closing)),
                lines,
                body.encode(),
                closings.get(key, 0),
                earned.pop(creator, 0),
                moves.pop(creator, {}),
            )
            tally.take(statement_findings(read, period))
            closings[key] = int(closing)
            manifest.update(canonical([id_, int(opening), lines]))
            with contextlib.suppress(msgspec.MsgspecError):  # told above
                if told := msgspec.json.decode(body, type=_Moves).moves:
                    manifest.update(canonical(told))
    for creator in sorted({who for who, grains in earned.items() if grains} | moves.keys()):
        tally.found("I8", f"period {period.label} has no statement for {creator}, whose balance it moved")
    tally.looked("I10")
    if manifest.hexdigest() != period.manifest_sha256:
        tally.found("I10", f"period {period.label} is not what its manifest was made of")


class _Moves(msgspec.Struct, frozen=True):
    moves: tuple[msgspec.Raw, ...] = ()


_STATEMENT: Final = (
    "SELECT id, period_label, creator_id, currency, opening, earned, closing, lines_sha256, body "
    "FROM statement WHERE id IN :ids"
)
_ENTRIES: Final = (
    "SELECT e.transfer_id, a.code, e.side, e.amount FROM entry e JOIN account a ON a.id = e.account_id "
    "WHERE e.transfer_id IN :ids ORDER BY e.transfer_id, e.ord"
)
# A closing books in this order, and by name within it; a work is divided or held.
_PLACE: Final[Mapping[str, int]] = {"charge": 0, "pool": 1, "split": 2, "claim": 2, "release": 3}


def _manifest(connection: sa.Connection, period: Period) -> Any:
    """Return the digest of a period as far as its statements, made again from what is stored."""
    head = {"period": period.label, "basis": period.basis, "totals": period.totals}
    digest = hashlib.sha256(canonical(head))
    asked = """
    SELECT t.kind, t.ref, a.code, t.id, t.currency FROM transfer t
    LEFT JOIN entry e ON e.transfer_id = t.id AND e.ord = 0 LEFT JOIN account a ON a.id = e.account_id
    WHERE t.period_label = :label"""
    rows = _ask(connection, asked, label=period.label)
    booked = sorted((_PLACE.get(kind, 9), ref, code or "", id_, held) for kind, ref, code, id_, held in rows)
    for some in _chunks(booked, TRANSFERS_AT_ONCE):
        entries: dict[str, list[dict[str, object]]] = {}
        for id_, code, side, amount in _asked(connection, _ENTRIES, [one[3] for one in some]):
            entries.setdefault(id_, []).append({"account": code, "side": side, "grains": int(amount)})
        for *_, id_, currency in some:
            digest.update(canonical([id_, currency, entries.get(id_, [])]))
    return digest


def _asked(connection: sa.Connection, statement: str, ids: Sequence[str]) -> list[Sequence[Any]]:
    query = sa.text(statement).bindparams(sa.bindparam("ids", expanding=True))
    return [tuple(row) for row in connection.execute(query, {"ids": list(ids)})]


def _fetched(connection: sa.Connection, statement: str, ids: Sequence[str]) -> Iterator[Sequence[Any]]:
    """Yield one row an id, in the order of the ids; its first column is the id."""
    found = {row[0]: row for row in _asked(connection, statement, ids)}
    return (found[one] for one in ids)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# Balances, claims, payouts


_TOLD: Final = """
SELECT a.code, a.currency, SUM(CASE e.side WHEN 'C' THEN e.amount ELSE -e.amount END)
FROM entry e JOIN account a ON a.id = e.account_id JOIN transfer t ON t.id = e.transfer_id
WHERE a.code LIKE 'liab:payee:%'
  AND (t.period_label <> '' OR EXISTS (SELECT 1 FROM reported_transfer r WHERE r.transfer_id = t.id))
GROUP BY a.code, a.currency"""


def _balances(connection: sa.Connection, tally: Tally, closings: dict[tuple[str, str], int]) -> None:
    """Whether what each creator's last statement closed with is what the ledger holds of what was told."""
    for code, currency, grains in _ask(connection, _TOLD):
        creator = str(code).removeprefix(ledger.payee(""))
        tally.looked("I17")
        said = closings.pop((creator, str(currency)), 0)
        if said != int(grains):
            tally.found(
                "I17", f"{creator}'s last statement closed with {said} {currency}, the ledger has {grains}"
            )
    for (creator, currency), grains in sorted(closings.items()):
        if grains:
            tally.found(
                "I17", f"{creator}'s last statement closed with {grains} {currency}, the ledger has 0"
            )


_HELD: Final = """
SELECT a.code, SUM(CASE e.side WHEN 'C' THEN e.amount ELSE -e.amount END)
FROM entry e JOIN account a ON a.id = e.account_id
WHERE a.code LIKE 'liab:escrow:claimed:%' GROUP BY a.code"""
_CLAIMED: Final = """
SELECT DISTINCT c.work_id FROM claim c WHERE c.opened_seq <= :seq
  AND NOT EXISTS (SELECT 1 FROM claim_decision d WHERE d.claim_id = c.id AND d.seq <= :seq)"""


def _claims(connection: sa.Connection, tally: Tally, seq: int) -> None:
    """Whether claims hold money of works alone on which one was open at the last close, at `seq`."""
    is_open = {str(row[0]) for row in _ask(connection, _CLAIMED, seq=seq)}
    for code, grains in _ask(connection, _HELD):
        tally.looked("I12")
        if int(grains) < 0:
            tally.found("I12", f"{code} let go {-int(grains)} grains more than it held")
        elif int(grains) and ledger.claim_of(str(code))[0] not in is_open:
            tally.found("I12", f"{code} holds {grains} grains, and no claim was open at the last close")


_EVENTS: Final = (
    "SELECT seq, kind, payout_id, detail, by, at_us FROM payout_event WHERE batch_id = :id ORDER BY seq"
)


def _batches(connection: sa.Connection, tally: Tally) -> None:
    """Whether each batch's payments are booked as its events say."""
    for id_, body in _ask(connection, "SELECT id, body FROM payout_batch ORDER BY id"):
        tally.looked("I11")
        try:
            batch = msgspec.json.decode(body, type=Batch)
        except msgspec.MsgspecError as error:
            tally.found("I11", f"batch {id_} can't be read: {error}")
            continue
        events = [
            Event(seq=int(seq), kind=kind, payment=payment, detail=detail, by=by, at_us=int(at_us))
            for seq, kind, payment, detail, by, at_us in _ask(connection, _EVENTS, id=id_)
        ]
        kept = {str(row[0]) for row in _ask(connection, "SELECT id FROM payout WHERE batch_id = :id", id=id_)}
        if kept != {one.id for one in batch.payments}:
            tally.found("I11", f"batch {id_} does not pay those whom it is kept for")
        tally.take(batch_findings(batch, events, _paid(connection, [one.id for one in batch.payments])))


def _logged(connection: sa.Connection, tally: Tally) -> None:
    """The transparency log. That it continues what it was, only those can tell who kept a checkpoint."""
    entries, found = log.differences(connection)
    tally.looked("I15", entries)
    tally.take(("I15", what) for what in found)


def _paid(connection: sa.Connection, payments: Iterable[str]) -> dict[str, int]:
    """Return {kind|payment: grains booked}."""
    paid: dict[str, int] = {}
    for some in _chunks(list(payments), PAYMENTS_AT_ONCE):
        named = {transfer_id(kind, one): f"{kind}|{one}" for one in some for kind in _PAYOUT_KINDS}
        statement = "SELECT transfer_id, amount FROM entry WHERE side = 'D' AND transfer_id IN :ids"
        for id_, amount in _asked(connection, statement, list(named)):
            paid[named[id_]] = paid.get(named[id_], 0) + int(amount)
    return paid
