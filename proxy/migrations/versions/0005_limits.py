"""What keys and apps may use, and budgets with their reservations: state, not history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_limits"
down_revision = "0004_ownership"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_limit",
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_limit")),
        sa.ForeignKeyConstraint(["key_id"], ["key.id"], name=op.f("fk_key_limit_key_id_key")),
    )
    op.create_table(
        "app_limit",
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("requests_per_min", sa.BigInteger, nullable=False),
        sa.Column("tokens_per_min", sa.BigInteger, nullable=False),
        sa.Column("budget_grains", sa.BigInteger, nullable=True),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("origins", sa.Text, nullable=False),
        sa.Column("known_endpoints_only", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("app_id", name=op.f("pk_app_limit")),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_app_limit_app_id_app")),
        sa.CheckConstraint(
            "requests_per_min >= 0 AND tokens_per_min >= 0 AND (budget_grains IS NULL OR budget_grains >= 0)",
            name=op.f("ck_app_limit_positive"),
        ),
    )
    checks = [
        sa.CheckConstraint("spent_grains >= 0 AND held_grains >= 0", name=op.f("ck_budget_month_positive"))
    ]
    if op.get_bind().dialect.name == "sqlite":  # PostgreSQL's BIGINT takes nothing else
        integers = "typeof(spent_grains) = 'integer' AND typeof(held_grains) = 'integer'"
        checks.append(sa.CheckConstraint(integers, name=op.f("ck_budget_month_type")))
    op.create_table(
        "budget_month",
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("month", sa.String, nullable=False),
        sa.Column("spent_grains", sa.BigInteger, nullable=False),
        sa.Column("held_grains", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("app_id", "month", name=op.f("pk_budget_month")),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_budget_month_app_id_app")),
        *checks,
    )
    op.create_table(
        "budget_hold",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("month", sa.String, nullable=False),
        sa.Column("grains", sa.BigInteger, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budget_hold")),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_budget_hold_app_id_app")),
        sa.CheckConstraint("grains >= 0", name=op.f("ck_budget_hold_grains")),
    )
    op.create_index(op.f("ix_budget_hold_at_us"), "budget_hold", ["at_us"])


def downgrade() -> None:
    for table in ("budget_hold", "budget_month", "app_limit", "key_limit"):
        op.drop_table(table)
