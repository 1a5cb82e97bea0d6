"""Append-only tables, enforced by the store itself on both engines.

The triggers guard against our own mistakes (an UPDATE in a hurry, INSERT OR REPLACE), not against whoever
owns the database file and can drop them. Alembic's batch mode on SQLite copies a table and loses its triggers
without a word, so every migration that batch-alters one calls `append_only` again; and of what usage was
metered in, `may_be_trimmed` behind it.
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


# Where an answer's shares stand, `a` being their row, is it in a stretch that is written down as trimmed?
_IN_TRIMMED = """
(SELECT r.end_idx FROM trimmed_range r WHERE r.shard_id = a.shard_id AND r.start_idx <= a.idx
 ORDER BY r.start_idx DESC LIMIT 1) > a.idx"""
_METERED = {"event": "id", "attributed": "event_id", "event_line": "event_id"}


def may_be_trimmed(*, take_back: bool = False) -> None:
    """Let rows of usage be deleted whose answer stands in a trimmed stretch of the log; nothing else.

    Lines and the event go before the shares, whose row says where the answer stands. take_back: refuse again.
    """
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if not is_sqlite and not take_back:
        op.execute(
            "CREATE OR REPLACE FUNCTION refuse_unless_trimmed() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "DECLARE answer text; BEGIN "
            "IF TG_OP = 'DELETE' THEN "
            "IF TG_ARGV[0] = 'id' THEN answer := OLD.id; ELSE answer := OLD.event_id; END IF; "
            f"PERFORM 1 FROM attributed a WHERE a.event_id = answer AND {_IN_TRIMMED}; "
            "IF FOUND THEN RETURN OLD; END IF; END IF; "
            "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE='restrict_violation'; END $$"
        )
    for table, key in _METERED.items():
        if is_sqlite:
            op.execute(f"DROP TRIGGER {table}_no_delete")
            standing = f"SELECT 1 FROM attributed a WHERE a.event_id = OLD.{key} AND {_IN_TRIMMED}"
            unless = "" if take_back else f"WHEN NOT EXISTS ({standing}) "
            op.execute(
                f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {unless}"
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        else:
            op.execute(f"DROP TRIGGER {table}_no_change ON {table}")
            function = "refuse_change()" if take_back else f"refuse_unless_trimmed('{key}')"
            op.execute(
                f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION {function}"
            )
