"""Splits that are proposed, and what those who are asked say; in force is what is in `split` alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026_agreements"
down_revision = "0025_policy_seq"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "split_proposal",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("parts", sa.Text, nullable=False),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("proposed_by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_split_proposal")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_split_proposal_work_id_work")),
        sa.ForeignKeyConstraint(
            ["proposed_by"], ["creator.id"], name=op.f("fk_split_proposal_proposed_by_creator")
        ),
    )
    op.create_index("ix_split_proposal_work_id", "split_proposal", ["work_id"])
    op.create_index("ix_split_proposal_proposed_by", "split_proposal", ["proposed_by"])
    op.create_table(
        "split_answer",
        sa.Column("proposal_id", sa.String, nullable=False),
        sa.Column("party", sa.String, nullable=False),
        sa.Column("said", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("proposal_id", "party", name=op.f("pk_split_answer")),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["split_proposal.id"], name=op.f("fk_split_answer_proposal_id_split_proposal")
        ),
    )
    op.create_index("ix_split_answer_party", "split_answer", ["party"])


def downgrade() -> None:
    for table in ("split_answer", "split_proposal"):
        op.drop_table(table)
