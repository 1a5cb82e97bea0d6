"""Creators, works, splits, consents, apps and keys, and the numbered log of their changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.migrations.triggers import append_only

revision = "0001_registry"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "creator",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("ref", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("country", sa.String, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_creator")),
        sa.UniqueConstraint("ref", name=op.f("uq_creator_ref")),
    )
    op.create_table(
        "registry_event",
        sa.Column("seq", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("work_id", sa.String, nullable=True),
        sa.Column("payload_sha256", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_registry_event")),
    )
    op.create_index(op.f("ix_registry_event_work_id"), "registry_event", ["work_id"])
    op.create_table(
        "work",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("ref", sa.String, nullable=False),
        sa.Column("creator_id", sa.String, nullable=False),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("medium", sa.String, nullable=False),
        sa.Column("text_sha256", sa.String, nullable=False),
        sa.Column("text_bytes", sa.BigInteger, nullable=False),
        sa.Column("licence", sa.String, nullable=False),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("registered_us", sa.BigInteger, nullable=False),
        sa.Column("registered_seq", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work")),
        sa.ForeignKeyConstraint(["creator_id"], ["creator.id"], name=op.f("fk_work_creator_id_creator")),
        sa.UniqueConstraint("creator_id", "ref", name=op.f("uq_work_creator_id_ref")),
        sa.UniqueConstraint("registered_seq", name=op.f("uq_work_registered_seq")),
        sa.CheckConstraint("status IN ('active', 'withdrawn')", name=op.f("ck_work_status")),
    )
    op.create_index(op.f("ix_work_ref"), "work", ["ref"])
    op.create_table(
        "work_text",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("text_zlib", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("work_id", name=op.f("pk_work_text")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_work_text_work_id_work")),
    )
    op.create_table(
        "split",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("party", sa.String, nullable=False),
        sa.Column("ppm", sa.BigInteger, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("valid_from_seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("work_id", "version", "party", name=op.f("pk_split")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_split_work_id_work")),
        sa.CheckConstraint("ppm > 0 AND ppm <= 1000000", name=op.f("ck_split_ppm")),
    )
    op.create_table(
        "consent",
        sa.Column("work_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("use", sa.String, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("work_id", "seq", "use", name=op.f("pk_consent")),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name=op.f("fk_consent_work_id_work")),
        sa.CheckConstraint("verdict IN ('paid', 'free', 'denied')", name=op.f("ck_consent_verdict")),
    )
    op.create_table(
        "app",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("owner_creator", sa.String, nullable=True),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_app")),
        sa.ForeignKeyConstraint(["owner_creator"], ["creator.id"], name=op.f("fk_app_owner_creator_creator")),
        sa.UniqueConstraint("name", name=op.f("uq_app_name")),
    )
    op.create_table(
        "key",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("app_id", sa.String, nullable=True),
        sa.Column("creator_id", sa.String, nullable=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("last4", sa.String, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("revoked_us", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key")),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_key_app_id_app")),
        sa.ForeignKeyConstraint(["creator_id"], ["creator.id"], name=op.f("fk_key_creator_id_creator")),
        sa.UniqueConstraint("hash", name=op.f("uq_key_hash")),
        sa.CheckConstraint(
            "(role = 'app') = (app_id IS NOT NULL) AND (role = 'creator') = (creator_id IS NOT NULL)",
            name=op.f("ck_key_whose"),
        ),
    )
    append_only(
        "registry_event",
        key="seq = NEW.seq",
        columns=("kind", "work_id", "payload_sha256", "actor", "at_us"),
    )
    append_only(
        "split",
        key="work_id = NEW.work_id AND version = NEW.version AND party = NEW.party",
        columns=("ppm", "role", "valid_from_seq"),
    )
    append_only(
        "consent",
        key="work_id = NEW.work_id AND seq = NEW.seq AND use = NEW.use",
        columns=("verdict", "at_us"),
    )
