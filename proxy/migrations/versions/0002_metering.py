"""Usage as it was journalled: events, their shares, and how far each journal shard has been carried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0002_metering"
down_revision = "0001_registry"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shard",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("next_index", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shard")),
        sa.CheckConstraint("next_index >= 0", name=op.f("ck_shard_next_index")),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("shard_id", sa.String, nullable=False),
        sa.Column("idx", sa.BigInteger, nullable=False),
        sa.Column("occurred_us", sa.BigInteger, nullable=False),
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("endpoint", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("output_digest", sa.String, nullable=False),
        sa.Column("subject_digest", sa.String, nullable=False),
        sa.Column("price_version", sa.String, nullable=False),
        sa.Column("price_grains", sa.BigInteger, nullable=True),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("body_sha256", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.CheckConstraint("outcome IN ('complete', 'cut', 'failed')", name=op.f("ck_event_outcome")),
        sa.CheckConstraint("input_tokens >= 0 AND output_tokens >= 0", name=op.f("ck_event_tokens")),
    )
    op.create_index(op.f("ix_event_occurred_us_id"), "event", ["occurred_us", "id"])
    op.create_table(
        "attributed",
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("shard_id", sa.String, nullable=False),
        sa.Column("idx", sa.BigInteger, nullable=False),
        sa.Column("unattributed_ppm", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("registry_seq", sa.BigInteger, nullable=False),
        sa.Column("body_sha256", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_attributed")),
        sa.UniqueConstraint("shard_id", "idx", name=op.f("uq_attributed_shard_id_idx")),
        sa.CheckConstraint("unattributed_ppm BETWEEN 0 AND 1000000", name=op.f("ck_attributed_unattributed")),
    )
    op.create_table(
        "event_line",
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("ord", sa.BigInteger, nullable=False),
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("ppm", sa.BigInteger, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("event_id", "ord", name=op.f("pk_event_line")),
        sa.ForeignKeyConstraint(
            ["event_id"], ["attributed.event_id"], name=op.f("fk_event_line_event_id_attributed")
        ),
        sa.CheckConstraint("ppm BETWEEN 1 AND 1000000", name=op.f("ck_event_line_ppm")),
        sa.CheckConstraint("verdict IN ('paid', 'free', 'prohibited')", name=op.f("ck_event_line_verdict")),
        sqlite_with_rowid=False,  # its key is its content: half the writes
    )
    append_only("event", key="id = NEW.id", columns=("body_sha256",))
    append_only("attributed", key="event_id = NEW.event_id", columns=("body_sha256",))
    append_only(
        "event_line", key="event_id = NEW.event_id AND ord = NEW.ord", columns=("work_id", "ppm", "verdict")
    )
