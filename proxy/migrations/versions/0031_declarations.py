"""What creators declare for tax themselves, and whether an operator accepted it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0031_declarations"
down_revision = "0030_identities"
branch_labels = None
depends_on = None


def upgrade() -> None:
    checks = [
        sa.CheckConstraint("version > 0", name=op.f("ck_tax_declaration_version")),
        sa.CheckConstraint(
            "state IN ('given', 'accepted', 'refused')", name=op.f("ck_tax_declaration_state")
        ),
        sa.CheckConstraint("treaty_ppm BETWEEN 0 AND 1000000", name=op.f("ck_tax_declaration_treaty_ppm")),
    ]
    if op.get_bind().dialect.name == "sqlite":  # PostgreSQL's BIGINT takes nothing else
        is_integer = "typeof(treaty_ppm) IN ('integer', 'null')"
        checks.append(sa.CheckConstraint(is_integer, name=op.f("ck_tax_declaration_type")))
    op.create_table(
        "tax_declaration",
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("form", sa.String, nullable=False),
        sa.Column("country", sa.String, nullable=False),
        sa.Column("treaty_ppm", sa.BigInteger, nullable=True),
        sa.Column("valid_from", sa.String, nullable=False),
        sa.Column("valid_to", sa.String, nullable=False),
        sa.Column("why", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("creator_id", "version", name=op.f("pk_tax_declaration")),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["creator.id"], name=op.f("fk_tax_declaration_creator_id_creator")
        ),
        *checks,
    )
    append_only(
        "tax_declaration",
        key="creator_id = NEW.creator_id AND version = NEW.version",
        columns=("state", "form", "country", "treaty_ppm", "valid_from", "valid_to", "why", "by", "at_us"),
    )


def downgrade() -> None:
    op.drop_table("tax_declaration")
