"""The tables of money: accounts, transfers with their entries, periods and statements.

They are as the migrations made them; what may never change has triggers that refuse it. What a row means is
told by the code that writes it (store.py).
"""

from __future__ import annotations

from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel


class AccountRow(SQLModel, table=True):
    """One account in one currency."""

    __tablename__: ClassVar[Any] = "account"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("code", "currency"),)
    id: int | None = Field(
        default=None,
        sa_column=sa.Column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    )
    code: str = Field(sa_type=sa.String)
    currency: str = Field(sa_type=sa.String)
    normal: str = Field(sa_type=sa.String)


class TransferRow(SQLModel, table=True):
    """One booking; append-only."""

    __tablename__: ClassVar[Any] = "transfer"
    id: str = Field(primary_key=True, sa_type=sa.String)
    kind: str = Field(sa_type=sa.String)
    currency: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)
    period_label: str = Field(sa_type=sa.String, index=True)
    ref: str = Field(sa_type=sa.String)


class EntryRow(SQLModel, table=True):
    """One side of a booking; append-only."""

    __tablename__: ClassVar[Any] = "entry"
    transfer_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="transfer.id")
    ord: int = Field(primary_key=True, sa_type=sa.BigInteger)
    account_id: int = Field(sa_type=sa.BigInteger, foreign_key="account.id", index=True)
    side: str = Field(sa_type=sa.String)
    amount: int = Field(sa_type=sa.BigInteger)


class ReportedRow(SQLModel, table=True):
    """Which statements told of a transfer that no close booked: those of one period, once; append-only."""

    __tablename__: ClassVar[Any] = "reported_transfer"
    transfer_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="transfer.id")
    period_label: str = Field(sa_type=sa.String, foreign_key="period.label")


class PeriodRow(SQLModel, table=True):
    """One closed period; append-only. `totals` is JSON with the basis and the charges by app."""

    __tablename__: ClassVar[Any] = "period"
    label: str = Field(primary_key=True, sa_type=sa.String)
    seq: int = Field(sa_type=sa.BigInteger, unique=True)
    state: str = Field(sa_type=sa.String)
    currency: str = Field(sa_type=sa.String)
    start_bounds: str = Field(sa_type=sa.Text)
    end_bounds: str = Field(sa_type=sa.Text)
    closed_us: int = Field(sa_type=sa.BigInteger)
    totals: str = Field(sa_type=sa.Text)
    manifest_sha256: str = Field(sa_type=sa.String)


class StatementRow(SQLModel, table=True):
    """One creator's statement; append-only. `body` is the statement itself (kept.py)."""

    __tablename__: ClassVar[Any] = "statement"
    id: str = Field(primary_key=True, sa_type=sa.String)
    period_label: str = Field(sa_type=sa.String, foreign_key="period.label", index=True)
    creator_id: str = Field(sa_type=sa.String, index=True)
    currency: str = Field(sa_type=sa.String)
    opening: int = Field(sa_type=sa.BigInteger)
    earned: int = Field(sa_type=sa.BigInteger)
    closing: int = Field(sa_type=sa.BigInteger)
    lines_sha256: str = Field(sa_type=sa.String)
    body: str = Field(sa_type=sa.Text)
