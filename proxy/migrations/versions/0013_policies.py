"""Rules by which money is divided, from when each holds, and what works ask for by themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0013_policies"
down_revision = "0012_payee_verified"
branch_labels = None
depends_on = None


def _by() -> tuple[sa.Column[str], sa.Column[int]]:
    return sa.Column("by", sa.String, nullable=False), sa.Column("at_us", sa.BigInteger, nullable=False)


def _integers(table: str, *columns: str) -> list[sa.CheckConstraint]:
    # PostgreSQL's BIGINT takes nothing else.
    if op.get_bind().dialect.name != "sqlite":
        return []
    said = " AND ".join(f"typeof({column}) IN ('integer', 'null')" for column in columns)
    return [sa.CheckConstraint(said, name=op.f(f"ck_{table}_type"))]


def upgrade() -> None:
    op.create_table(
        "policy",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        *_by(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy")),
    )
    op.create_table(
        "policy_activation",
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("policy_id", sa.String, nullable=False),
        sa.Column("effective_from_us", sa.BigInteger, nullable=False),
        *_by(),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_policy_activation")),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policy.id"], name=op.f("fk_policy_activation_policy_id_policy")
        ),
        sa.CheckConstraint("effective_from_us >= at_us", name=op.f("ck_policy_activation_forward")),
    )
    op.create_table(
        "asked_term",
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("scope_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=True),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("why", sa.String, nullable=False),
        *_by(),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_asked_term")),
        sa.CheckConstraint("scope IN ('work', 'creator')", name=op.f("ck_asked_term_scope")),
        sa.CheckConstraint("kind IN ('floor', 'rate', 'excerpt_words')", name=op.f("ck_asked_term_kind")),
        sa.CheckConstraint("value >= 0", name=op.f("ck_asked_term_value")),
        *_integers("asked_term", "value"),
    )
    op.create_index(op.f("ix_asked_term_scope_id"), "asked_term", ["scope_id"])
    append_only("policy", key="id = NEW.id", columns=("name", "body"))
    append_only(
        "policy_activation", key="seq = NEW.seq", columns=("policy_id", "effective_from_us", "by", "at_us")
    )
    append_only("asked_term", key="seq = NEW.seq", columns=("scope", "scope_id", "kind", "value", "currency"))


def downgrade() -> None:
    for table in ("asked_term", "policy_activation", "policy"):
        op.drop_table(table)
