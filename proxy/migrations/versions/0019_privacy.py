"""Who was erased, under which name creators are shown, tax numbers; and what history may forget of whom."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.erasable import Erasable, may_be_erased, take_back
from proxy.migrations.triggers import append_only

revision = "0019_privacy"
down_revision = "0018_retention"
branch_labels = None
depends_on = None


def _gone(kind: str, column: str) -> str:
    return f"EXISTS (SELECT 1 FROM erasure x WHERE x.kind = '{kind}' AND x.id = OLD.{column})"  # noqa: S608  our own names


def _whose(tables: str, where: str, column: str) -> str:
    joined = f"SELECT 1 FROM erasure x, {tables} WHERE {where}"  # noqa: S608  our own names
    return f"EXISTS ({joined} AND x.kind = 'creator' AND x.id = {column})"


_OF_SCOPE = "EXISTS (SELECT 1 FROM erasure x WHERE x.id = OLD.scope_id)"
_CREATOR = _gone("creator", "creator_id")
# Whose statement it is about, or whose money it holds.
_OF_CASE = " OR ".join(
    [
        _whose("dispute d, statement s", "d.id = OLD.CASE AND s.id = d.statement_id", "s.creator_id"),
        _whose("dispute_party p", "p.dispute_id = OLD.CASE", "p.creator_id"),
    ]
)
_EMPTY = {
    column: f"NEW.{column} = ''" for column in ("reason", "last4", "why", "text", "basis", "said", "value")
}


def _emptied(*columns: str) -> dict[str, str]:
    return {column: _EMPTY[column] for column in columns}


def _erasable() -> list[Erasable]:
    no_bytes = {"sealed": "length(NEW.sealed) = 0"}
    in_files = (
        "NOT EXISTS (SELECT 1 FROM licence l WHERE l.file_sha256 = OLD.sha256 "
        "AND NOT EXISTS (SELECT 1 FROM erasure x WHERE x.id = l.scope_id))"
    )
    return [
        Erasable("payee_account", no_bytes | _emptied("last4"), _CREATOR),
        Erasable("tax_number", no_bytes | _emptied("last4"), _CREATOR),
        Erasable("payee_hold", _emptied("reason"), _CREATOR),
        Erasable("statement", {"body": ""}, _CREATOR),
        Erasable(
            "statement_comment",
            _emptied("text"),
            _whose("statement s", "s.id = OLD.statement_id", "s.creator_id"),
        ),
        Erasable("dispute", {"body": ""}, _OF_CASE.replace("CASE", "id")),
        Erasable("dispute_event", _emptied("said"), _OF_CASE.replace("CASE", "dispute_id")),
        Erasable(
            "claim", _emptied("basis") | {"evidence": "NEW.evidence = '[]'"}, _gone("creator", "claimant")
        ),
        Erasable(
            "claim_decision", _emptied("reason"), _whose("claim c", "c.id = OLD.claim_id", "c.claimant")
        ),
        Erasable("work_identifier", _emptied("value", "reason"), _gone("work", "work_id")),
        Erasable("review", _emptied("reason"), _gone("work", "work_id")),
        Erasable("asked_term", _emptied("why"), _OF_SCOPE),
        Erasable("licence", {"about": "NEW.about = ''", "origin": "NEW.origin = ''"}, _OF_SCOPE),
        Erasable("licence_file", {"raw_zlib": "length(NEW.raw_zlib) = 0"}, in_files),
        # To another digest, which nobody can make: its use stays one person's, and nobody's in particular.
        Erasable("event", {"subject_digest": "length(NEW.subject_digest) = 64"}, "OLD.subject_digest <> ''"),
    ]


def upgrade() -> None:
    op.create_table(
        "erasure",
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", name=op.f("pk_erasure")),
        sa.CheckConstraint("kind IN ('creator', 'work')", name=op.f("ck_erasure_kind")),
    )
    append_only("erasure", key="kind = NEW.kind AND id = NEW.id", columns=("seq", "at_us"))
    op.create_table(
        "shown_name",
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("creator_id", name=op.f("pk_shown_name")),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["creator.id"], name=op.f("fk_shown_name_creator_id_creator")
        ),
    )
    op.create_index(op.f("ix_shown_name_seq"), "shown_name", ["seq"])
    op.create_table(
        "tax_number",
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("country", sa.String, nullable=False),
        sa.Column("last4", sa.String, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("creator_id", "version", name=op.f("pk_tax_number")),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["creator.id"], name=op.f("fk_tax_number_creator_id_creator")
        ),
        sa.CheckConstraint("version > 0", name=op.f("ck_tax_number_version")),
    )
    append_only(
        "tax_number",
        key="creator_id = NEW.creator_id AND version = NEW.version",
        columns=("country", "sealed"),
    )
    for one in _erasable():
        may_be_erased(one)


def downgrade() -> None:
    for one in _erasable():
        take_back(one.table)
    for table in ("tax_number", "shown_name", "erasure"):
        op.drop_table(table)
