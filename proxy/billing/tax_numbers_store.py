"""Tax numbers, where a tax authority wants them: sealed like accounts, shown by their last four.

They are in a table of their own, because nothing that is paid or withheld depends on one: a number can be
entered, told to its owner or the authority, and erased, without touching what was declared. It is sealed
under `payees.key`, outside the store, and opens only as this creator's, this version.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlmodel import Field, SQLModel

from proxy.billing.payees import NONCE_BYTES, country
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, checked_words
from proxy.clock import Clock
from proxy.database import money_turn
from proxy.errors import BadRequest, Conflict, Problem

NUMBER_CHARACTERS_MAX: Final = 40  # the longest in use are under thirty
VERSIONS_MAX: Final = 100  # of one creator: more is a loop, not a life
_NUMBER: Final = re.compile(r"[A-Z0-9][A-Z0-9 ./-]{2,39}", re.ASCII)


class TaxNumberRow(SQLModel, table=True):
    """One version of a creator's tax number; append-only."""

    __tablename__: ClassVar[Any] = "tax_number"
    creator_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="creator.id")
    version: int = Field(primary_key=True, sa_type=sa.BigInteger)
    country: str = Field(sa_type=sa.String)
    last4: str = Field(sa_type=sa.String)
    sealed: bytes = Field(sa_type=sa.LargeBinary)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


_number = SQLModel.metadata.tables["tax_number"]


class TaxNumbers:
    """Creators' tax numbers. key: gives the 32 bytes under which they are sealed; read when needed."""

    def __init__(
        self, engine: sa.Engine, *, clock: Clock, key: Callable[[], bytes], by: str = "operator"
    ) -> None:
        self._engine, self._clock, self._key = engine, clock, key
        self._by = checked_words(by, "name of who enters it", NAME_OF_DECIDER_MAX)

    def enter(self, creator: str, number: str, country_code: str) -> bool:
        """Keep a creator's tax number from now on; False when it is the one that is kept.

        Raises BadRequest for what can't be one; the refusal never says the number.
        """
        said = " ".join(number.upper().split())
        if not _NUMBER.fullmatch(said):
            raise BadRequest(
                "this is no tax number",
                remedy=f"write 3 to {NUMBER_CHARACTERS_MAX} letters, digits, points, slashes or hyphens",
                code="tax_number",
            )
        where = country(country_code)
        with money_turn(self._engine) as connection:
            row = _last(connection, creator)
            version = int(row.version) if row is not None else 0
            if row is not None and row.sealed and (row.country, self._open(row)) == (where, said):
                return False
            if version >= VERSIONS_MAX:
                raise Conflict(f"{creator} has {version} tax numbers", code="tax_number")
            nonce, about = os.urandom(NONCE_BYTES), sealed_about(creator, version + 1)
            sealed = nonce + AESGCM(self._key()).encrypt(nonce, said.encode(), about)
            values = {"creator_id": creator, "version": version + 1, "country": where, "last4": said[-4:]}
            values |= {"sealed": sealed, "by": self._by, "at_us": self._clock.now_us()}
            connection.execute(sa.insert(_number), [values])
        return True

    def known(self, creator: str) -> tuple[str, str] | None:
        """Return (country, last four) of the number that is kept, None for none."""
        row = self._kept(creator)
        return None if row is None else (str(row.country), str(row.last4))

    def revealed(self, creator: str) -> str:
        """Return the number that is kept, "" for none. Raises Problem when it does not open."""
        row = self._kept(creator)
        return "" if row is None else self._open(row)

    def _kept(self, creator: str) -> Any:
        with self._engine.connect() as connection:
            row = _last(connection, creator)
        return row if row is not None and row.sealed else None

    def _open(self, row: Any) -> str:
        sealed = bytes(row.sealed)
        try:
            plain = AESGCM(self._key()).decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], sealed_about(row.creator_id, row.version)
            )
        except InvalidTag:
            raise Problem(
                f"the tax number of {row.creator_id} (version {row.version}) does not open with payees.key",
                remedy="restore the key that was there when it was entered, or enter the number again",
                code="payees_key",
            ) from None
        return plain.decode()


def sealed_about(creator: str, version: int) -> bytes:
    """Return what a sealed number is bound to: it opens as nobody else's, and as no other version."""
    return f"tax number|{creator}|{version}".encode()


def _last(connection: sa.Connection, creator: str) -> Any:
    query = sa.select(_number).where(_number.c.creator_id == creator).order_by(_number.c.version.desc())
    return connection.execute(query.limit(1)).first()
