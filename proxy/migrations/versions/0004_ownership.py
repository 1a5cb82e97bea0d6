"""Whose a text is and why: attestations, identifiers, claims, reviews, the commons, creators' own apps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0004_ownership"
down_revision = "0003_billing"
branch_labels = None
depends_on = None

COMMONS = "~commons"  # the party that is nobody; written here, because history must not change with the code


def upgrade() -> None:
    creator = sa.table(
        "creator",
        *(sa.column(name, sa.String) for name in ("id", "ref", "name", "country")),
        sa.column("created_us", sa.BigInteger),
    )
    op.bulk_insert(
        creator, [{"id": COMMONS, "ref": COMMONS, "name": "The commons", "country": "", "created_us": 0}]
    )
    op.create_table(
        "attestation",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("statement", sa.String, nullable=False),
        sa.Column("statement_sha256", sa.String, nullable=False),
        sa.Column("text_sha256", sa.String, nullable=False),
        sa.Column("attested_by", sa.String, nullable=False),
        sa.Column("on_behalf_of", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("work_id", "seq", name=op.f("pk_attestation")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_attestation_work_id_work")),
    )
    op.create_table(
        "work_identifier",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("scheme", sa.String, nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("decided_by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("work_id", "seq", name=op.f("pk_work_identifier")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_work_identifier_work_id_work")),
        sa.CheckConstraint("state IN ('verified', 'revoked')", name=op.f("ck_work_identifier_state")),
    )
    op.create_index(op.f("ix_work_identifier_scheme_value"), "work_identifier", ["scheme", "value"])
    op.create_table(
        "claim",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("claimant", sa.String, nullable=False),
        sa.Column("basis", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("opened_by", sa.String, nullable=False),
        sa.Column("opened_us", sa.BigInteger, nullable=False),
        sa.Column("opened_seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claim")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_claim_work_id_work")),
        sa.ForeignKeyConstraint(["claimant"], ["creator.id"], name=op.f("fk_claim_claimant_creator")),
    )
    op.create_index(op.f("ix_claim_work_id"), "claim", ["work_id"])
    op.create_table(
        "claim_decision",
        sa.Column("claim_id", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("decided_by", sa.String, nullable=False),
        sa.Column("decided_us", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("claim_id", name=op.f("pk_claim_decision")),
        sa.ForeignKeyConstraint(["claim_id"], ["claim.id"], name=op.f("fk_claim_decision_claim_id_claim")),
        sa.CheckConstraint(
            "outcome IN ('upheld', 'rejected', 'withdrawn')", name=op.f("ck_claim_decision_outcome")
        ),
    )
    op.create_table(
        "review",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("decision", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("other_work", sa.String, nullable=False),
        sa.Column("part_ppm", sa.BigInteger, nullable=False),
        sa.Column("decided_by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("work_id", "seq", name=op.f("pk_review")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_review_work_id_work")),
        sa.CheckConstraint(
            "decision IN ('held', 'cleared', 'released', 'upheld')", name=op.f("ck_review_decision")
        ),
        sa.CheckConstraint("part_ppm BETWEEN 0 AND 1000000", name=op.f("ck_review_part")),
    )
    op.create_table(
        "app_link",
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("creator_id", sa.String, nullable=True),
        sa.Column("decided_by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("app_id", "seq", name=op.f("pk_app_link")),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_app_link_app_id_app")),
        sa.ForeignKeyConstraint(["creator_id"], ["creator.id"], name=op.f("fk_app_link_creator_id_creator")),
    )
    numbered = "work_id = NEW.work_id AND seq = NEW.seq"
    append_only(
        "attestation",
        key=numbered,
        columns=("statement", "statement_sha256", "text_sha256", "attested_by", "on_behalf_of", "at_us"),
    )
    append_only(
        "work_identifier",
        key=numbered,
        columns=("scheme", "value", "state", "reason", "decided_by", "at_us"),
    )
    append_only(
        "claim",
        key="id = NEW.id",
        columns=("work_id", "claimant", "basis", "evidence", "opened_by", "opened_us", "opened_seq"),
    )
    append_only(
        "claim_decision",
        key="claim_id = NEW.claim_id",
        columns=("outcome", "reason", "decided_by", "decided_us", "seq"),
    )
    append_only(
        "review",
        key=numbered,
        columns=("decision", "kind", "reason", "other_work", "part_ppm", "decided_by", "at_us"),
    )
    append_only(
        "app_link",
        key="app_id = NEW.app_id AND seq = NEW.seq",
        columns=("creator_id", "decided_by", "at_us"),
    )


def downgrade() -> None:
    for table in ("app_link", "review", "claim_decision", "claim", "work_identifier", "attestation"):
        op.drop_table(table)
    op.execute(f"DELETE FROM creator WHERE id = '{COMMONS}'")  # noqa: S608  our own constant
