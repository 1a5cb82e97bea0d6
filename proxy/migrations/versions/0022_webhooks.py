"""Addresses that are told what happened, and what each was told or is still to be."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022_webhooks"
down_revision = "0021_manifests"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("kinds", sa.String, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger, nullable=True),
        sa.Column("period_seq", sa.BigInteger, nullable=False),
        sa.Column("final_seq", sa.BigInteger, nullable=False),
        sa.Column("registry_seq", sa.BigInteger, nullable=False),
        sa.Column("seen_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
    )
    op.create_table(
        "webhook_message",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("webhook_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("made_us", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("next_us", sa.BigInteger, nullable=True),
        sa.Column("done_us", sa.BigInteger, nullable=True),
        sa.Column("answer", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_message")),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhook.id"], name=op.f("fk_webhook_message_webhook_id_webhook")
        ),
    )
    op.create_index(op.f("ix_webhook_message_next_us"), "webhook_message", ["next_us"])
    op.create_index(op.f("ix_webhook_message_webhook_id"), "webhook_message", ["webhook_id"])


def downgrade() -> None:
    op.drop_table("webhook_message")
    op.drop_table("webhook")
