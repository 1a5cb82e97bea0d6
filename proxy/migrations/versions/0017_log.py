"""The transparency log: entries, complete subtrees, and how far it reaches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0017_log"
down_revision = "0016_disputes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "log_entry",
        sa.Column("idx", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("ref", sa.String, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_log_entry")),
        sa.UniqueConstraint("ref", name=op.f("uq_log_entry_ref")),
        sa.CheckConstraint("kind IN ('receipt', 'manifest')", name=op.f("ck_log_entry_kind")),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_log_entry_digest")),
    )
    op.create_table(
        "log_node",
        sa.Column("level", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("idx", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("level", "idx", name=op.f("pk_log_node")),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_log_node_digest")),
    )
    state = op.create_table(
        "log_state",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("subtrees", sa.LargeBinary, nullable=False),
        sa.Column("positions", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_state")),
        sa.CheckConstraint("id = 1", name=op.f("ck_log_state_id")),
    )
    # An empty log: so appending is always a change of what is there, which only one of two can make.
    op.bulk_insert(state, [{"id": 1, "size": 0, "subtrees": b"", "positions": "{}"}])
    append_only("log_entry", key="idx = NEW.idx", columns=("kind", "ref", "digest"))
    append_only("log_node", key="level = NEW.level AND idx = NEW.idx", columns=("digest",))


def downgrade() -> None:
    for table in ("log_state", "log_node", "log_entry"):
        op.drop_table(table)
