"""Each answer says how many images it made, and how long its sound or video is.

Answers from before have 0 of both: nobody counted, and their receipts stay as they were signed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033_media"
down_revision = "0032_app_uses"
branch_labels = None
depends_on = None

NAMES = ("images", "milliseconds")


def upgrade() -> None:
    # A column at a time: both engines note the default and write no row, and no trigger is lost.
    for name in NAMES:
        op.add_column("event", sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    for name in NAMES:
        op.drop_column("event", name)
