"""Appeals of creators against the hold of a work, and what answered them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027_appeals"
down_revision = "0026_agreements"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "appeal",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("due_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("work_id", "seq", name=op.f("pk_appeal")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_appeal_work_id_work")),
        sa.ForeignKeyConstraint(["creator_id"], ["creator.id"], name=op.f("fk_appeal_creator_id_creator")),
    )


def downgrade() -> None:
    op.drop_table("appeal")
