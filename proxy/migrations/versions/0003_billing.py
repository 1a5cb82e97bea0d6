"""Accounts, transfers with their entries, closed periods and statements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0003_billing"
down_revision = "0002_metering"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("normal", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("code", "currency", name=op.f("uq_account_code_currency")),
        sa.CheckConstraint("normal IN ('D', 'C')", name=op.f("ck_account_normal")),
    )
    op.create_table(
        "transfer",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("period_label", sa.String, nullable=False),
        sa.Column("ref", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfer")),
    )
    op.create_index(op.f("ix_transfer_period_label"), "transfer", ["period_label"])
    checks = [
        sa.CheckConstraint("amount > 0", name=op.f("ck_entry_amount")),
        sa.CheckConstraint("side IN ('D', 'C')", name=op.f("ck_entry_side")),
    ]
    if op.get_bind().dialect.name == "sqlite":  # PostgreSQL's BIGINT takes nothing else
        checks.append(sa.CheckConstraint("typeof(amount) = 'integer'", name=op.f("ck_entry_amount_type")))
    op.create_table(
        "entry",
        sa.Column("transfer_id", sa.String, nullable=False),
        sa.Column("ord", sa.BigInteger, nullable=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("side", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("transfer_id", "ord", name=op.f("pk_entry")),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfer.id"], name=op.f("fk_entry_transfer_id_transfer")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_entry_account_id_account")),
        *checks,
    )
    op.create_index(op.f("ix_entry_account_id"), "entry", ["account_id"])
    op.create_table(
        "period",
        sa.Column("label", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("start_bounds", sa.Text, nullable=False),
        sa.Column("end_bounds", sa.Text, nullable=False),
        sa.Column("closed_us", sa.BigInteger, nullable=False),
        sa.Column("totals", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("label", name=op.f("pk_period")),
        sa.UniqueConstraint("seq", name=op.f("uq_period_seq")),
    )
    op.create_table(
        "statement",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("period_label", sa.String, nullable=False),
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("opening", sa.BigInteger, nullable=False),
        sa.Column("earned", sa.BigInteger, nullable=False),
        sa.Column("closing", sa.BigInteger, nullable=False),
        sa.Column("lines_sha256", sa.String, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statement")),
        sa.ForeignKeyConstraint(
            ["period_label"], ["period.label"], name=op.f("fk_statement_period_label_period")
        ),
    )
    op.create_index(op.f("ix_statement_period_label"), "statement", ["period_label"])
    op.create_index(op.f("ix_statement_creator_id"), "statement", ["creator_id"])
    append_only("account", key="id = NEW.id", columns=("code", "currency", "normal"))
    append_only("transfer", key="id = NEW.id", columns=("kind", "currency", "at_us", "period_label", "ref"))
    append_only(
        "entry",
        key="transfer_id = NEW.transfer_id AND ord = NEW.ord",
        columns=("account_id", "side", "amount"),
    )
    append_only(
        "period", key="label = NEW.label", columns=("seq", "start_bounds", "end_bounds", "manifest_sha256")
    )
    append_only(
        "statement", key="id = NEW.id", columns=("period_label", "creator_id", "lines_sha256", "body")
    )


def downgrade() -> None:
    for table in ("statement", "period", "entry", "transfer", "account"):
        op.drop_table(table)
