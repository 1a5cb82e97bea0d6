"""Uses by day, summed as they come, for pages: state that can be made anew from the log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020_uses"
down_revision = "0019_privacy"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "daily_use",
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("day", sa.String, nullable=False),
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("ppm", sa.BigInteger, nullable=False),
        sa.Column("prohibited", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("creator_id", "day", "app_id", "model", name=op.f("pk_daily_use")),
    )
    op.create_table(
        "work_use",
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("ppm", sa.BigInteger, nullable=False),
        sa.Column("last_day", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("creator_id", "work_id", name=op.f("pk_work_use")),
    )
    op.create_index("ix_work_use_creator_id_answers", "work_use", ["creator_id", "answers"])
    op.create_table(
        "use_mark",
        sa.Column("shard_id", sa.String, nullable=False),
        sa.Column("next_index", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("shard_id", name=op.f("pk_use_mark")),
    )


def downgrade() -> None:
    for table in ("use_mark", "work_use", "daily_use"):
        op.drop_table(table)
