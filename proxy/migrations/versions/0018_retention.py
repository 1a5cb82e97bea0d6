"""What is left of a period whose answers are no longer in the store, and the one way by which they may go.

Events, shares and lines stay append-only, with one exception that the store itself checks: a row may be
deleted when its answer stands in a stretch of the log that is written down in `trimmed_range`. Such a row can
only be what a closed period says of its own bounds, and only after the period's comment window. So nothing of
an open period, of a draft, or beyond a period's end can go, whatever the code asks for.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only, may_be_trimmed

revision = "0018_retention"
down_revision = "0018_sessions"
branch_labels = None
depends_on = None

_OF_ITS_PERIOD = """
SELECT 1 FROM period p, json_each(p.end_bounds) e WHERE p.label = NEW.period_label
  AND e.key = NEW.shard_id AND e.value = NEW.end_idx
  AND NEW.start_idx
    = coalesce((SELECT s.value FROM json_each(p.start_bounds) s WHERE s.key = NEW.shard_id), 0)"""
_OF_ITS_PERIOD_PG = """
SELECT 1 FROM period p WHERE p.label = NEW.period_label
  AND (p.end_bounds::jsonb ->> NEW.shard_id)::bigint = NEW.end_idx
  AND coalesce((p.start_bounds::jsonb ->> NEW.shard_id)::bigint, 0) = NEW.start_idx"""
_STILL_A_DRAFT = "SELECT 1 FROM period_window w WHERE w.period_label = NEW.label AND w.until_us > NEW.at_us"


def upgrade() -> None:
    op.create_table(
        "trimmed_period",
        sa.Column("label", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("seal", sa.Text, nullable=False),
        sa.Column("archive", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("label", name=op.f("pk_trimmed_period")),
        sa.ForeignKeyConstraint(["label"], ["period.label"], name=op.f("fk_trimmed_period_label_period")),
        sa.CheckConstraint("answers >= 0", name=op.f("ck_trimmed_period_answers")),
    )
    op.create_table(
        "trimmed_range",
        sa.Column("shard_id", sa.String, nullable=False),
        sa.Column("start_idx", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("end_idx", sa.BigInteger, nullable=False),
        sa.Column("period_label", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("shard_id", "start_idx", name=op.f("pk_trimmed_range")),
        sa.ForeignKeyConstraint(
            ["period_label"],
            ["trimmed_period.label"],
            name=op.f("fk_trimmed_range_period_label_trimmed_period"),
        ),
        sa.CheckConstraint("end_idx > start_idx", name=op.f("ck_trimmed_range_end")),
    )
    append_only("trimmed_period", key="label = NEW.label", columns=("digest", "seal"))
    append_only(
        "trimmed_range",
        key="shard_id = NEW.shard_id AND start_idx = NEW.start_idx",
        columns=("end_idx", "period_label"),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER trimmed_range_of_period BEFORE INSERT ON trimmed_range "
            f"WHEN NOT EXISTS ({_OF_ITS_PERIOD}) "
            "BEGIN SELECT RAISE(ABORT, 'trimmed_range: not the bounds of a closed period'); END"
        )
        op.execute(
            f"CREATE TRIGGER trimmed_period_is_final BEFORE INSERT ON trimmed_period "
            f"WHEN EXISTS ({_STILL_A_DRAFT}) "
            "BEGIN SELECT RAISE(ABORT, 'trimmed_period: still a draft'); END"
        )
    else:
        _on_insert(
            "trimmed_range",
            "of_period",
            f"NOT EXISTS ({_OF_ITS_PERIOD_PG})",
            "not the bounds of a closed period",
        )
        _on_insert("trimmed_period", "is_final", f"EXISTS ({_STILL_A_DRAFT})", "still a draft")
    may_be_trimmed()


def _on_insert(table: str, name: str, wrong: str, says: str) -> None:
    op.execute(
        f"CREATE FUNCTION {table}_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {wrong} THEN RAISE EXCEPTION '{table}: {says}' USING ERRCODE='restrict_violation'; END IF; "
        "RETURN NEW; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_{name} BEFORE INSERT ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_{name}()"
    )


def downgrade() -> None:
    may_be_trimmed(take_back=True)
    for table in ("trimmed_range", "trimmed_period"):
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        for function in ("trimmed_range_of_period", "trimmed_period_is_final"):
            op.execute(f"DROP FUNCTION {function}()")
