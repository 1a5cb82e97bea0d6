"""What each app asked for by day and model; answers that were summed for creators before are summed too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032_app_uses"
down_revision = "0031_declarations"
branch_labels = None
depends_on = None

_DAY = {
    "sqlite": "strftime('%Y-%m-%d', e.occurred_us / 1000000, 'unixepoch')",
    "postgresql": "to_char(to_timestamp(e.occurred_us / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}


def upgrade() -> None:
    op.create_table(
        "app_use",
        sa.Column("app_id", sa.String, nullable=False),
        sa.Column("day", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("cut", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("grains", sa.BigInteger, nullable=False),
        sa.Column("unpriced", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("app_id", "day", "model", "currency", name=op.f("pk_app_use")),
    )
    day = _DAY[op.get_bind().dialect.name]
    # Up to each shard's mark, behind which the running sums go on.
    op.execute(f"""
        INSERT INTO app_use (app_id, day, model, currency, answers, cut, failed, input_tokens, output_tokens,
                             grains, unpriced)
        SELECT e.app_id, {day}, e.model, e.currency, COUNT(*),
               SUM(CASE WHEN e.outcome = 'cut' THEN 1 ELSE 0 END),
               SUM(CASE WHEN e.outcome = 'failed' THEN 1 ELSE 0 END),
               SUM(e.input_tokens), SUM(e.output_tokens), COALESCE(SUM(e.price_grains), 0),
               SUM(CASE WHEN e.price_grains IS NULL THEN 1 ELSE 0 END)
        FROM attributed a
        JOIN use_mark m ON m.shard_id = a.shard_id AND a.idx < m.next_index
        JOIN event e ON e.id = a.event_id
        GROUP BY e.app_id, {day}, e.model, e.currency
    """)  # noqa: S608  our own words


def downgrade() -> None:
    op.drop_table("app_use")
