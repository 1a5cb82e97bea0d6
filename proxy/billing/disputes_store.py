"""Disputes in the store: the case as it was opened, what happened to it, and what each step booked.

A step is one transaction with its bookings, in a turn that no payout shares: what is held was owed when it
was taken. Every step done twice is done once. Whoever may not see a case is told that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.billing import disputes, ledger, movements_store, store
from proxy.billing.disputes import Case, Event, Hold, HoldWhat, Kind, Part, Side
from proxy.billing.statement import Statement, StatementLine, canonical, statement_id
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, REASON_CHARACTERS_MAX, checked_words
from proxy.catalogue.works import COMMONS
from proxy.clock import Clock
from proxy.database import money_turn
from proxy.errors import Conflict, NotFound

LISTED_MAX: Final = 500  # the newest; whoever has more open cases than that needs a person, not a list
ROWS_AT_ONCE: Final = 1_000  # one INSERT's parameters stay small on both engines
RELEASE: Final = (Part(to=disputes.HOLDER, ppm=1_000_000),)


class DisputeRow(SQLModel, table=True):
    """One case as it was opened, its body canonical JSON; append-only."""

    __tablename__: ClassVar[Any] = "dispute"
    id: str = Field(primary_key=True, sa_type=sa.String)
    statement_id: str = Field(sa_type=sa.String, foreign_key="statement.id", index=True)
    opened_us: int = Field(sa_type=sa.BigInteger)
    body: str = Field(sa_type=sa.Text)


class DisputePartyRow(SQLModel, table=True):
    """Whom a case concerns, and what it holds of theirs; append-only."""

    __tablename__: ClassVar[Any] = "dispute_party"
    dispute_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="dispute.id")
    creator_id: str = Field(primary_key=True, sa_type=sa.String, index=True)
    held: int = Field(sa_type=sa.BigInteger)


class DisputeLineRow(SQLModel, table=True):
    """Which lines of which statements a case is about; append-only."""

    __tablename__: ClassVar[Any] = "dispute_line"
    dispute_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="dispute.id")
    statement_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="statement.id", index=True)
    line: int = Field(primary_key=True, sa_type=sa.BigInteger)


class DisputeEventRow(SQLModel, table=True):
    """What happened to a case; append-only. parts: canonical JSON."""

    __tablename__: ClassVar[Any] = "dispute_event"
    dispute_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="dispute.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    kind: str = Field(sa_type=sa.String)
    side: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    said: str = Field(sa_type=sa.Text)
    parts: str = Field(sa_type=sa.Text)
    at_us: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_dispute, _party, _line, _event = (
    _tables[name] for name in ("dispute", "dispute_party", "dispute_line", "dispute_event")
)
_statement, _creator = _tables["statement"], _tables["creator"]
_transfer, _entry, _account = _tables["transfer"], _tables["entry"], _tables["account"]


class Disputes:
    """What is disputed, step by step. creator: the id of who asks, "" for an operator, named by `by`."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, creator: str = "", by: str = "operator") -> None:
        self._engine = engine
        self._clock = clock
        self._creator = creator
        self._side: Side = "creator" if creator else "operator"
        self._by = creator or checked_words(by, "name of who acts", NAME_OF_DECIDER_MAX)

    def open(
        self,
        statement: str,
        basis: str,
        *,
        answer_days: int,
        work: str = "",
        lines: Iterable[int] = (),
        hold: HoldWhat = "own",
    ) -> tuple[Case, bool]:
        """Return (the case, whether it is new), its money held.

        Raises NotFound for a statement that is not there or another's, BadRequest for lines that are not,
        Conflict for lines that another case keeps, Forbidden for a creator who wants others' money held.
        """
        disputes.may_open(self._side, hold)
        said = checked_words(basis, "reason", REASON_CHARACTERS_MAX)
        about = store.statement(self._engine, statement)
        if self._creator and about.creator != self._creator:
            raise NotFound(f"no statement {statement}", remedy="`endcredits statements list` shows them")
        places = disputes.chosen(about.lines, work=work, numbers=lines)
        case_id = disputes.case_id(self._side, self._by, statement, places, said, hold)
        with money_turn(self._engine) as connection:
            known = _found(connection, case_id)
            if known is not None:
                return known, False
            targets = {statement: (about, places)}
            if hold == "all":
                targets |= self._same_uses(connection, about, places)
            _refuse_kept(connection, targets)
            now_us = self._clock.now_us()
            case = Case(
                id=case_id,
                statement=statement,
                period=about.period,
                creator=about.creator,
                currency=about.currency,
                lines=places,
                basis=said,
                hold=hold,
                side=self._side,
                opened_by=self._by,
                opened_us=now_us,
                due_us=now_us + answer_days * disputes.DAY_US,
                holds=() if hold == "none" else self._holds(targets),
            )
            self._keep(connection, case, targets)
        return case, True

    def answer(self, case_id: str, text: str) -> tuple[Case, bool]:
        """Keep the other side's answer. Return (the case, whether it is new)."""
        said = checked_words(text, "answer", disputes.ANSWER_CHARACTERS_MAX)
        with money_turn(self._engine) as connection:
            case, events = self._load(connection, case_id)
            if not disputes.may_answer(case, events, side=self._side, by=self._by, said=said):
                return case, False
            self._happened(connection, case, events, "answered", said)
        return case, True

    def withdraw(self, case_id: str, reason: str) -> tuple[Case, bool]:
        """Take a case back: all that it holds is owed again to those it was taken from."""
        said = checked_words(reason, "reason", REASON_CHARACTERS_MAX)
        with money_turn(self._engine) as connection:
            case, events = self._load(connection, case_id)
            if not disputes.may_withdraw(case, events, side=self._side, by=self._by):
                return case, False
            self._end(connection, case, events, "withdrawn", said, RELEASE)
        return case, True

    def settle(self, case_id: str, parts: Iterable[Part], reason: str) -> tuple[Case, bool]:
        """Divide what a case holds, once. Return (the case, whether it was not settled so already).

        Raises Conflict as disputes.may_settle does, and NotFound for a creator who is not there.
        """
        said = checked_words(reason, "reason", REASON_CHARACTERS_MAX)
        wanted = disputes.checked_parts(parts)
        with money_turn(self._engine) as connection:
            case, events = self._load(connection, case_id)
            if self._creator:
                raise NotFound(f"no dispute {case_id} for you to settle", remedy="an operator settles it")
            if not disputes.may_settle(case, events, wanted, self._by):
                return case, False
            named = {part.to for part in wanted} - {disputes.HOLDER, disputes.COMMON}
            for name in sorted(named):
                query = sa.select(_creator.c.id).where(_creator.c.id == name, _creator.c.id != COMMONS)
                if connection.execute(query).first() is None:
                    raise NotFound(f"no creator {name}", remedy="`endcredits creators list` shows them")
            self._end(connection, case, events, "settled", said, wanted)
        return case, True

    def case(self, case_id: str) -> tuple[Case, list[Event]]:
        """Return one case with what happened to it, as who asks may see it. Raises NotFound."""
        with self._engine.connect() as connection:
            case, events = self._load(connection, case_id)
        return self._seen(case, events)

    def cases(
        self, *, open_only: bool = False, before: tuple[int, str] | None = None, limit: int = LISTED_MAX
    ) -> list[tuple[Case, list[Event]]]:
        """Return the cases that who asks may see, newest first; before: (opened_us, id) of one of them."""
        query = sa.select(_dispute.c.id)
        if self._creator:
            query = query.join(_party, _party.c.dispute_id == _dispute.c.id)
            query = query.where(_party.c.creator_id == self._creator)
        if open_only:
            over = sa.exists().where(
                _event.c.dispute_id == _dispute.c.id, _event.c.kind.in_(("withdrawn", "settled"))
            )
            query = query.where(~over)
        if before is not None:
            query = query.where(sa.tuple_(_dispute.c.opened_us, _dispute.c.id) < sa.tuple_(*before))
        query = query.order_by(_dispute.c.opened_us.desc(), _dispute.c.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            names = connection.execute(query).scalars().all()
            return [self._seen(*self._load(connection, str(name))) for name in names]

    def _seen(self, case: Case, events: list[Event]) -> tuple[Case, list[Event]]:
        if not self._creator:
            return case, events
        shown = [
            msgspec.structs.replace(one, by="operator") if one.side == "operator" else one for one in events
        ]
        return disputes.seen_by(case, self._creator), shown

    def _load(self, connection: sa.Connection, case_id: str) -> tuple[Case, list[Event]]:
        case = _found(connection, case_id)
        if case is None or (self._creator and not disputes.concerns(case, self._creator)):
            raise NotFound(f"no dispute {case_id}", remedy="`endcredits disputes list` shows them")
        return case, _events(connection, case_id)

    def _same_uses(
        self, connection: sa.Connection, about: Statement, places: Sequence[int]
    ) -> dict[str, tuple[Statement, tuple[int, ...]]]:
        """The lines of other creators' statements that the same uses of the same works paid."""
        uses = {disputes.use_of(about.lines[place - 1]) for place in places}
        query = (
            sa.select(_account.c.code)
            .join_from(_transfer, _entry, _entry.c.transfer_id == _transfer.c.id)
            .join(_account, _account.c.id == _entry.c.account_id)
            .where(
                _transfer.c.period_label == about.period,
                _transfer.c.ref.in_(sorted({use[0] for use in uses})),
                _account.c.code.startswith(ledger.payee(""), autoescape=True),
            )
            .distinct()
        )
        paid = {str(code).removeprefix(ledger.payee("")) for code in connection.execute(query).scalars()}
        found: dict[str, tuple[Statement, tuple[int, ...]]] = {}
        for creator in sorted(paid - {about.creator}):
            other = store.statement(self._engine, statement_id(about.period, creator, about.currency))
            same = tuple(place for place, line in enumerate(other.lines, 1) if disputes.use_of(line) in uses)
            if same:
                found[other.id] = (other, same)
        return found

    def _holds(self, targets: dict[str, tuple[Statement, tuple[int, ...]]]) -> tuple[Hold, ...]:
        made: list[Hold] = []
        for statement, places in targets.values():
            account = ledger.payee(statement.creator)
            owed = store.balances(self._engine, account).get((account, statement.currency), 0)
            made.append(disputes.hold(statement.creator, _at(statement, places), owed))
        return tuple(sorted(made, key=lambda one: one.creator))

    def _keep(
        self, connection: sa.Connection, case: Case, targets: dict[str, tuple[Statement, tuple[int, ...]]]
    ) -> None:
        row = {"id": case.id, "statement_id": case.statement, "opened_us": case.opened_us}
        connection.execute(sa.insert(_dispute), [row | {"body": canonical(case).decode()}])
        concerned = {case.creator: 0} | {one.creator: one.held_grains for one in case.holds}
        parties = [
            {"dispute_id": case.id, "creator_id": who, "held": grains} for who, grains in concerned.items()
        ]
        connection.execute(sa.insert(_party), parties)
        rows = [
            {"dispute_id": case.id, "statement_id": name, "line": place}
            for name, (_, places) in targets.items()
            for place in places
        ]
        for start in range(0, len(rows), ROWS_AT_ONCE):
            connection.execute(sa.insert(_line), rows[start : start + ROWS_AT_ONCE])
        self._book(connection, case, disputes.held(case), case.basis)
        self._happened(connection, case, (), "opened", case.basis)

    def _end(
        self,
        connection: sa.Connection,
        case: Case,
        events: Sequence[Event],
        kind: Kind,
        said: str,
        parts: tuple[Part, ...],
    ) -> None:
        self._book(connection, case, disputes.let_go(case, parts, self._clock.now_us()), said)
        self._happened(connection, case, events, kind, said, parts)

    def _book(
        self, connection: sa.Connection, case: Case, transfers: list[ledger.Transfer], reason: str
    ) -> None:
        movements_store.book_noted(
            connection, transfers, currency=case.currency, corrects=case.statement, reason=reason
        )

    def _happened(
        self,
        connection: sa.Connection,
        case: Case,
        events: Sequence[Event],
        kind: Kind,
        said: str,
        parts: tuple[Part, ...] = (),
    ) -> None:
        row = {
            "dispute_id": case.id,
            "seq": len(events) + 1,
            "kind": kind,
            "side": self._side,
            "by": self._by,
            "said": said,
            "parts": canonical(parts).decode(),
            "at_us": self._clock.now_us(),
        }
        connection.execute(sa.insert(_event), [row])


def _at(statement: Statement, places: Iterable[int]) -> list[StatementLine]:
    return [statement.lines[place - 1] for place in places]


def _found(connection: sa.Connection, case_id: str) -> Case | None:
    body = connection.execute(sa.select(_dispute.c.body).where(_dispute.c.id == case_id)).scalar()
    return None if body is None else msgspec.json.decode(body, type=Case)


def _events(connection: sa.Connection, case_id: str) -> list[Event]:
    query = sa.select(_event).where(_event.c.dispute_id == case_id).order_by(_event.c.seq)
    return [
        Event(
            seq=row.seq,
            kind=row.kind,
            side=row.side,
            by=row.by,
            said=row.said,
            at_us=row.at_us,
            parts=msgspec.json.decode(row.parts, type=tuple[Part, ...]),
        )
        for row in connection.execute(query)
    ]


def _refuse_kept(connection: sa.Connection, targets: dict[str, tuple[Statement, tuple[int, ...]]]) -> None:
    """Raise Conflict when another case keeps one of these lines."""
    query = sa.select(_line).where(_line.c.statement_id.in_(sorted(targets)))
    cases: dict[str, tuple[str, int]] = {}
    for row in connection.execute(query):
        if row.line in targets[row.statement_id][1]:
            cases.setdefault(row.dispute_id, (row.statement_id, int(row.line)))
    for case_id, (statement, place) in sorted(cases.items()):
        events = _events(connection, case_id)
        if disputes.keeps_lines(events):
            over = disputes.is_over(events)
            raise Conflict(
                f"line {place} of {statement} is in {case_id}, which is {disputes.state_of(events)}",
                remedy="correct it by an adjustment" if over else f"answer and settle {case_id}",
                code="dispute_settled" if over else "dispute_open",
            )
