"""Accounts at identity providers that are linked with people here, and sign-ins under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030_identities"
down_revision = "0029_links"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "oidc_identity",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("issuer", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("creator_id", sa.String, nullable=True),
        sa.Column("app_id", sa.String, nullable=True),
        sa.Column("key_id", sa.String, nullable=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("linked_by", sa.String, nullable=False),
        sa.Column("linked_us", sa.BigInteger, nullable=False),
        sa.Column("used_us", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oidc_identity")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_oidc_identity_issuer_subject")),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["creator.id"], name=op.f("fk_oidc_identity_creator_id_creator")
        ),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_oidc_identity_app_id_app")),
        sa.ForeignKeyConstraint(["key_id"], ["key.id"], name=op.f("fk_oidc_identity_key_id_key")),
    )
    op.create_index(op.f("ix_oidc_identity_creator_id"), "oidc_identity", ["creator_id"])
    op.create_table(
        "oidc_flow",
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("provider", sa.String, nullable=False),
        sa.Column("session", sa.String, nullable=False),
        sa.Column("back", sa.String, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_oidc_flow")),
    )
    op.create_index(op.f("ix_oidc_flow_until_us"), "oidc_flow", ["until_us"])
    op.add_column("portal_session", sa.Column("identity_id", sa.String, nullable=True))


def downgrade() -> None:
    op.drop_column("portal_session", "identity_id")
    op.drop_table("oidc_flow")
    op.drop_table("oidc_identity")
