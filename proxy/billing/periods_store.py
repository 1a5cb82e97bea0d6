"""Comment windows and comments in the store, and what of the money owed is of periods that are still drafts.

A window is written in the transaction of its close, and never again. Comments are rows in their order; nobody
changes or takes out what was said.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, SQLModel

from proxy.billing import periods, store
from proxy.billing.periods import Comment
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, checked_words
from proxy.clock import Clock
from proxy.errors import Conflict, NotFound

LISTED_MAX: Final = 500  # statements with comments in one answer, the newest first


class PeriodWindowRow(SQLModel, table=True):
    """Until when creators may comment on a period; append-only."""

    __tablename__: ClassVar[Any] = "period_window"
    period_label: str = Field(primary_key=True, sa_type=sa.String, foreign_key="period.label")
    until_us: int = Field(sa_type=sa.BigInteger)


class StatementCommentRow(SQLModel, table=True):
    """What a creator, or an operator in answer, said about a statement; append-only."""

    __tablename__: ClassVar[Any] = "statement_comment"
    statement_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="statement.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    side: str = Field(sa_type=sa.String)
    text: str = Field(sa_type=sa.Text)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_window, _comment = _tables["period_window"], _tables["statement_comment"]
_statement = _tables["statement"]


def open_window(connection: sa.Connection, label: str, until_us: int) -> None:
    """Write down a new period's window, in the transaction that closes it."""
    connection.execute(sa.insert(_window), [{"period_label": label, "until_us": until_us}])


def windows(engine: sa.Engine) -> dict[str, int]:
    """Return {label: until when creators may comment} of the periods that have a window."""
    with engine.connect() as connection:
        return {str(label): int(until_us) for label, until_us in connection.execute(sa.select(_window))}


def until(engine: sa.Engine, label: str) -> int:
    """Return until when creators may comment on a period, 0 for one that promised no window."""
    with engine.connect() as connection:
        return _until(connection, label)


def not_final(engine: sa.Engine, now_us: int, creators: Collection[str] = ()) -> dict[tuple[str, str], int]:
    """Return {(creator, currency): grains} earned in periods that are still drafts: not to be paid yet.

    creators: only these, () for all.
    """
    query = (
        sa.select(_statement.c.creator_id, _statement.c.currency, sa.func.sum(_statement.c.earned))
        .join_from(_statement, _window, _statement.c.period_label == _window.c.period_label)
        .where(_window.c.until_us > now_us)
        .group_by(_statement.c.creator_id, _statement.c.currency)
    )
    if creators:
        query = query.where(_statement.c.creator_id.in_(sorted(creators)))
    with engine.connect() as connection:
        return {
            (str(who), str(currency)): int(grains)
            for who, currency, grains in connection.execute(query)
            if grains
        }


def periods_of(engine: sa.Engine, statements: Collection[str]) -> dict[str, str]:
    """Return {statement: its period}, of those that are statements; at most LISTED_MAX of them."""
    query = sa.select(_statement.c.id, _statement.c.period_label).where(_statement.c.id.in_(statements))
    with engine.connect() as connection:
        return {row.id: row.period_label for row in connection.execute(query)}


class Comments:
    """What is said about statements. creator: whose id asks, "" for an operator, who is named by `by`."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, creator: str = "", by: str = "operator") -> None:
        self._engine = engine
        self._clock = clock
        self._creator = creator
        self._by = creator or checked_words(by, "name of who answers", NAME_OF_DECIDER_MAX)

    def of(self, statement_id: str) -> list[Comment]:
        """Return what was said about a statement, oldest first. Raises NotFound, also for another's."""
        with self._engine.connect() as connection:
            self._label(connection, statement_id)
            return _said(connection, statement_id)

    def say(self, statement_id: str, text: str) -> tuple[Comment, bool]:
        """Keep a creator's comment, or an operator's answer. Return (what stands last, whether it is new).

        Raises NotFound for a statement that is not there or another's, Conflict as `periods.next_comment`.
        """
        try:
            with self._engine.begin() as connection:
                label = self._label(connection, statement_id)
                before = _said(connection, statement_id)
                made = periods.next_comment(
                    before,
                    statement=statement_id,
                    side="creator" if self._creator else "operator",
                    text=text,
                    by=self._by,
                    now_us=self._clock.now_us(),
                    until_us=_until(connection, label),
                )
                if made is None:
                    return before[-1], False
                row = {
                    "statement_id": made.statement,
                    "seq": made.seq,
                    "side": made.side,
                    "text": made.text,
                    "by": made.by,
                    "at_us": made.at_us,
                }
                connection.execute(sa.insert(_comment), [row])
        except IntegrityError as error:
            raise Conflict(
                f"somebody else said something about {statement_id} just now",
                remedy="read it, then say it again",
                code="comment_raced",
            ) from error
        return made, True

    def waiting(self, *, after: tuple[int, str] | None = None, limit: int = LISTED_MAX) -> list[Comment]:
        """Return the last word of every statement on which a creator had it, oldest first; for operators.

        after: (at_us, statement) of one of them; what was answered since leaves no gap.
        """
        newest = (
            sa.select(_comment.c.statement_id, sa.func.max(_comment.c.seq).label("seq"))
            .group_by(_comment.c.statement_id)
            .subquery()
        )
        query = sa.select(_comment).join(
            newest, sa.and_(newest.c.statement_id == _comment.c.statement_id, newest.c.seq == _comment.c.seq)
        )
        query = query.where(_comment.c.side == "creator").order_by(_comment.c.at_us, _comment.c.statement_id)
        if after is not None:
            query = query.where(sa.tuple_(_comment.c.at_us, _comment.c.statement_id) > sa.tuple_(*after))
        with self._engine.connect() as connection:
            return [_made(row) for row in connection.execute(query.limit(limit))]

    def _label(self, connection: sa.Connection, statement_id: str) -> str:
        query = sa.select(_statement.c.period_label, _statement.c.creator_id)
        row = connection.execute(query.where(_statement.c.id == statement_id)).first()
        if row is None or (self._creator and row.creator_id != self._creator):
            raise NotFound(f"no statement {statement_id}", remedy="`endcredits statements list` shows them")
        return str(row.period_label)


def summaries(engine: sa.Engine, now_us: int) -> list[store.PeriodSummary]:
    """Return every closed period with the state it has now, newest first."""
    known = windows(engine)
    return [
        msgspec.structs.replace(one, state=periods.state_at(known.get(one.label, 0), now_us))
        for one in store.list_periods(engine)
    ]


def _until(connection: sa.Connection, label: str) -> int:
    query = sa.select(_window.c.until_us).where(_window.c.period_label == label)
    return int(connection.execute(query).scalar() or 0)


def _said(connection: sa.Connection, statement_id: str) -> list[Comment]:
    query = sa.select(_comment).where(_comment.c.statement_id == statement_id).order_by(_comment.c.seq)
    return [_made(row) for row in connection.execute(query)]


def _made(row: Any) -> Comment:
    return Comment(
        statement=row.statement_id, seq=row.seq, side=row.side, text=row.text, by=row.by, at_us=row.at_us
    )
