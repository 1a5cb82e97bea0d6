"""Policies in the store: what they say, from when each holds, and who said so. Nothing is ever changed.

An activation reaches forward only: what held at a time that has passed stays what held. So whoever reads the
activations after the log's marks knows the policy of every answer below them. Activating takes a turn, so
two operators at once get two numbers, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.billing import floors_store
from proxy.billing.policies import Activation, Agenda, Policy, from_text, of_settings
from proxy.billing.schemes import Terms
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, checked_words
from proxy.clock import Clock, iso_utc
from proxy.database import money_turn
from proxy.errors import BadRequest, Conflict, NotFound, SettingsError
from proxy.settings import Billing


class PolicyRow(SQLModel, table=True):
    """One policy, its body the canonical text; append-only."""

    __tablename__: ClassVar[Any] = "policy"
    id: str = Field(primary_key=True, sa_type=sa.String)
    name: str = Field(sa_type=sa.String)
    body: str = Field(sa_type=sa.Text)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class ActivationRow(SQLModel, table=True):
    """From when a policy holds; append-only."""

    __tablename__: ClassVar[Any] = "policy_activation"
    seq: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    policy_id: str = Field(sa_type=sa.String, foreign_key="policy.id")
    effective_from_us: int = Field(sa_type=sa.BigInteger)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_policy, _activation = _tables["policy"], _tables["policy_activation"]


@dataclass(frozen=True, slots=True)
class Known:
    """A policy as it is listed. since_us: from when on it holds, each time it was activated; activations: the
    numbers of these.
    """

    policy: Policy
    by: str
    at_us: int
    since_us: tuple[int, ...]
    activations: tuple[int, ...]


class Policies:
    """Writing policies down and putting them in force. by: who acts."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, by: str, currency: str) -> None:
        """currency: the books', which every policy must be in."""
        self._engine, self._clock, self._currency = engine, clock, currency
        self._by = checked_words(by, "name of who acts", NAME_OF_DECIDER_MAX)

    def add(self, policy: Policy) -> bool:
        """Keep a policy; False when it was there already. Raises BadRequest for rules that cannot hold."""
        if policy.rules.currency != self._currency:
            raise BadRequest(
                f"the policy is in {policy.rules.currency}, the books are in {self._currency}",
                remedy="write its amounts in the currency of [billing]",
                code="policy",
            )
        try:
            Terms.of(policy)
        except SettingsError as error:
            raise BadRequest(
                f"policy {policy.name}: {error.cause}", remedy=error.remedy, code="policy"
            ) from error
        row = {"id": policy.id, "name": policy.name, "body": policy.text}
        with money_turn(self._engine) as connection:
            if connection.execute(sa.select(_policy.c.id).where(_policy.c.id == policy.id)).first():
                return False
            who = {"by": self._by, "at_us": self._clock.now_us()}
            connection.execute(sa.insert(_policy), [row | who])
        return True

    def activate(self, policy_id: str, from_us: int | None = None) -> Activation:
        """Let a policy hold from a time on, or from now on. The same again is the same activation.

        Raises NotFound, and Conflict (code "policy_backdated") for a time that has passed.
        """
        with money_turn(self._engine) as connection:
            now_us = self._clock.now_us()
            since_us = now_us if from_us is None else from_us
            policy = _load(connection, policy_id)
            if since_us < now_us:
                raise Conflict(
                    f"{iso_utc(since_us)} has passed: what was used since then is paid as was said then",
                    remedy="let it hold from now on (leave out --from) or from a later time",
                    code="policy_backdated",
                )
            known = _same(connection, policy, since_us)
            if known is not None:
                return known
            last = connection.execute(sa.select(sa.func.max(_activation.c.seq))).scalar()
            made = Activation(int(last or 0) + 1, since_us, policy, now_us, self._by)
            row = {
                "seq": made.seq,
                "policy_id": policy_id,
                "effective_from_us": since_us,
                "by": self._by,
                "at_us": now_us,
            }
            connection.execute(sa.insert(_activation), [row])
        return made


def agenda(engine: sa.Engine, billing: Billing) -> Agenda:
    """Return which policy holds when; `billing` holds before the first activation."""
    query = sa.select(_activation, _policy.c.body).join(_policy, _policy.c.id == _activation.c.policy_id)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(_activation.c.seq)).all()
    made = tuple(
        Activation(row.seq, row.effective_from_us, from_text(row.body), row.at_us, row.by) for row in rows
    )
    return Agenda(of_settings(billing), made)


def terms_now(engine: sa.Engine, billing: Billing, registry_seq: int) -> Terms:
    """Return all terms in force, with what works ask for up to a number of the registry.

    Raises SettingsError for an amount of `billing` that cannot be read.
    """
    known = agenda(engine, billing)
    asked = floors_store.asked(engine, billing.currency, registry_seq, known.creators)
    return Terms.of_agenda(known, asked)


def policy(engine: sa.Engine, policy_id: str) -> Policy:
    """Return one policy by its id. Raises NotFound."""
    with engine.connect() as connection:
        return _load(connection, policy_id)


def policies(engine: sa.Engine) -> list[Known]:
    """Return every policy with the times from which it holds, oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(_policy).order_by(_policy.c.at_us, _policy.c.id)).all()
        dated: dict[str, list[tuple[int, int]]] = {}
        for row in connection.execute(sa.select(_activation).order_by(_activation.c.seq)):
            dated.setdefault(row.policy_id, []).append((row.effective_from_us, row.seq))
    return [_known(row, dated.get(row.id, [])) for row in rows]


def _known(row: sa.Row[Any], dated: list[tuple[int, int]]) -> Known:
    since_us, numbers = tuple(one for one, _ in dated), tuple(one for _, one in dated)
    return Known(from_text(row.body), row.by, row.at_us, since_us, numbers)


def _same(connection: sa.Connection, policy: Policy, since_us: int) -> Activation | None:
    """Return the activation that holds from exactly this time on, if it is of this policy."""
    query = sa.select(_activation).where(_activation.c.effective_from_us == since_us)
    row = connection.execute(query.order_by(_activation.c.seq.desc()).limit(1)).first()
    if row is None or row.policy_id != policy.id:
        return None
    return Activation(row.seq, row.effective_from_us, policy, row.at_us, row.by)


def _load(connection: sa.Connection, policy_id: str) -> Policy:
    body = connection.execute(sa.select(_policy.c.body).where(_policy.c.id == policy_id)).scalar()
    if body is None:
        raise NotFound(f"there is no policy '{policy_id}'", remedy="`endcredits policies list` shows them")
    return from_text(body)
