"""What of append-only tables may be emptied, and only of whom it is written down that they were erased.

History stays history: a row keeps its key, its numbers, its times and its hashes. What may go is what tells
of a person (a name, an account, somebody's words), and the store itself checks that nothing else goes with
it. `may_be_trimmed` and `append_only` of triggers.py make their triggers anew; whoever calls them again for
one of these tables calls `may_be_erased` again behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from alembic import op


@dataclass(frozen=True, slots=True)
class Erasable:
    """One table. columns: {what may change: what it may become, SQL over NEW, or "" for anything}.

    who: SQL over OLD that finds who was erased, as a condition.
    """

    table: str
    columns: Mapping[str, str]
    who: str


def may_be_erased(one: Erasable) -> None:
    """Let these columns change where `who` holds; every other change is refused as before.

    The trigger against updates becomes one of its own on both engines, so that what refuses deletions stays.
    """
    table, is_sqlite = one.table, op.get_bind().dialect.name == "sqlite"
    same = "IS" if is_sqlite else "IS NOT DISTINCT FROM"
    names = [column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)]
    # Quoted: PL/pgSQL takes `by` for a word of its own, behind a point too.
    equal = {name: f'NEW."{name}" {same} OLD."{name}"' for name in names}
    kept = [equal[name] for name in names if name not in one.columns]
    emptied = [f"({equal[name]} OR {becomes})" for name, becomes in one.columns.items() if becomes]
    allowed = " AND ".join([*kept, *emptied, f"({one.who})"])
    if is_sqlite:
        op.execute(f"DROP TRIGGER {table}_no_update")
        op.execute(
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} WHEN NOT ({allowed}) "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
        return
    op.execute(
        f"CREATE OR REPLACE FUNCTION erase_only_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {allowed} THEN RETURN NEW; END IF; "
        "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE='restrict_violation'; END $$"
    )
    refuses = _deletes_by(table)
    op.execute(f"DROP TRIGGER {table}_no_change ON {table}")
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {refuses}"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION erase_only_{table}()"
    )


def take_back(table: str) -> None:
    """Refuse every change again."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER {table}_no_update")
        op.execute(
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
        return
    refuses = _deletes_by(table)
    op.execute(f"DROP TRIGGER {table}_no_change ON {table}")
    op.execute(f"DROP TRIGGER {table}_no_update ON {table}")
    op.execute(f"DROP FUNCTION erase_only_{table}()")
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {refuses}"
    )


def _deletes_by(table: str) -> str:
    """Return the function call by which PostgreSQL refuses deletions now."""
    query = sa.text(
        "SELECT p.proname, encode(t.tgargs, 'escape') FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
        "WHERE t.tgname = :name AND t.tgrelid = to_regclass(:table)"
    )
    name, arguments = op.get_bind().execute(query, {"name": f"{table}_no_change", "table": table}).one()
    given = ", ".join(f"'{one}'" for one in str(arguments).split("\\000") if one)
    return f"{name}({given})"
