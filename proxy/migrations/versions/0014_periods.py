"""Until when creators may comment on a closed period, and what was said about statements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0014_periods"
down_revision = "0013_policies"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "period_window",
        sa.Column("period_label", sa.String, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("period_label", name=op.f("pk_period_window")),
        sa.ForeignKeyConstraint(
            ["period_label"], ["period.label"], name=op.f("fk_period_window_period_label_period")
        ),
    )
    op.create_table(
        "statement_comment",
        sa.Column("statement_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("side", sa.String, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("statement_id", "seq", name=op.f("pk_statement_comment")),
        sa.ForeignKeyConstraint(
            ["statement_id"], ["statement.id"], name=op.f("fk_statement_comment_statement_id_statement")
        ),
        sa.CheckConstraint("side IN ('creator', 'operator')", name=op.f("ck_statement_comment_side")),
    )
    append_only("period_window", key="period_label = NEW.period_label", columns=("until_us",))
    append_only(
        "statement_comment",
        key="statement_id = NEW.statement_id AND seq = NEW.seq",
        columns=("side", "text", "by", "at_us"),
    )


def downgrade() -> None:
    for table in ("statement_comment", "period_window"):
        op.drop_table(table)
