"""What is signed of each period, and the trees of who was paid and charged in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0021_manifests"
down_revision = "0020_uses"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "manifest",
        sa.Column("period_label", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("jws", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("payees", sa.BigInteger, nullable=False),
        sa.Column("apps", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("period_label", name=op.f("pk_manifest")),
        sa.UniqueConstraint("seq", name=op.f("uq_manifest_seq")),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_manifest_digest")),
    )
    op.create_table(
        "sum_chunk",
        sa.Column("period_label", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("level", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("nodes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("period_label", "kind", "level", "number", name=op.f("pk_sum_chunk")),
        sa.ForeignKeyConstraint(
            ["period_label"], ["manifest.period_label"], name=op.f("fk_sum_chunk_period_label_manifest")
        ),
        sa.CheckConstraint("kind IN ('payee', 'app')", name=op.f("ck_sum_chunk_kind")),
    )
    append_only(
        "manifest", key="period_label = NEW.period_label", columns=("seq", "jws", "digest", "payees", "apps")
    )
    place = " AND ".join(f"{name} = NEW.{name}" for name in ("period_label", "kind", "level", "number"))
    append_only("sum_chunk", key=place, columns=("nodes",))


def downgrade() -> None:
    for table in ("sum_chunk", "manifest"):
        op.drop_table(table)
