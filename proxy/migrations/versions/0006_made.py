"""Which app made what at which backend, so that it is fetched there and by nobody else: state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006_made"
down_revision = "0005_limits"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "made",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", "app_id", name=op.f("pk_made")),
    )
    op.create_index(op.f("ix_made_until_us"), "made", ["until_us"])


def downgrade() -> None:
    op.drop_table("made")
