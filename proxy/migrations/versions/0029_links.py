"""Links between works: that one is a recording, an excerpt or a translation of another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0029_links"
down_revision = "0028_changes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "work_link",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("of_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("is_ended", sa.Boolean, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("work_id", "seq", name=op.f("pk_work_link")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_work_link_work_id_work")),
        sa.ForeignKeyConstraint(["of_id"], ["work.id"], name=op.f("fk_work_link_of_id_work")),
        sa.CheckConstraint("work_id <> of_id", name=op.f("ck_work_link_other")),
        sa.CheckConstraint(
            "kind IN ('recording_of', 'excerpt_of', 'translation_of')", name=op.f("ck_work_link_kind")
        ),
    )
    op.create_index(op.f("ix_work_link_of_id"), "work_link", ["of_id"])
    append_only(
        "work_link",
        key="work_id = NEW.work_id AND seq = NEW.seq",
        columns=("of_id", "kind", "is_ended", "by", "at_us"),
    )


def downgrade() -> None:
    op.drop_table("work_link")
