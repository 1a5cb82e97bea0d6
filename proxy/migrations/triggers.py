"""Append-only tables, enforced by the store itself on both engines.

The triggers guard against our own mistakes (an UPDATE in a hurry, INSERT OR REPLACE), not against whoever
owns the database file and can drop them. Alembic's batch mode on SQLite copies a table and loses its triggers
without a word, so every migration that batch-alters one calls `append_only` again.
"""

from __future__ import annotations

from alembic import op


def append_only(table: str, *, key: str, columns: tuple[str, ...]) -> None:
    """Refuse UPDATE and DELETE on `table`, and an INSERT that reuses `key` with other content.

    key: SQL over NEW and the table that finds the row already there, e.g. "id = NEW.id".
    columns: those whose difference makes a reused key a contradiction; equal content replays silently.
    """
    if op.get_bind().dialect.name == "sqlite":
        differs = " OR ".join(f"{column} IS NOT NEW.{column}" for column in columns)
        for event in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event} BEFORE {event.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} AND ({differs})) "
            f"BEGIN SELECT RAISE(ABORT, '{table}: key taken with other content'); END"
        )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE='restrict_violation'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
