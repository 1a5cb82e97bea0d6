"""What works ask for, in the store: a floor, an agreed rate, a limit of quotation; append-only.

Each is a change of the registry with its number, so that an answer's own number says what held for it, and
the server acts on a limit as soon as it sees the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa

from proxy.billing.floors import Asked, Kind, read_value
from proxy.catalogue.lookup_store import chunks, owner_of
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, REASON_CHARACTERS_MAX, checked_words
from proxy.catalogue.tables import AskedTermRow, ClaimDecisionRow, ClaimRow, CreatorRow, WorkRow
from proxy.clock import Clock
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import NotFound

Scope = Literal["work", "creator"]
LISTED_MAX: Final = 10_000  # rows of one answer: some MB


_tables = WorkRow.metadata.tables
_asked = _tables[str(AskedTermRow.__tablename__)]
_work, _creator, _claim, _decision = (
    _tables[str(row.__tablename__)] for row in (WorkRow, CreatorRow, ClaimRow, ClaimDecisionRow)
)


@dataclass(frozen=True, slots=True)
class AskedTerm:
    """One word as it is listed."""

    seq: int
    scope: Scope
    scope_id: str
    kind: Kind
    value: int | None
    currency: str
    why: str
    by: str
    at_us: int


class AskedTerms:
    """Writing down what is asked. by: who says it."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, by: str, currency: str) -> None:
        self._engine, self._clock, self._currency = engine, clock, currency
        self._by = checked_words(by, "name of who acts", NAME_OF_DECIDER_MAX)

    def ask(self, scope: Scope, scope_id: str, kind: str, text: str, *, why: str = "") -> AskedTerm:
        """Record what is asked from now on, "none" for nothing any more; said again, it is the same word.

        Raises NotFound, BadRequest.
        """
        value = read_value(kind, text, self._currency)
        said = checked_words(why, "reason", REASON_CHARACTERS_MAX, needed=False)
        with registry_turn(self._engine) as connection:
            if scope == "work":
                owner_of(connection, scope_id)
            elif not connection.execute(sa.select(_creator.c.id).where(_creator.c.id == scope_id)).first():
                raise NotFound(
                    f"there is no creator '{scope_id}'", remedy="`endcredits creators list` shows them"
                )
            now_us = self._clock.now_us()
            payload = {"scope": [scope, scope_id], "kind": kind, "value": value}
            known = _last(connection, scope_id, kind)
            if known is not None and (known.scope, known.value) == (scope, value):
                return known
            change = RegistryChange("terms_asked", payload, scope_id if scope == "work" else None)
            seq = append_registry(connection, [change], actor=self._by, at_us=now_us)
            row: dict[str, Any] = {
                "seq": seq,
                "scope": scope,
                "scope_id": scope_id,
                "kind": kind,
                "value": value,
                "currency": "" if kind == "excerpt_words" else self._currency,
                "why": said,
                "by": self._by,
                "at_us": now_us,
            }
            connection.execute(sa.insert(_asked), [row])
        return AskedTerm(**row)


def is_owner(engine: sa.Engine, work: str, creator: str) -> bool:
    """Tell whether a work is this creator's now. False for one that is not registered."""
    with engine.connect() as connection:
        try:
            return owner_of(connection, work) == creator
        except NotFound:
            return False


def _last(connection: sa.Connection, scope_id: str, kind: str) -> AskedTerm | None:
    query = sa.select(_asked).where(_asked.c.scope_id == scope_id, _asked.c.kind == kind)
    row = connection.execute(query.order_by(_asked.c.seq.desc()).limit(1)).first()
    return None if row is None else AskedTerm(**row._mapping)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def asked_terms(
    engine: sa.Engine, scope_id: str = "", *, after_seq: int = 0, limit: int = LISTED_MAX
) -> list[AskedTerm]:
    """Return what was asked after a number of the registry, of a work or creator or of all, oldest first."""
    query = sa.select(_asked).where(_asked.c.seq > after_seq).order_by(_asked.c.seq).limit(limit)
    if scope_id:
        query = query.where(_asked.c.scope_id == scope_id)
    with engine.connect() as connection:
        return [AskedTerm(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def asked(engine: sa.Engine, currency: str, seq: int, named: frozenset[str] = frozenset()) -> Asked:
    """Return what is asked up to the registry's number `seq`, in `currency`.

    named: creators whose works must be known besides, because a rate is theirs.
    """
    histories: dict[str, dict[str, list[tuple[int, int | None]]]] = {"floor": {}, "rate": {}}
    creators = set(named)
    query = sa.select(_asked).where(_asked.c.seq <= seq, _asked.c.currency == currency)
    with engine.connect() as connection:
        for row in connection.execute(query.order_by(_asked.c.seq)):
            histories[row.kind].setdefault(row.scope_id, []).append((row.seq, row.value))
            if row.scope == "creator":
                creators.add(row.scope_id)
        owners = _owners(connection, creators, seq)
    floors, rates = (
        {key: tuple(said) for key, said in histories[kind].items()} for kind in ("floor", "rate")
    )
    return Asked(floors, rates, owners)


def _owners(connection: sa.Connection, creators: set[str], seq: int) -> dict[str, str]:
    """Return {work: owner} of the works of these creators at a number of the registry."""
    owners: dict[str, str] = {}
    if not creators:
        return owners
    for some in chunks(creators):
        query = sa.select(_work.c.id, _work.c.creator_id).where(_work.c.creator_id.in_(some))
        owners |= {str(row.id): str(row.creator_id) for row in connection.execute(query)}
    upheld = sa.select(_claim.c.work_id, _claim.c.claimant).join(
        _decision, _decision.c.claim_id == _claim.c.id
    )
    upheld = upheld.where(_decision.c.outcome == "upheld", _decision.c.seq <= seq).order_by(_decision.c.seq)
    for row in connection.execute(upheld):
        owners[str(row.work_id)] = str(row.claimant)
    return {work: owner for work, owner in owners.items() if owner in creators}
