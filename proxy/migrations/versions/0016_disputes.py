"""Corrections and disputes: what was said, who decided, and why, for the statements that tell it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0016_disputes"
down_revision = "0015_pools"
branch_labels = None
depends_on = None


def _belongs(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}_{other}"))


def _events(table: str, of: str, kinds: str, *columns: sa.Column[object]) -> None:
    """A table of what happened to something."""
    key = f"{of}_id"
    op.create_table(
        table,
        sa.Column(key, sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        *columns,
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(key, "seq", name=op.f(f"pk_{table}")),
        _belongs(table, key, of),
        sa.CheckConstraint(f"kind IN ({kinds})", name=op.f(f"ck_{table}_kind")),
    )
    said = tuple(column.name for column in columns)
    append_only(table, key=f"{key} = NEW.{key} AND seq = NEW.seq", columns=("kind", "by", *said, "at_us"))


def upgrade() -> None:
    op.create_table(
        "transfer_note",
        sa.Column("transfer_id", sa.String, nullable=False),
        sa.Column("corrects", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("transfer_id", name=op.f("pk_transfer_note")),
        _belongs("transfer_note", "transfer_id", "transfer"),
    )
    append_only("transfer_note", key="transfer_id = NEW.transfer_id", columns=("corrects", "reason"))
    op.create_table(
        "adjustment",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("proposed_us", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjustment")),
        _belongs("adjustment", "creator_id", "creator"),
    )
    op.create_index(op.f("ix_adjustment_creator_id"), "adjustment", ["creator_id"])
    append_only("adjustment", key="id = NEW.id", columns=("creator_id", "body"))
    _events(
        "adjustment_event",
        "adjustment",
        "'proposed', 'booked', 'rejected'",
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "dispute",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("statement_id", sa.String, nullable=False),
        sa.Column("opened_us", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispute")),
        _belongs("dispute", "statement_id", "statement"),
    )
    op.create_index(op.f("ix_dispute_statement_id"), "dispute", ["statement_id"])
    append_only("dispute", key="id = NEW.id", columns=("statement_id", "body"))
    held = [sa.CheckConstraint("held >= 0", name=op.f("ck_dispute_party_held"))]
    if op.get_bind().dialect.name == "sqlite":  # PostgreSQL's BIGINT takes nothing else
        held.append(sa.CheckConstraint("typeof(held) = 'integer'", name=op.f("ck_dispute_party_type")))
    op.create_table(
        "dispute_party",
        sa.Column("dispute_id", sa.String, nullable=False),
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("dispute_id", "creator_id", name=op.f("pk_dispute_party")),
        _belongs("dispute_party", "dispute_id", "dispute"),
        *held,
    )
    op.create_index(op.f("ix_dispute_party_creator_id"), "dispute_party", ["creator_id"])
    party = "dispute_id = NEW.dispute_id AND creator_id = NEW.creator_id"
    append_only("dispute_party", key=party, columns=("held",))
    op.create_table(
        "dispute_line",
        sa.Column("dispute_id", sa.String, nullable=False),
        sa.Column("statement_id", sa.String, nullable=False),
        sa.Column("line", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("dispute_id", "statement_id", "line", name=op.f("pk_dispute_line")),
        _belongs("dispute_line", "dispute_id", "dispute"),
        _belongs("dispute_line", "statement_id", "statement"),
    )
    op.create_index(op.f("ix_dispute_line_statement_id"), "dispute_line", ["statement_id"])
    line = "dispute_id = NEW.dispute_id AND statement_id = NEW.statement_id AND line = NEW.line"
    append_only("dispute_line", key=line, columns=("line",))
    _events(
        "dispute_event",
        "dispute",
        "'opened', 'answered', 'withdrawn', 'settled'",
        sa.Column("side", sa.String, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
        sa.Column("parts", sa.Text, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "dispute_event", "dispute_line", "dispute_party", "dispute", "adjustment_event", "adjustment",
        "transfer_note",
    ):  # fmt: skip
        op.drop_table(table)
