"""Who is signed in to the pages, and links that sign in once: state, and hashes of what opens them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018_sessions"
down_revision = "0017_log"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "portal_session",
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=True),
        sa.Column("app_id", sa.String, nullable=True),
        sa.Column("creator_id", sa.String, nullable=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("begun_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_portal_session")),
        sa.ForeignKeyConstraint(["key_id"], ["key.id"], name=op.f("fk_portal_session_key_id_key")),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_portal_session_app_id_app")),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["creator.id"], name=op.f("fk_portal_session_creator_id_creator")
        ),
    )
    op.create_index(op.f("ix_portal_session_creator_id"), "portal_session", ["creator_id"])
    op.create_index(op.f("ix_portal_session_until_us"), "portal_session", ["until_us"])
    op.create_table(
        "portal_link",
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("creator_id", sa.String, nullable=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("made_by", sa.String, nullable=False),
        sa.Column("made_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("used_us", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_portal_link")),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["creator.id"], name=op.f("fk_portal_link_creator_id_creator")
        ),
    )
    op.create_index(op.f("ix_portal_link_creator_id"), "portal_link", ["creator_id"])
    op.create_index(op.f("ix_portal_link_until_us"), "portal_link", ["until_us"])


def downgrade() -> None:
    op.drop_table("portal_link")
    op.drop_table("portal_session")
