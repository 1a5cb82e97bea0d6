"""Each answer says up to which activation of a policy was known when it was given.

Answers from before have none, and their receipts stay as they were signed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025_policy_seq"
down_revision = "0024_passages"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("event", sa.Column("policy_seq", sa.BigInteger, nullable=True))


def downgrade() -> None:
    op.drop_column("event", "policy_seq")
