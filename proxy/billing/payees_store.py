"""Creators' accounts, tax profiles and holds in the store: each change a new row, the last one counts.

An account is stored sealed, under a key that the store does not hold; its rail and last four stand beside it,
because that is all that a list of payments shows. Entering again what is known already writes nothing.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.billing import payees
from proxy.billing.payees import NONCE_BYTES, Account, TaxProfile
from proxy.billing.payouts import Payee
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, REASON_CHARACTERS_MAX, checked_words
from proxy.catalogue.tables import CreatorRow
from proxy.clock import Clock
from proxy.database import money_turn
from proxy.errors import Conflict, NotFound

IN_MAX: Final = 5_000  # names in one statement
VERSIONS_MAX: Final = 1_000  # accounts of one creator, who may change it themselves: more is a loop


class PayeeAccountRow(SQLModel, table=True):
    """One version of where a creator is paid; append-only."""

    __tablename__: ClassVar[Any] = "payee_account"
    creator_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="creator.id")
    version: int = Field(primary_key=True, sa_type=sa.BigInteger)
    rail: str = Field(sa_type=sa.String)
    last4: str = Field(sa_type=sa.String)
    minimum: int = Field(sa_type=sa.BigInteger)
    currency: str = Field(sa_type=sa.String)
    sealed: bytes = Field(sa_type=sa.LargeBinary)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class TaxProfileRow(SQLModel, table=True):
    """One tax profile as it was declared; days are ISO dates, "" is no end; append-only."""

    __tablename__: ClassVar[Any] = "tax_profile"
    creator_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="creator.id")
    version: int = Field(primary_key=True, sa_type=sa.BigInteger)
    form: str = Field(sa_type=sa.String)
    country: str = Field(sa_type=sa.String)
    treaty_ppm: int | None = Field(sa_type=sa.BigInteger, nullable=True)
    valid_from: str = Field(sa_type=sa.String)
    valid_to: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class PayeeHoldRow(SQLModel, table=True):
    """That a creator's payouts were held, or let go, and why; append-only."""

    __tablename__: ClassVar[Any] = "payee_hold"
    creator_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="creator.id")
    version: int = Field(primary_key=True, sa_type=sa.BigInteger)
    held: bool = Field(sa_type=sa.Boolean)
    reason: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class PayeeVerifiedRow(SQLModel, table=True):
    """That an operator has checked whose account this version is; append-only."""

    __tablename__: ClassVar[Any] = "payee_verified"
    creator_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="creator.id")
    version: int = Field(primary_key=True, sa_type=sa.BigInteger)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_account, _tax, _hold = _tables["payee_account"], _tables["tax_profile"], _tables["payee_hold"]
_verified = _tables["payee_verified"]
_creator = _tables[str(CreatorRow.__tablename__)]


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """What lists show of an account; the account itself stays sealed."""

    creator: str
    version: int
    rail: str
    last4: str
    minimum_grains: int
    currency: str
    by: str
    at_us: int
    verified_by: str = ""


class Payees:
    """Where creators are paid. key: gives the 32 bytes under which accounts are sealed; read when needed."""

    def __init__(
        self, engine: sa.Engine, *, clock: Clock, key: Callable[[], bytes], by: str = "operator"
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._key = key
        self._by = checked_words(by, "name of who enters it", NAME_OF_DECIDER_MAX)

    def enter(
        self, creator: str, account: Account, *, minimum_grains: int, currency: str, verified: bool = True
    ) -> KnownAccount:
        """Keep a creator's account from now on. What is known already stays the version it is.

        verified: an operator enters it, and knows whose it is; else nobody is paid there before `verify`.
        A new minimum alone leaves it as verified as it was.
        """
        with money_turn(self._engine) as connection:
            _exists(connection, creator)
            version, row = _last(connection, _account, creator)
            if row is not None and _is(row, account, self._key):
                by = _verified_by(connection, [creator]).get((creator, version), "")
                if (row.minimum, row.currency) == (minimum_grains, currency):
                    if verified and not by:
                        self._append(connection, _verified, creator, version, {})
                    return _known(row, by or (self._by if verified else ""))
                verified = verified or bool(by)
            if version >= VERSIONS_MAX:
                raise Conflict(
                    f"{creator} has entered {version} accounts",
                    remedy="leave it as it is, and ask the operator",
                    code="payee_versions",
                )
            sealed = payees.seal(
                account, self._key(), os.urandom(NONCE_BYTES), creator=creator, version=version + 1
            )
            values = {
                "rail": account.rail,
                "last4": account.last4,
                "minimum": minimum_grains,
                "currency": currency,
                "sealed": sealed,
            }
            self._append(connection, _account, creator, version + 1, values)
            if verified:
                self._append(connection, _verified, creator, version + 1, {})
            return _known(_last(connection, _account, creator)[1], self._by if verified else "")

    def verify(self, creator: str, version: int) -> bool:
        """Keep that an operator has checked whose account this version is; False when that is known.

        Raises Conflict when it is not the newest: what was checked is not what would be paid.
        """
        with money_turn(self._engine) as connection:
            _exists(connection, creator)
            last, _ = _last(connection, _account, creator)
            if version != last:
                raise Conflict(
                    f"version {version} of the account of {creator} is not the newest, which is {last}"
                    if last
                    else f"{creator} has entered no account",
                    remedy="`endcredits payees show` shows it: check that one",
                    code="payee_version",
                )
            if _verified_by(connection, [creator]).get((creator, version)):
                return False
            self._append(connection, _verified, creator, version, {})
        return True

    def known(self, creator: str) -> list[KnownAccount]:
        """Return every version of a creator's account, oldest first; those that were erased are none."""
        query = sa.select(_account).where(_account.c.creator_id == creator).order_by(_account.c.version)
        with self._engine.connect() as connection:
            verified = _verified_by(connection, [creator])
            return [
                _known(row, verified.get((creator, row.version), ""))
                for row in connection.execute(query)
                if row.sealed
            ]

    def newest(self) -> list[KnownAccount]:
        """Return every creator's account as it is now, by creator; those that were erased are none."""
        with self._engine.connect() as connection:
            verified = _verified_by(connection, None)
            rows = sorted(_newest(connection, _account, None), key=lambda row: row.creator_id)
        rows = [row for row in rows if row.sealed]
        return [_known(row, verified.get((row.creator_id, row.version), "")) for row in rows]

    def unverified(self, after: str = "", limit: int = IN_MAX) -> list[KnownAccount]:
        """Return accounts that nobody has checked yet, by creator, from behind `after` on."""
        newest = sa.select(_account.c.creator_id, sa.func.max(_account.c.version).label("version"))
        newest = newest.where(_account.c.creator_id > after).group_by(_account.c.creator_id).subquery()
        same = sa.and_(_account.c.creator_id == newest.c.creator_id, _account.c.version == newest.c.version)
        checked = sa.exists().where(
            _verified.c.creator_id == _account.c.creator_id, _verified.c.version == _account.c.version
        )
        query = sa.select(_account).join_from(_account, newest, same).where(~checked)
        query = query.where(sa.func.length(_account.c.sealed) > 0)  # else erased
        with self._engine.connect() as connection:
            return [
                _known(row, "")
                for row in connection.execute(query.order_by(_account.c.creator_id).limit(limit))
            ]

    def of_versions(self, wanted: Iterable[tuple[str, int]]) -> dict[str, KnownAccount]:
        """Return {creator: account} of these (creator, version): by whom each was entered and checked."""
        versions = dict(wanted)
        found: dict[str, KnownAccount] = {}
        with self._engine.connect() as connection:
            for some in _some(sorted(versions)):
                verified = _verified_by(connection, some)
                for row in connection.execute(sa.select(_account).where(_account.c.creator_id.in_(some))):
                    if versions[row.creator_id] == row.version:
                        by = verified.get((row.creator_id, row.version), "")
                        found[row.creator_id] = _known(row, by)
        return found

    def unsealed(self, wanted: Sequence[tuple[str, int]]) -> dict[str, Account]:
        """Return {creator: account} of these (creator, version). Raises Problem where one does not open."""
        versions = dict(wanted)
        key = self._key()
        found: dict[str, Account] = {}
        with self._engine.connect() as connection:
            for some in _some(sorted(versions)):
                for row in connection.execute(sa.select(_account).where(_account.c.creator_id.in_(some))):
                    if versions[row.creator_id] == row.version:
                        found[row.creator_id] = payees.unseal(
                            row.sealed, key, creator=row.creator_id, version=row.version
                        )
        return found

    def declare(self, creator: str, profile: TaxProfile) -> bool:
        """Keep a tax profile; False when the last one entered is the same. Raises BadRequest for overlaps."""
        with money_turn(self._engine) as connection:
            _exists(connection, creator)
            return declare_within(connection, creator, profile, by=self._by, at_us=self._clock.now_us())

    def tax_profiles(self, creator: str) -> list[TaxProfile]:
        """Return what a creator declared, in the order it was entered."""
        with self._engine.connect() as connection:
            return profiles_among(connection, [creator]).get(creator, [])

    def hold(self, creator: str, reason: str, *, held: bool) -> bool:
        """Hold a creator's payouts, or let them go; False when that is how it is."""
        with money_turn(self._engine) as connection:
            _exists(connection, creator)
            version, row = _last(connection, _hold, creator)
            if (row is not None and row.held) == held:
                return False
            said = checked_words(reason, "reason", REASON_CHARACTERS_MAX)
            self._append(connection, _hold, creator, version + 1, {"held": held, "reason": said})
        return True

    def held(self, creator: str) -> str:
        """Return why a creator's payouts are held, or ""."""
        with self._engine.connect() as connection:
            row = _last(connection, _hold, creator)[1]
        return str(row.reason) if row is not None and row.held else ""

    def _append(
        self, connection: sa.Connection, table: sa.Table, creator: str, version: int, values: dict[str, Any]
    ) -> None:
        row = {"creator_id": creator, "version": version, "by": self._by, "at_us": self._clock.now_us()}
        connection.execute(sa.insert(table), [row | values])


def payees_on(
    connection: sa.Connection, creators: Collection[str], day: dt.date, currency: str
) -> dict[str, Payee]:
    """Return what a plan needs of these creators on that day; who entered no account is left out."""
    result: dict[str, Payee] = {}
    for some in _some(sorted(creators)):
        profiles = profiles_among(connection, some)
        held = {row.creator_id: str(row.reason) for row in _newest(connection, _hold, some) if row.held}
        verified = _verified_by(connection, some)
        for row in _newest(connection, _account, some):
            if not row.sealed:  # erased
                continue
            result[row.creator_id] = Payee(
                account_version=int(row.version),
                rail=row.rail,
                last4=row.last4,
                minimum_grains=int(row.minimum) if row.currency == currency else 0,
                tax=payees.profile_on(profiles.get(row.creator_id, []), day),
                hold=held.get(row.creator_id, ""),
                verified=(row.creator_id, row.version) in verified,
            )
    return result


def _newest(connection: sa.Connection, table: sa.Table, creators: Sequence[str] | None) -> list[Any]:
    """Rows of the last version of these creators, or of all."""
    versions = sa.select(table.c.creator_id, sa.func.max(table.c.version).label("version"))
    if creators is not None:
        versions = versions.where(table.c.creator_id.in_(creators))
    last = versions.group_by(table.c.creator_id).subquery()
    same = sa.and_(table.c.creator_id == last.c.creator_id, table.c.version == last.c.version)
    return list(connection.execute(sa.select(table).join_from(table, last, same)))


def _last(connection: sa.Connection, table: sa.Table, creator: str) -> tuple[int, Any]:
    rows = _newest(connection, table, [creator])
    return (int(rows[0].version), rows[0]) if rows else (0, None)


def declare_within(
    connection: sa.Connection, creator: str, profile: TaxProfile, *, by: str, at_us: int
) -> bool:
    """Keep a tax profile inside a `money_turn`, as `Payees.declare` does."""
    known = profiles_among(connection, [creator]).get(creator, [])
    if known and known[-1] == profile:
        return False
    payees.follows(known, profile)
    row = {"creator_id": creator, "version": len(known) + 1, "by": by, "at_us": at_us}
    connection.execute(sa.insert(_tax), [row | profile_columns(profile)])
    return True


def profile_columns(profile: TaxProfile) -> dict[str, Any]:
    """Return a profile as rows hold it."""
    return {
        "form": profile.form,
        "country": profile.country,
        "treaty_ppm": profile.treaty_ppm,
        "valid_from": profile.valid_from.isoformat(),
        "valid_to": profile.valid_to.isoformat() if profile.valid_to else "",
    }


def profile_of(row: Any) -> TaxProfile:
    """Return the profile that a row holds."""
    return TaxProfile(
        row.form,
        row.country,
        row.treaty_ppm,
        dt.date.fromisoformat(row.valid_from),
        dt.date.fromisoformat(row.valid_to) if row.valid_to else None,
    )


def profiles_among(connection: sa.Connection, creators: Sequence[str]) -> dict[str, list[TaxProfile]]:
    """Return {creator: what they declared, in the order it was entered} of those who declared anything."""
    query = sa.select(_tax).where(_tax.c.creator_id.in_(creators)).order_by(_tax.c.creator_id, _tax.c.version)
    found: dict[str, list[TaxProfile]] = {}
    for row in connection.execute(query):
        found.setdefault(row.creator_id, []).append(profile_of(row))
    return found


def _verified_by(connection: sa.Connection, creators: Sequence[str] | None) -> dict[tuple[str, int], str]:
    query = sa.select(_verified)
    if creators is not None:
        query = query.where(_verified.c.creator_id.in_(creators))
    return {(row.creator_id, row.version): str(row.by) for row in connection.execute(query)}


def _is(row: Any, account: Account, key: Callable[[], bytes]) -> bool:
    """Whether a version holds this account; one that was erased holds none."""
    sealed = bytes(row.sealed)
    return bool(sealed) and account == payees.unseal(
        sealed, key(), creator=row.creator_id, version=row.version
    )


def _known(row: Any, verified_by: str) -> KnownAccount:
    return KnownAccount(
        row.creator_id,
        row.version,
        row.rail,
        row.last4,
        row.minimum,
        row.currency,
        row.by,
        row.at_us,
        verified_by,
    )


def _exists(connection: sa.Connection, creator: str) -> None:
    if connection.execute(sa.select(_creator.c.id).where(_creator.c.id == creator)).first() is None:
        raise NotFound(f"no creator {creator}", remedy="`endcredits creators list` shows them")


def _some(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + IN_MAX] for start in range(0, len(names), IN_MAX))
