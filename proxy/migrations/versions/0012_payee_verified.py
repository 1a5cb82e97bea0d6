"""Whose account it is, checked by an operator: a row for each version of an account that was checked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0012_payee_verified"
down_revision = "0011_payouts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "payee_verified",
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("creator_id", "version", name=op.f("pk_payee_verified")),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["creator.id"], name=op.f("fk_payee_verified_creator_id_creator")
        ),
    )
    append_only(
        "payee_verified", key="creator_id = NEW.creator_id AND version = NEW.version", columns=("by", "at_us")
    )


def downgrade() -> None:
    op.drop_table("payee_verified")
