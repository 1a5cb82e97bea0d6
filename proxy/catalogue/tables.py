"""The registry's tables as the store's statements know them; the migrations create them.

Rows carry values, they do not check them: the frozen values of works.py do.
"""

from __future__ import annotations

from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.database import RegistryEventRow

# Through a table of database.py, because its naming convention must be set before any table is made.
metadata = RegistryEventRow.metadata


class CreatorRow(SQLModel, table=True):
    """Somebody who is credited and paid."""

    __tablename__: ClassVar[Any] = "creator"
    id: str = Field(primary_key=True, sa_type=sa.String)
    ref: str = Field(sa_type=sa.String, unique=True)
    name: str = Field(sa_type=sa.String)
    country: str = Field(sa_type=sa.String)
    created_us: int = Field(sa_type=sa.BigInteger)


class WorkRow(SQLModel, table=True):
    """A registered work without its text."""

    __tablename__: ClassVar[Any] = "work"
    __table_args__ = (sa.UniqueConstraint("creator_id", "ref"),)
    id: str = Field(primary_key=True, sa_type=sa.String)
    ref: str = Field(sa_type=sa.String, index=True)
    creator_id: str = Field(sa_type=sa.String, foreign_key="creator.id")
    title: str = Field(sa_type=sa.String)
    medium: str = Field(sa_type=sa.String)
    text_sha256: str = Field(sa_type=sa.String)
    text_bytes: int = Field(sa_type=sa.BigInteger)
    licence: str = Field(sa_type=sa.String)
    url: str = Field(sa_type=sa.String)
    registered_us: int = Field(sa_type=sa.BigInteger)
    registered_seq: int = Field(sa_type=sa.BigInteger, unique=True)
    status: str = Field(sa_type=sa.String)


class WorkTextRow(SQLModel, table=True):
    """A work's text, apart so that lists of works read no texts."""

    __tablename__: ClassVar[Any] = "work_text"
    work_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    text_zlib: bytes = Field(sa_type=sa.LargeBinary)


class SplitRow(SQLModel, table=True):
    """One party's part in one version of a work's split."""

    __tablename__: ClassVar[Any] = "split"
    work_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    version: int = Field(primary_key=True, sa_type=sa.BigInteger)
    party: str = Field(primary_key=True, sa_type=sa.String)
    ppm: int = Field(sa_type=sa.BigInteger)
    role: str = Field(sa_type=sa.String)
    valid_from_seq: int = Field(sa_type=sa.BigInteger)


class AdaptationRow(SQLModel, table=True):
    """One original of a work made from it, as stated from `seq` on; the newest statement holds whole."""

    __tablename__: ClassVar[Any] = "adaptation"
    work_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    original_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    ppm: int = Field(sa_type=sa.BigInteger)
    decided_by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class WorkLinkRow(SQLModel, table=True):
    """That one work is a `kind` of another, or is no more, from `seq` on; of two works the last row holds."""

    __tablename__: ClassVar[Any] = "work_link"
    work_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    of_id: str = Field(sa_type=sa.String, foreign_key="work.id", index=True)
    kind: str = Field(sa_type=sa.String)
    is_ended: bool = Field(sa_type=sa.Boolean)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class ConsentRow(SQLModel, table=True):
    """What was allowed for one use, from `seq` on."""

    __tablename__: ClassVar[Any] = "consent"
    work_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    use: str = Field(primary_key=True, sa_type=sa.String)
    verdict: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class AttestationRow(SQLModel, table=True):
    """That somebody said a text is theirs, or nobody's: which statement, about which text, and when."""

    __tablename__: ClassVar[Any] = "attestation"
    work_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    statement: str = Field(sa_type=sa.String)
    statement_sha256: str = Field(sa_type=sa.String)
    text_sha256: str = Field(sa_type=sa.String)
    attested_by: str = Field(sa_type=sa.String)
    on_behalf_of: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class WorkIdentifierRow(SQLModel, table=True):
    """An identifier verified for a work, or that verification taken back, from `seq` on."""

    __tablename__: ClassVar[Any] = "work_identifier"
    __table_args__ = (sa.Index("ix_work_identifier_scheme_value", "scheme", "value"),)
    work_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    scheme: str = Field(sa_type=sa.String)
    value: str = Field(sa_type=sa.String)
    state: str = Field(sa_type=sa.String)
    reason: str = Field(sa_type=sa.String)
    decided_by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class ClaimRow(SQLModel, table=True):
    """Somebody says that a work is theirs; `evidence` is a JSON list of addresses, never fetched."""

    __tablename__: ClassVar[Any] = "claim"
    id: str = Field(primary_key=True, sa_type=sa.String)
    work_id: str = Field(sa_type=sa.String, foreign_key="work.id", index=True)
    claimant: str = Field(sa_type=sa.String, foreign_key="creator.id")
    basis: str = Field(sa_type=sa.Text)
    evidence: str = Field(sa_type=sa.Text)
    opened_by: str = Field(sa_type=sa.String)
    opened_us: int = Field(sa_type=sa.BigInteger)
    opened_seq: int = Field(sa_type=sa.BigInteger)


class ClaimDecisionRow(SQLModel, table=True):
    """What became of a claim; one row a claim, so that it is decided once."""

    __tablename__: ClassVar[Any] = "claim_decision"
    claim_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="claim.id")
    outcome: str = Field(sa_type=sa.String)
    reason: str = Field(sa_type=sa.String)
    decided_by: str = Field(sa_type=sa.String)
    decided_us: int = Field(sa_type=sa.BigInteger)
    seq: int = Field(sa_type=sa.BigInteger)


class ReviewRow(SQLModel, table=True):
    """The review queue's history: an index held a work up or let it go, somebody released or upheld it."""

    __tablename__: ClassVar[Any] = "review"
    work_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    decision: str = Field(sa_type=sa.String)
    kind: str = Field(sa_type=sa.String)
    reason: str = Field(sa_type=sa.String)
    other_work: str = Field(sa_type=sa.String)
    part_ppm: int = Field(sa_type=sa.BigInteger)
    decided_by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class AskedTermRow(SQLModel, table=True):
    """One word of a creator's, or one agreed with them. value: grains, or words; none ends what was said."""

    __tablename__: ClassVar[Any] = "asked_term"
    seq: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    scope: str = Field(sa_type=sa.String)
    scope_id: str = Field(sa_type=sa.String, index=True)
    kind: str = Field(sa_type=sa.String)
    value: int | None = Field(sa_type=sa.BigInteger)
    currency: str = Field(sa_type=sa.String)
    why: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class ErasureRow(SQLModel, table=True):
    """Who, or which work's text, was erased: what history may then forget of them; append-only."""

    __tablename__: ClassVar[Any] = "erasure"
    kind: str = Field(primary_key=True, sa_type=sa.String)
    id: str = Field(primary_key=True, sa_type=sa.String)
    seq: int = Field(sa_type=sa.BigInteger)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class ShownNameRow(SQLModel, table=True):
    """The name by which a creator wants to be credited, where it is another; older ones are not kept."""

    __tablename__: ClassVar[Any] = "shown_name"
    creator_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="creator.id")
    name: str = Field(sa_type=sa.String)
    seq: int = Field(sa_type=sa.BigInteger, index=True)
