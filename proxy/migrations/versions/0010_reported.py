"""Which statements told of a transfer that no close booked: a payout, a hold, a correction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0010_reported"
down_revision = "0009_licences"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reported_transfer",
        sa.Column("transfer_id", sa.String, nullable=False),
        sa.Column("period_label", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("transfer_id", name=op.f("pk_reported_transfer")),
        sa.ForeignKeyConstraint(
            ["transfer_id"], ["transfer.id"], name=op.f("fk_reported_transfer_transfer_id_transfer")
        ),
        sa.ForeignKeyConstraint(
            ["period_label"], ["period.label"], name=op.f("fk_reported_transfer_period_label_period")
        ),
    )
    append_only("reported_transfer", key="transfer_id = NEW.transfer_id", columns=("period_label",))


def downgrade() -> None:
    op.drop_table("reported_transfer")
