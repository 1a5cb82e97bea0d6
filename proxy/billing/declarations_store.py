"""What creators say for tax themselves, until an operator has checked it: given, then accepted or refused.

A tax profile decides what is withheld, so nobody makes their own hold: what a creator gives waits beside the
profiles (payees_store.py) and changes nothing. Accepted, it becomes a profile in the same transaction;
refused, the creator reads why, in one of a few sentences, because free words about somebody's taxes would be
one more thing to guard and to erase. Each step is a row; the last one is how it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.billing import payees
from proxy.billing.payees import TaxProfile
from proxy.billing.payees_store import declare_within, profile_columns, profile_of, profiles_among
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, checked_words
from proxy.clock import Clock
from proxy.database import money_turn
from proxy.errors import BadRequest, Conflict

State = Literal["given", "accepted", "refused"]
VERSIONS_MAX: Final = 100  # of one creator: more is a loop, not a life
WAITING_MAX: Final = 500  # in one list
WHY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "unsigned": "the form itself has not come, or is not signed",
        "incomplete": "something is missing on it",
        "other_name": "the name on it is not that of the account",
        "other_country": "the country on it is another one",
        "no_treaty": "the treaty does not give this rate",
        "expired": "it does not hold any more",
        "other_form": "another form is needed",
    }
)


class TaxDeclarationRow(SQLModel, table=True):
    """One step of what a creator declares; days are ISO dates, "" is no end; append-only."""

    __tablename__: ClassVar[Any] = "tax_declaration"
    creator_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="creator.id")
    version: int = Field(primary_key=True, sa_type=sa.BigInteger)
    state: str = Field(sa_type=sa.String)
    form: str = Field(sa_type=sa.String)
    country: str = Field(sa_type=sa.String)
    treaty_ppm: int | None = Field(sa_type=sa.BigInteger, nullable=True)
    valid_from: str = Field(sa_type=sa.String)
    valid_to: str = Field(sa_type=sa.String)
    why: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


_said = SQLModel.metadata.tables["tax_declaration"]


@dataclass(frozen=True, slots=True)
class Declaration:
    """How what a creator declared last stands. why: a key of WHY where it was refused."""

    creator: str
    version: int
    state: State
    profile: TaxProfile
    why: str
    by: str
    at_us: int


class Declarations:
    """What creators declare. by: who gives or checks it; each call is one transaction."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, by: str = "operator") -> None:
        self._engine, self._clock = engine, clock
        self._by = checked_words(by, "name of who enters it", NAME_OF_DECIDER_MAX)

    def give(self, creator: str, profile: TaxProfile) -> bool:
        """Keep what a creator declares until it is checked; False when it waits or holds already.

        Raises BadRequest where it speaks of days of which another profile does.
        """
        with money_turn(self._engine) as connection:
            last = _last(connection, creator)
            if last is not None and last.state != "refused" and last.profile == profile:
                return False
            version = last.version if last else 0
            if version >= VERSIONS_MAX:
                raise Conflict(
                    f"{creator} has declared {version} times",
                    remedy="leave it as it is, and ask the operator",
                    code="tax_declarations",
                )
            payees.follows(profiles_among(connection, [creator]).get(creator, []), profile)
            self._append(connection, creator, version + 1, "given", profile)
        return True

    def check(self, creator: str, version: int, *, why: str = "") -> bool:
        """Accept what a creator declared, which then holds, or refuse it with a key of WHY.

        False when that is how it stands. Raises Conflict when another version is the newest, or it was
        decided otherwise: the creator gives it again.
        """
        if why and why not in WHY:
            raise BadRequest(f"no reason is called '{why[:40]}'", remedy=f"known: {', '.join(WHY)}")
        state: State = "refused" if why else "accepted"
        with money_turn(self._engine) as connection:
            last = _last(connection, creator)
            if last is not None and last.version == version + 1 and (last.state, last.why) == (state, why):
                return False
            if last is None or last.version != version or last.state != "given":
                raise Conflict(
                    f"version {version} of what {creator} declared does not wait for anybody",
                    remedy="`endcredits payees show` says what does",
                    code="tax_declaration",
                )
            if state == "accepted":
                declare_within(connection, creator, last.profile, by=self._by, at_us=self._clock.now_us())
            self._append(connection, creator, version + 1, state, last.profile, why)
        return True

    def last(self, creator: str) -> Declaration | None:
        """Return how what a creator declared last stands, None where they declared nothing themselves."""
        with self._engine.connect() as connection:
            return _last(connection, creator)

    def waiting(self, after: str = "", limit: int = WAITING_MAX) -> list[Declaration]:
        """Return what waits to be checked, by creator, from behind `after` on."""
        newest = sa.select(_said.c.creator_id, sa.func.max(_said.c.version).label("version"))
        newest = newest.where(_said.c.creator_id > after).group_by(_said.c.creator_id).subquery()
        same = sa.and_(_said.c.creator_id == newest.c.creator_id, _said.c.version == newest.c.version)
        query = sa.select(_said).join_from(_said, newest, same).where(_said.c.state == "given")
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_said.c.creator_id).limit(limit))
            return [_declaration(row) for row in rows]

    def _append(
        self,
        connection: sa.Connection,
        creator: str,
        version: int,
        state: State,
        profile: TaxProfile,
        why: str = "",
    ) -> None:
        row = {"creator_id": creator, "version": version, "state": state, "why": why, "by": self._by}
        row |= profile_columns(profile)
        connection.execute(sa.insert(_said), [row | {"at_us": self._clock.now_us()}])


def _last(connection: sa.Connection, creator: str) -> Declaration | None:
    query = sa.select(_said).where(_said.c.creator_id == creator).order_by(_said.c.version.desc())
    row = connection.execute(query.limit(1)).first()
    return None if row is None else _declaration(row)


def _declaration(row: Any) -> Declaration:
    return Declaration(row.creator_id, row.version, row.state, profile_of(row), row.why, row.by, row.at_us)
