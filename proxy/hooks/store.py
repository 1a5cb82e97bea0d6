"""Webhooks in the store: addresses, what is to be told to each, and what came of it.

Nobody who closes a period or settles a payout knows of webhooks: what happened is read from the books, behind
marks that each address has of its own. Periods and the registry have numbers without gaps; of payouts and
disputes, which have times only, the last minutes are read again each time, because a message's id is made of
what it tells and is there once. A message is kept until it is told, or given up, and a month longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlmodel import Field, SQLModel

from proxy.billing.disputes_store import DisputeRow
from proxy.billing.payouts_store import PayoutEventRow
from proxy.billing.periods_store import PeriodWindowRow
from proxy.billing.tables import PeriodRow, StatementRow
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, checked_words
from proxy.catalogue.tables import ConsentRow
from proxy.clock import Clock, Ids, RandomIds, iso_utc
from proxy.database import RegistryEventRow, insert_rows, registry_turn
from proxy.errors import Conflict, NotFound
from proxy.hooks.signing import SECRET_BYTES, secret_text
from proxy.hooks.targets import KINDS, Kind, checked_target, message_id, wait_s
from proxy.keyfile import secret_file

WEBHOOKS_MAX: Final = 20  # each event is a message for each
READ_AGAIN_US: Final = 300_000_000  # no transaction that books something lasts as long
KEPT_US: Final = 30 * 86_400_000_000
ROWS_MAX: Final = 1_000  # of the registry at a time; the rest at the next look
LISTED_MAX: Final = 200
NONCE_BYTES: Final = 12
KEY_FILE: Final = "webhooks.key"
ANSWER_CHARACTERS_MAX: Final = 200


class WebhookRow(SQLModel, table=True):
    """One address, and how far it was told."""

    __tablename__: ClassVar[Any] = "webhook"
    id: str = Field(primary_key=True, sa_type=sa.String)
    url: str = Field(sa_type=sa.String)
    kinds: str = Field(sa_type=sa.String)
    sealed: bytes = Field(sa_type=sa.LargeBinary)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)
    ended_us: int | None = Field(default=None, sa_type=sa.BigInteger)
    period_seq: int = Field(sa_type=sa.BigInteger)
    final_seq: int = Field(sa_type=sa.BigInteger)
    registry_seq: int = Field(sa_type=sa.BigInteger)
    seen_us: int = Field(sa_type=sa.BigInteger)


class WebhookMessageRow(SQLModel, table=True):
    """One message to one address. next_us: when it is to be tried; none once it is told or given up."""

    __tablename__: ClassVar[Any] = "webhook_message"
    id: str = Field(primary_key=True, sa_type=sa.String)
    webhook_id: str = Field(sa_type=sa.String, foreign_key="webhook.id", index=True)
    kind: str = Field(sa_type=sa.String)
    body: str = Field(sa_type=sa.Text)
    made_us: int = Field(sa_type=sa.BigInteger)
    attempts: int = Field(sa_type=sa.BigInteger)
    next_us: int | None = Field(default=None, sa_type=sa.BigInteger, index=True)
    done_us: int | None = Field(default=None, sa_type=sa.BigInteger)
    answer: str = Field(sa_type=sa.String)


_tables = SQLModel.metadata.tables
_hook, _message = _tables["webhook"], _tables["webhook_message"]
_period, _window, _statement, _dispute, _payout, _registry, _consent = (
    _tables[str(row.__tablename__)]
    for row in (
        PeriodRow, PeriodWindowRow, StatementRow, DisputeRow, PayoutEventRow, RegistryEventRow, ConsentRow,
    )
)  # fmt: skip
_COLUMNS: Final = tuple(column.name for column in _message.columns)


@dataclass(frozen=True, slots=True)
class Webhook:
    """One address as lists show it. ended: why it is told nothing any more."""

    id: str
    url: str
    kinds: tuple[Kind, ...]
    by: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Due:
    """A message that is to be sent now. attempts: how many failed before."""

    id: str
    webhook: str
    url: str
    secret: bytes
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class Happened:
    """Something to tell. of: what names it, so that it is told once."""

    kind: Kind
    of: str
    at_us: int
    data: dict[str, object]


class Webhooks:
    """The addresses and their messages. key: gives the 32 bytes under which secrets are sealed."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, ids: Ids, key: Callable[[], bytes]) -> None:
        self._engine, self._clock, self._ids, self._key = engine, clock, ids, key

    def add(self, url: str, kinds: Sequence[Kind] = KINDS, *, by: str = "operator") -> tuple[Webhook, str]:
        """Tell an address what happens from now on; return it with its secret, which is shown once.

        Raises BadRequest for what can't be told anything, Conflict for one address more than WEBHOOKS_MAX.
        """
        checked_target(url)
        who = checked_words(by, "name of who adds it", NAME_OF_DECIDER_MAX)
        secret, nonce = os.urandom(SECRET_BYTES), os.urandom(NONCE_BYTES)
        made = Webhook(self._ids.new("wh"), url, tuple(kinds), who, self._clock.now_us())
        sealed = nonce + AESGCM(self._key()).encrypt(nonce, secret, made.id.encode())
        with registry_turn(self._engine) as connection:
            if len(_living(connection)) >= WEBHOOKS_MAX:
                raise Conflict(f"there are {WEBHOOKS_MAX} webhooks", remedy="remove one", code="webhooks")
            period_seq, registry_seq = (
                int(connection.execute(sa.select(sa.func.max(column))).scalar() or 0)
                for column in (_period.c.seq, _registry.c.seq)
            )
            row: dict[str, Any] = {
                "id": made.id, "url": url, "kinds": ",".join(kinds), "sealed": sealed, "by": who,
                "at_us": made.at_us, "ended_us": None, "period_seq": period_seq,
                "final_seq": _final_upto(connection, 0, made.at_us), "registry_seq": registry_seq,
                "seen_us": made.at_us,
            }  # fmt: skip
            connection.execute(sa.insert(_hook), [row])
        return made, secret_text(secret)

    def end(self, webhook: str) -> bool:
        """Tell an address nothing more, not what waits either; False when that is so. Raises NotFound."""
        with self._engine.begin() as connection:
            row = connection.execute(sa.select(_hook.c.ended_us).where(_hook.c.id == webhook)).first()
            if row is None:
                raise NotFound(f"there is no webhook '{webhook[:60]}'", remedy="`endcredits webhooks list`")
            if row.ended_us is not None:
                return False
            now_us = self._clock.now_us()
            ended = sa.update(_hook).where(_hook.c.id == webhook)
            connection.execute(ended.values(ended_us=now_us, sealed=b""))
            waits = sa.and_(_message.c.webhook_id == webhook, _message.c.next_us.is_not(None))
            given_up = {"next_us": None, "done_us": now_us, "answer": "removed"}
            connection.execute(sa.update(_message).where(waits).values(given_up))
        return True

    def living(self) -> list[Webhook]:
        """Return the addresses that are told something, oldest first."""
        with self._engine.connect() as connection:
            return [
                Webhook(row.id, row.url, tuple(row.kinds.split(",")), row.by, row.at_us)
                for row in _living(connection)
            ]

    def messages(
        self, webhook: str = "", *, before: tuple[int, str] | None = None, limit: int = LISTED_MAX
    ) -> list[dict[str, Any]]:
        """Return messages with what came of them, of one address or all, newest first.

        before: (made_us, id) of one of them.
        """
        query = sa.select(_message).order_by(_message.c.made_us.desc(), _message.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(sa.tuple_(_message.c.made_us, _message.c.id) < sa.tuple_(*before))
        if webhook:
            query = query.where(_message.c.webhook_id == webhook)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def collect(self) -> int:
        """Write down what happened since as messages; return how many are new. Old ones go."""
        now_us, new = self._clock.now_us(), 0
        with self._engine.begin() as connection:
            for hook in _living(connection):
                happened, marks = _since(connection, hook, now_us)
                wanted = [one for one in happened if one.kind in hook.kinds.split(",")]
                rows = [_row(hook.id, one, now_us) for one in wanted]
                new += insert_rows(connection, _message, _COLUMNS, rows, pass_over=True) if rows else 0
                if marks:
                    connection.execute(sa.update(_hook).where(_hook.c.id == hook.id).values(marks))
            old = sa.and_(_message.c.done_us.is_not(None), _message.c.done_us < now_us - KEPT_US)
            connection.execute(sa.delete(_message).where(old))
        return new

    def due(self, limit: int) -> list[Due]:
        """Return messages whose time has come, the longest waiting first."""
        query = (
            sa.select(_message, _hook.c.url, _hook.c.sealed)
            .join_from(_message, _hook, _hook.c.id == _message.c.webhook_id)
            .where(_message.c.next_us <= self._clock.now_us(), _hook.c.ended_us.is_(None))
            .order_by(_message.c.next_us, _message.c.id)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        key = AESGCM(self._key()) if rows else None
        return [
            Due(
                row.id, row.webhook_id, row.url,
                key.decrypt(row.sealed[:NONCE_BYTES], row.sealed[NONCE_BYTES:], row.webhook_id.encode()),
                row.body.encode(), int(row.attempts),
            )
            for row in rows
            if key is not None
        ]  # fmt: skip

    def told(self, message: Due, answer: str) -> None:
        """Write down that a message arrived."""
        self._done(message, answer, None)

    def failed(self, message: Due, answer: str) -> int | None:
        """Write down that it did not; return in how many seconds it is tried again, None for never."""
        wait = wait_s(message.attempts + 1, message.id)
        self._done(message, answer, wait)
        return wait

    def _done(self, message: Due, answer: str, wait: int | None) -> None:
        now_us = self._clock.now_us()
        values = {
            "attempts": message.attempts + 1,
            "next_us": None if wait is None else now_us + wait * 1_000_000,
            "done_us": now_us if wait is None else None,
            "answer": answer[:ANSWER_CHARACTERS_MAX],
        }
        with self._engine.begin() as connection:
            connection.execute(sa.update(_message).where(_message.c.id == message.id).values(values))


def webhooks_in(engine: sa.Engine, data_dir: Path, clock: Clock) -> Webhooks:
    """Return the webhooks of a store, whose secrets are sealed under a key in the data folder."""
    return Webhooks(engine, clock=clock, ids=RandomIds(), key=lambda: secret_file(data_dir / KEY_FILE))


def _living(connection: sa.Connection) -> Sequence[Any]:
    query = sa.select(_hook).where(_hook.c.ended_us.is_(None)).order_by(_hook.c.at_us, _hook.c.id)
    return connection.execute(query).all()


def _row(webhook: str, one: Happened, now_us: int) -> tuple[object, ...]:
    body = {"type": one.kind, "timestamp": iso_utc(one.at_us), "data": one.data}
    said = msgspec.json.encode(body, order="sorted").decode()
    return message_id(webhook, one.kind, one.of), webhook, one.kind, said, now_us, 0, now_us, None, ""


def _since(connection: sa.Connection, hook: Any, now_us: int) -> tuple[list[Happened], dict[str, int]]:
    """Return what an address is still to be told, and its marks behind that."""
    period_seq, final_seq, registry_seq = hook.period_seq, hook.final_seq, hook.registry_seq
    found: list[Happened] = []
    closed = sa.select(_period.c.seq, _period.c.label, _period.c.closed_us, _period.c.manifest_sha256)
    for row in connection.execute(closed.where(_period.c.seq > period_seq).order_by(_period.c.seq)):
        told: dict[str, object] = {"period": row.label, "manifest_sha256": row.manifest_sha256}
        found.append(Happened("period.closed", row.label, row.closed_us, told))
        period_seq = row.seq
    reached = _final_upto(connection, final_seq, now_us)
    final = closed.where(_period.c.seq > final_seq, _period.c.seq <= reached).order_by(_period.c.seq)
    for row in connection.execute(final):
        mine = sa.select(sa.func.count()).where(_statement.c.period_label == row.label)
        data: dict[str, object] = {
            "period": row.label,
            "statements": int(connection.execute(mine).scalar_one()),
        }
        found.append(Happened("statements.final", row.label, now_us, data))
    changed = sa.select(_registry).where(_registry.c.seq > registry_seq).order_by(_registry.c.seq)
    for row in connection.execute(changed.limit(ROWS_MAX)):
        found += _of_registry(connection, row)
        registry_seq = row.seq
    found += _of_times(connection, hook.seen_us - READ_AGAIN_US, hook.at_us)
    marks = {"period_seq": period_seq, "final_seq": reached, "registry_seq": registry_seq}
    if found or registry_seq != hook.registry_seq:
        return found, marks | {"seen_us": now_us}
    return found, {}


def _final_upto(connection: sa.Connection, after: int, now_us: int) -> int:
    """Return the last period of those that are final without a draft before them."""
    query = sa.select(_period.c.seq, sa.func.coalesce(_window.c.until_us, 0).label("until_us"))
    query = query.outerjoin(_window, _window.c.period_label == _period.c.label)
    for row in connection.execute(query.where(_period.c.seq > after).order_by(_period.c.seq)):
        if row.until_us > now_us:
            break
        after = int(row.seq)
    return after


def _of_registry(connection: sa.Connection, row: Any) -> Iterator[Happened]:
    data: dict[str, object] = {"work": row.work_id, "registry_seq": row.seq}
    if row.kind == "work_erased":
        yield Happened("work.erased", str(row.seq), row.at_us, data)
    elif row.kind == "work_withdrawn":
        yield Happened("consent.withdrawn", str(row.seq), row.at_us, data | {"use": "all"})
    elif row.work_id and row.kind != "work_registered":  # which withdraws nothing
        said = sa.select(_consent.c.use).where(
            _consent.c.work_id == row.work_id, _consent.c.seq == row.seq, _consent.c.verdict == "denied"
        )
        for use in connection.execute(said).scalars():
            yield Happened("consent.withdrawn", f"{row.seq}/{use}", row.at_us, data | {"use": use})


def _of_times(connection: sa.Connection, from_us: int, since_us: int) -> Iterator[Happened]:
    """What has a time only, since the address is there."""
    start = max(from_us, since_us)
    step = (_payout.c.batch_id, _payout.c.kind, _payout.c.at_us)  # a batch's payments are settled together
    paid = sa.select(*step, sa.func.count().label("rows")).group_by(*step).order_by(_payout.c.at_us)
    paid = paid.where(_payout.c.at_us >= start, _payout.c.kind.in_(("settled", "returned")))
    for row in connection.execute(paid):
        kind: Kind = "payout.settled" if row.kind == "settled" else "payout.returned"
        told: dict[str, object] = {"batch": row.batch_id, "payments": int(row.rows)}
        yield Happened(kind, f"{row.batch_id}/{row.at_us}", row.at_us, told)
    opened = sa.select(_dispute.c.id, _dispute.c.statement_id, _dispute.c.opened_us)
    for row in connection.execute(opened.where(_dispute.c.opened_us >= start).order_by(_dispute.c.opened_us)):
        data = {"dispute": row.id, "statement": row.statement_id}
        yield Happened("dispute.opened", row.id, row.opened_us, data)
