"""Revenue that was declared for pools, and what became of common money."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0015_pools"
down_revision = "0014_periods"
branch_labels = None
depends_on = None


def _by() -> tuple[sa.Column[str], sa.Column[int]]:
    return sa.Column("by", sa.String, nullable=False), sa.Column("at_us", sa.BigInteger, nullable=False)


def _integers(table: str, *columns: str) -> list[sa.CheckConstraint]:
    # PostgreSQL's BIGINT takes nothing else.
    if op.get_bind().dialect.name != "sqlite":
        return []
    said = " AND ".join(f"typeof({column}) IN ('integer', 'null')" for column in columns)
    return [sa.CheckConstraint(said, name=op.f(f"ck_{table}_type"))]


def _decision(table: str, of: str, outcomes: tuple[str, ...]) -> None:
    key = f"{of}_id"
    op.create_table(
        table,
        sa.Column(key, sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        *_by(),
        sa.PrimaryKeyConstraint(key, name=op.f(f"pk_{table}")),
        sa.ForeignKeyConstraint([key], [f"{of}.id"], name=op.f(f"fk_{table}_{key}_{of}")),
        sa.CheckConstraint(
            f"outcome IN ({', '.join(repr(one) for one in outcomes)})", name=op.f(f"ck_{table}_outcome")
        ),
    )
    append_only(table, key=f"{key} = NEW.{key}", columns=("outcome", "by", "at_us"))


def upgrade() -> None:
    op.create_table(
        "pool_revenue",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("period_label", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("users", sa.BigInteger, nullable=True),
        sa.Column("why", sa.String, nullable=False),
        *_by(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pool_revenue")),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_pool_revenue_app_id_app")),
        sa.CheckConstraint("kind IN ('subscription', 'ads', 'other')", name=op.f("ck_pool_revenue_kind")),
        sa.CheckConstraint("users >= 0", name=op.f("ck_pool_revenue_users")),
        *_integers("pool_revenue", "amount", "users"),
    )
    op.create_index(op.f("ix_pool_revenue_period_label"), "pool_revenue", ["period_label"])
    op.create_table(
        "distribution",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("period_label", sa.String, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        *_by(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_distribution")),
        sa.ForeignKeyConstraint(
            ["period_label"], ["period.label"], name=op.f("fk_distribution_period_label_period")
        ),
    )
    op.create_index(op.f("ix_distribution_period_label"), "distribution", ["period_label"])
    append_only(
        "pool_revenue",
        key="id = NEW.id",
        columns=("app_id", "period_label", "kind", "amount", "currency", "users"),
    )
    append_only("distribution", key="id = NEW.id", columns=("period_label", "body"))
    _decision("pool_revenue_decision", "pool_revenue", ("approved", "withdrawn"))
    _decision("distribution_decision", "distribution", ("approved", "cancelled"))


def downgrade() -> None:
    for table in ("distribution_decision", "pool_revenue_decision", "distribution", "pool_revenue"):
        op.drop_table(table)
