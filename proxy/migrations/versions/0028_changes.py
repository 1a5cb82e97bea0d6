"""The log may hold batches of the registry's changes.

SQLite cannot change a table's checks: the table is copied, a second for each half a million entries.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0028_changes"
down_revision = "0027_appeals"
branch_labels = None
depends_on = None

_OLD, _NEW = "kind IN ('receipt', 'manifest')", "kind IN ('receipt', 'manifest', 'changes')"


def upgrade() -> None:
    _check(_NEW)


def downgrade() -> None:
    """Go back. Fails where the log holds such batches: what is in it stays in it."""
    _check(_OLD)


def _check(kinds: str) -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(op.f("ck_log_entry_kind"), "log_entry", type_="check")
        op.create_check_constraint(op.f("ck_log_entry_kind"), "log_entry", kinds)
        return
    op.create_table(
        "log_entry_new",
        sa.Column("idx", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("ref", sa.String, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_log_entry")),
        sa.UniqueConstraint("ref", name=op.f("uq_log_entry_ref")),
        sa.CheckConstraint(kinds, name=op.f("ck_log_entry_kind")),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_log_entry_digest")),
    )
    op.execute("INSERT INTO log_entry_new SELECT idx, kind, ref, digest FROM log_entry ORDER BY idx")
    op.drop_table("log_entry")  # and its triggers
    op.rename_table("log_entry_new", "log_entry")
    append_only("log_entry", key="idx = NEW.idx", columns=("kind", "ref", "digest"))
