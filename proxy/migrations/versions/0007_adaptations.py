"""What a work that was made from others owes to them, by the licence it states."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0007_adaptations"
down_revision = "0006_made"
branch_labels = None
depends_on = None


def upgrade() -> None:
    checks = [sa.CheckConstraint("ppm BETWEEN 0 AND 1000000", name=op.f("ck_adaptation_ppm"))]
    if op.get_bind().dialect.name == "sqlite":  # PostgreSQL's BIGINT takes nothing else
        checks.append(sa.CheckConstraint("typeof(ppm) = 'integer'", name=op.f("ck_adaptation_type")))
    op.create_table(
        "adaptation",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("original_id", sa.String, nullable=False),
        sa.Column("ppm", sa.BigInteger, nullable=False),
        sa.Column("decided_by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("work_id", "seq", "original_id", name=op.f("pk_adaptation")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_adaptation_work_id_work")),
        sa.ForeignKeyConstraint(["original_id"], ["work.id"], name=op.f("fk_adaptation_original_id_work")),
        *checks,
    )
    append_only(
        "adaptation",
        key="work_id = NEW.work_id AND seq = NEW.seq AND original_id = NEW.original_id",
        columns=("ppm", "decided_by", "at_us"),
    )


def downgrade() -> None:
    op.drop_table("adaptation")
