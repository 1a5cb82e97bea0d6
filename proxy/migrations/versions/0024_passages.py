"""Which passages of works answers drew on: counts by month and ever, by cell of a text, app and model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024_passages"
down_revision = "0023_lines"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "passage_use",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("month", sa.String, nullable=False),
        sa.Column("cell", sa.BigInteger, nullable=False),
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("work_id", "month", "cell", "app_id", "model", name=op.f("pk_passage_use")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("passage_use")
