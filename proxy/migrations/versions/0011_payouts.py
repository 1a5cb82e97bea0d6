"""Creators' accounts (sealed), tax profiles, holds; payout batches, their payments, what became of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0011_payouts"
down_revision = "0010_reported"
branch_labels = None
depends_on = None


def _of_creator(table: str, *columns: sa.Column[object], checks: tuple[sa.CheckConstraint, ...] = ()) -> None:
    """A table of versions of something about a creator."""
    op.create_table(
        table,
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        *columns,
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("creator_id", "version", name=op.f(f"pk_{table}")),
        sa.ForeignKeyConstraint(["creator_id"], ["creator.id"], name=op.f(f"fk_{table}_creator_id_creator")),
        *checks,
    )


def upgrade() -> None:
    minimum = [sa.CheckConstraint("minimum >= 0", name=op.f("ck_payee_account_minimum"))]
    if op.get_bind().dialect.name == "sqlite":  # PostgreSQL's BIGINT takes nothing else
        minimum.append(sa.CheckConstraint("typeof(minimum) = 'integer'", name=op.f("ck_payee_account_type")))
    _of_creator(
        "payee_account",
        sa.Column("rail", sa.String, nullable=False),
        sa.Column("last4", sa.String, nullable=False),
        sa.Column("minimum", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        checks=tuple(minimum),
    )
    _of_creator(
        "tax_profile",
        sa.Column("form", sa.String, nullable=False),
        sa.Column("country", sa.String, nullable=False),
        sa.Column("treaty_ppm", sa.BigInteger, nullable=True),
        sa.Column("valid_from", sa.String, nullable=False),
        sa.Column("valid_to", sa.String, nullable=False),
        checks=(sa.CheckConstraint("treaty_ppm BETWEEN 0 AND 1000000", name=op.f("ck_tax_profile_treaty")),),
    )
    _of_creator(
        "payee_hold",
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
    )
    op.create_table(
        "payout_batch",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("rail", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout_batch")),
    )
    op.create_table(
        "payout",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("batch_id", sa.String, nullable=False),
        sa.Column("creator_id", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout")),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["payout_batch.id"], name=op.f("fk_payout_batch_id_payout_batch")
        ),
    )
    op.create_index(op.f("ix_payout_batch_id"), "payout", ["batch_id"])
    op.create_index(op.f("ix_payout_creator_id"), "payout", ["creator_id"])
    op.create_table(
        "payout_event",
        sa.Column("batch_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("payout_id", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "seq", name=op.f("pk_payout_event")),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["payout_batch.id"], name=op.f("fk_payout_event_batch_id_payout_batch")
        ),
        sa.CheckConstraint(
            "kind IN ('created', 'approved', 'exported', 'cancelled', 'settled', 'returned')",
            name=op.f("ck_payout_event_kind"),
        ),
    )
    versioned = "creator_id = NEW.creator_id AND version = NEW.version"
    append_only("payee_account", key=versioned, columns=("rail", "sealed", "minimum", "currency"))
    append_only(
        "tax_profile", key=versioned, columns=("form", "country", "treaty_ppm", "valid_from", "valid_to")
    )
    append_only("payee_hold", key=versioned, columns=("held", "reason"))
    append_only("payout_batch", key="id = NEW.id", columns=("rail", "currency", "body"))
    append_only("payout", key="id = NEW.id", columns=("batch_id", "creator_id"))
    append_only(
        "payout_event",
        key="batch_id = NEW.batch_id AND seq = NEW.seq",
        columns=("kind", "payout_id", "detail", "by", "at_us"),
    )


def downgrade() -> None:
    for table in ("payout_event", "payout", "payout_batch", "payee_hold", "tax_profile", "payee_account"):
        op.drop_table(table)
