"""Common money in the store: what is there, what was proposed about it, and who approved it.

A proposal is kept whole, so what is approved is what was looked at: if the account changed meanwhile it is
refused. Approving takes a turn and books in the same transaction; a second approval finds it done.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.billing import booking_store, common, ledger, store
from proxy.billing.common import Distribution
from proxy.billing.policies_store import agenda
from proxy.billing.store import AccountRow, EntryRow, PeriodRow, TransferRow
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, checked_words
from proxy.catalogue.tables import CreatorRow
from proxy.clock import Clock, Ids
from proxy.database import money_turn
from proxy.errors import Conflict, NotFound
from proxy.settings import Billing

_COMMON = "liab:common:"


class DistributionRow(SQLModel, table=True):
    """One proposal as it was made, its body JSON; append-only."""

    __tablename__: ClassVar[Any] = "distribution"
    id: str = Field(primary_key=True, sa_type=sa.String)
    period_label: str = Field(sa_type=sa.String, foreign_key="period.label", index=True)
    body: str = Field(sa_type=sa.Text)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class DistributionDecisionRow(SQLModel, table=True):
    """What became of a proposal; one row each, so that it is decided once."""

    __tablename__: ClassVar[Any] = "distribution_decision"
    distribution_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="distribution.id")
    outcome: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution with what became of it: outcome is "" while it waits."""

    distribution: Distribution
    outcome: str = ""
    decided_by: str = ""


_tables = SQLModel.metadata.tables
_proposed, _decided = _tables["distribution"], _tables["distribution_decision"]
_account, _entry, _transfer, _period, _creator = (
    _tables[str(row.__tablename__)] for row in (AccountRow, EntryRow, TransferRow, PeriodRow, CreatorRow)
)
_grown = sa.case((_entry.c.side == _account.c.normal, _entry.c.amount), else_=-_entry.c.amount)


class Common:
    """Distributing common money. by: who acts; nobody approves what they proposed."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, ids: Ids, by: str) -> None:
        self._engine, self._clock, self._ids = engine, clock, ids
        self._by = checked_words(by, "name of who acts", NAME_OF_DECIDER_MAX)

    def propose(self, label: str, billing: Billing, *, dry_run: bool = False) -> tuple[Proposal, bool]:
        """Return (what the rule of the policy in force makes of a period's common money, whether it is new).

        An open proposal that says the same is returned as it is. Raises NotFound for a period that is not
        closed, Conflict where no rule is named, nothing is there, or another proposal waits.
        """
        held = agenda(self._engine, billing).at(self._clock.now_us())
        rules = held.rules
        with money_turn(self._engine) as connection:
            currency = connection.execute(
                sa.select(_period.c.currency).where(_period.c.label == label)
            ).scalar()
            if currency is None:
                raise NotFound(
                    f"no period '{label}' is closed", remedy="`endcredits periods list` shows them"
                )
            if rules.common_rule == "to":
                _refuse_nobody(connection, rules.common_to)
            there = available(self._engine, label, str(currency))
            waiting = next((one for one in _known(connection, label) if not one.outcome), None)
            made = common.plan(
                id_=waiting.distribution.id if waiting else self._ids.new("dst"),
                period=label,
                currency=str(currency),
                policy=held.id,
                rule=rules.common_rule,
                to=rules.common_to,
                available={reason: there.get(reason, 0) for reason in rules.common_reasons},
                shares=_given(connection, label, str(currency)),
                by=waiting.distribution.by if waiting else self._by,
                at_us=waiting.distribution.at_us if waiting else self._clock.now_us(),
            )
            if waiting is not None and not dry_run:
                if waiting.distribution == made:
                    return waiting, False
                raise Conflict(
                    f"{waiting.distribution.id} waits for approval and proposes something else",
                    remedy=f"`endcredits common approve {waiting.distribution.id}`, or cancel it first",
                    code="common_open",
                )
            if not dry_run:
                row = {"id": made.id, "period_label": label, "body": msgspec.json.encode(made).decode()}
                connection.execute(sa.insert(_proposed), [row | {"by": made.by, "at_us": made.at_us}])
        return Proposal(distribution=made), not dry_run

    def decide(self, id_: str, outcome: Literal["approved", "cancelled"]) -> tuple[Proposal, bool]:
        """Approve a proposal, which books it, or cancel it; return (it, whether that is new).

        Raises Conflict for whoever proposed it (code "common_same_person"), when it was decided otherwise,
        and when the account is not as it was.
        """
        with money_turn(self._engine) as connection:
            known = _load(connection, id_)
            if known.outcome == outcome:
                return known, False
            if known.outcome:
                raise Conflict(
                    f"{id_} was {known.outcome} by {known.decided_by}",
                    remedy="propose another (`endcredits common distribute PERIOD`)",
                    code="common_decided",
                )
            if outcome == "approved":
                self._book(connection, known.distribution)
            row = {"distribution_id": id_, "outcome": outcome, "by": self._by}
            connection.execute(sa.insert(_decided), [row | {"at_us": self._clock.now_us()}])
            return _load(connection, id_), True

    def _book(self, connection: sa.Connection, made: Distribution) -> None:
        if made.by == self._by:
            raise Conflict(
                f"{self._by} proposed {made.id} and can't approve it",
                remedy="somebody else approves it (--by NAME)",
                code="common_same_person",
            )
        there = available(self._engine, made.period, made.currency)
        if any(there.get(reason, 0) != grains for reason, grains in made.reasons.items()):
            raise Conflict(
                f"the common account of {made.period} is not what {made.id} was made of",
                remedy=f"`endcredits common cancel {made.id}` and propose again",
                code="common_changed",
            )
        shares = _given(connection, made.period, made.currency)
        booking_store.book(connection, common.transfers(made, shares, self._clock.now_us()), made.currency)


def available(engine: sa.Engine, label: str, currency: str) -> dict[str, int]:
    """Return {reason: grains} that still stand in a closed period's common account."""
    prefix = ledger.common(label, "")
    return {
        code.removeprefix(prefix): grains
        for (code, held), grains in store.balances(engine, prefix).items()
        if held == currency and grains
    }


def carried(engine: sa.Engine, currency: str) -> dict[str, int]:
    """Return {reason: grains} that stand in the common accounts of all closed periods."""
    sums: dict[str, int] = {}
    for (code, held), grains in store.balances(engine, _COMMON).items():
        if held == currency and grains:
            reason = code.rpartition(":")[2]
            sums[reason] = sums.get(reason, 0) + grains
    return dict(sorted(sums.items()))


def proposals(engine: sa.Engine, label: str = "") -> list[Proposal]:
    """Return every proposal, of one period or all, oldest first."""
    with engine.connect() as connection:
        return _known(connection, label)


def _known(connection: sa.Connection, label: str = "", id_: str = "") -> list[Proposal]:
    joined = _proposed.outerjoin(_decided, _decided.c.distribution_id == _proposed.c.id)
    query = sa.select(_proposed.c.body, _decided.c.outcome, _decided.c.by).select_from(joined)
    if label:
        query = query.where(_proposed.c.period_label == label)
    if id_:
        query = query.where(_proposed.c.id == id_)
    return [
        Proposal(
            distribution=msgspec.json.decode(row[0], type=Distribution),
            outcome=row[1] or "",
            decided_by=row[2] or "",
        )
        for row in connection.execute(query.order_by(_proposed.c.at_us, _proposed.c.id))
    ]


def _load(connection: sa.Connection, id_: str) -> Proposal:
    found = _known(connection, id_=id_)
    if not found:
        raise NotFound(f"there is no distribution '{id_}'", remedy="`endcredits common list` shows them")
    return found[0]


def _given(connection: sa.Connection, label: str, currency: str) -> dict[str, int]:
    """Return what a period's closing gave, by account: creators', and escrow of works nobody claimed."""
    escrow = ledger.unclaimed("")
    query = (
        sa.select(_account.c.code, sa.func.sum(_grown))
        .join_from(_entry, _account, _entry.c.account_id == _account.c.id)
        .join(_transfer, _transfer.c.id == _entry.c.transfer_id)
        .where(_transfer.c.period_label == label, _account.c.currency == currency)
        .where(
            sa.or_(
                _account.c.code.startswith(ledger.payee(""), autoescape=True),
                _account.c.code.startswith(escrow, autoescape=True),
            )
        )
        .group_by(_account.c.code)
    )
    return {str(code): int(grains) for code, grains in connection.execute(query)}


def _refuse_nobody(connection: sa.Connection, creator: str) -> None:
    if not connection.execute(sa.select(_creator.c.id).where(_creator.c.id == creator)).first():
        raise NotFound(
            f"the policy's common_to is '{creator}', who is no creator",
            remedy="activate a policy that names a creator's id (`endcredits creators list`)",
        )
