"""Which apps' exchanges may be kept for the causal audit: none, until an operator says so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008_audited"
down_revision = "0007_adaptations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("app_limit", sa.Column("audited", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table("app_limit") as table:
        table.drop_column("audited")
