"""Licences and rights signals as they were read, their files, and when they ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0009_licences"
down_revision = "0008_audited"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "licence_file",
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("raw_zlib", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_licence_file")),
    )
    op.create_table(
        "licence",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("scope_id", sa.String, nullable=False),
        sa.Column("about", sa.String, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("unread", sa.Text, nullable=False),
        sa.Column("file_sha256", sa.String, nullable=False),
        sa.Column("origin", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_licence")),
        sa.CheckConstraint("scope IN ('work', 'creator')", name=op.f("ck_licence_scope")),
    )
    op.create_index(op.f("ix_licence_scope_id"), "licence", ["scope_id"])
    op.create_table(
        "licence_end",
        sa.Column("licence_id", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("licence_id", name=op.f("pk_licence_end")),
        sa.ForeignKeyConstraint(
            ["licence_id"], ["licence.id"], name=op.f("fk_licence_end_licence_id_licence")
        ),
    )
    append_only("licence_file", key="sha256 = NEW.sha256", columns=("raw_zlib",))
    append_only("licence", key="id = NEW.id", columns=("scope_id", "terms", "file_sha256", "seq"))
    append_only("licence_end", key="licence_id = NEW.licence_id", columns=("at_us", "seq"))


def downgrade() -> None:
    for table in ("licence_end", "licence", "licence_file"):
        op.drop_table(table)
