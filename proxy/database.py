"""The store's engine: one URL, SQLite by default, PostgreSQL by one config line.

SQLite runs in WAL with synchronous=FULL (NORMAL may lose the last commits at power loss; measured, FULL costs
about 12 % once commits are grouped) and recursive_triggers on, without which INSERT OR REPLACE walks through
an append-only trigger. The schema comes only from Alembic's migrations; `upgrade` runs them.

The registry's numbering lives here too, because keys (access) and works (catalogue) share it and neither
knows the other: one poll of the last number tells every cache in every process whether it is stale.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlmodel import Field, SQLModel

from proxy.errors import Unavailable

if TYPE_CHECKING:
    # Ten megabytes that a process which only serves has no use for: its schema is at head when it starts.
    from alembic.config import Config

# Constraint names must be known to batch migrations, and they are read by people in error messages.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_MIGRATIONS = Path(__file__).with_name("migrations")
CLOSE_S = 5.0  # what a thread at work on the store may take to end; as long as SQLite waits for a lock
# What a value of COPY's text format may not hold as it is.
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
ROWS_AT_ONCE = 2_000  # in one statement: a MB of them
VALUES_A_STATEMENT = 10_000  # of SQLite, which takes 32,766
CACHE_KIB = 1 << 18  # 256 MiB, while a period is written: the indexes of ten million lines
# Of each SQLite connection, compiled; its driver's default is 128. An INSERT is another statement for each
# number of rows, and large: a carrier's connection grew by 200 bytes with every answer, for hours.
STATEMENTS_KEPT = 16
BUSY_TIMEOUT_MS = 5_000  # a carrier batch or a period close holds the write lock well under a second
CONNECTION_S = 5.0  # waited for one of an engine's connections: all are in use, or a database answers none
# Of PostgreSQL's driver: a host that does not answer is given up, also by whoever has asked it already.
PATIENCE = {
    "connect_timeout": 5,  # seconds
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
}


def open_engine(url: str) -> sa.Engine:
    """Return an engine for `sqlite:///...` or `postgresql+psycopg://...`, its connections set up as above."""
    if url.startswith("postgresql://"):
        url = "postgresql+psycopg://" + url.removeprefix("postgresql://")
    if url.startswith("sqlite"):
        engine = sa.create_engine(url, connect_args={"cached_statements": STATEMENTS_KEPT})
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    given = sa.make_url(url).query  # what an operator wrote into the URL wins
    patience = {name: value for name, value in PATIENCE.items() if name not in given}
    return sa.create_engine(url, pool_pre_ping=True, pool_timeout=CONNECTION_S, connect_args=patience)


async def close_engine(engine: sa.Engine) -> None:
    """Close the engine's connections, those in use when they come back, or after CLOSE_S.

    A task that is cancelled leaves its thread at work, with a connection or between two: closing the pool
    under it would leave that one open until somebody collects it. So from here on none is kept.
    """
    event.listen(engine.pool, "checkin", _keep_none)  # the pool that follows this one inherits it
    checked_out = getattr(engine.pool, "checkedout", None)
    until = time.monotonic() + CLOSE_S
    while checked_out is not None and checked_out() > 0 and time.monotonic() < until:  # noqa: ASYNC110  no event
        await asyncio.sleep(0.01)
    engine.dispose()


def _keep_none(_connection: Any, record: Any) -> None:
    record.invalidate()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    if not cursor.execute("PRAGMA page_count").fetchone()[0]:
        # Of a file that is new: later only a VACUUM changes it, and saying it again takes the write lock.
        cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "recursive_triggers=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _alembic(url: str) -> Config:
    from alembic.config import Config  # noqa: PLC0415  # see above

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Bring the store at `url` to this version's schema, creating it when it is empty.

    Raises Unavailable when the store cannot be reached, or was written by a newer version.
    """
    try:
        if _is_current(url):
            return
        _migrate(url)
    except _Newer as error:
        raise Unavailable(
            f"the store was written by a newer version of Endcredits ({error})",
            remedy="run that version, or restore a backup made before it",
            code="store_newer",
        ) from error
    except SQLAlchemyError as error:
        raise Unavailable(
            f"the store cannot be opened: {error.__class__.__name__}",
            remedy="check [store] url, that the server runs, the folder is writable and its disk has room",
            code="store_unavailable",
        ) from error


class _Newer(Exception):
    """The store's schema is none that this version knows."""


def _is_current(url: str) -> bool:
    """Whether the schema is this version's: what nearly every start finds, and loading alembic is slow."""
    made = sa.make_url(url)
    if made.get_backend_name() == "sqlite" and not Path(made.database or "").is_file():
        return False  # to look would create it
    engine = open_engine(url)
    try:
        found, wanted = versions(engine)
    finally:
        engine.dispose()
    return found == wanted


def _migrate(url: str) -> None:
    from alembic import command  # noqa: PLC0415  # see above
    from alembic.util.exc import CommandError  # noqa: PLC0415  # likewise

    try:
        command.upgrade(_alembic(url), "head")
    except CommandError as error:
        raise _Newer(str(error)) from error


def versions(engine: sa.Engine) -> tuple[str | None, str]:
    """Return (schema version found in the store, version this code wants)."""
    with engine.connect() as connection:
        is_empty = not sa.inspect(connection).has_table("alembic_version")
        found = None if is_empty else connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found, max(path.stem for path in _MIGRATIONS.glob("versions/[0-9]*.py"))


# Readers poll max(seq) and load what is newer. That is right only if numbers appear in the order they are
# given out, so writers of the registry take turns: SQLite by its write lock, PostgreSQL by this advisory one.
_REGISTRY_LOCK = 0x656E6463
_MONEY_LOCK = 0x656E646D


class RegistryEventRow(SQLModel, table=True):
    """One change of the registry, numbered without gaps; keys, works and consents all write here."""

    __tablename__: ClassVar[Any] = "registry_event"
    seq: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    kind: str = Field(sa_type=sa.String)
    work_id: str | None = Field(default=None, sa_type=sa.String, index=True)
    payload_sha256: str = Field(sa_type=sa.String)
    actor: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


_registry_event = SQLModel.metadata.tables["registry_event"]


@dataclass(frozen=True, slots=True)
class RegistryChange:
    """What changed: `payload` is JSON-able, and only its hash is kept."""

    kind: str
    payload: object
    work_id: str | None = None


@contextlib.contextmanager
def registry_turn(engine: sa.Engine) -> Generator[sa.Connection]:
    """Give a transaction that no other writer of the registry shares; it commits at the end."""
    with _turn(engine, _REGISTRY_LOCK) as connection:
        yield connection


@contextlib.contextmanager
def money_turn(engine: sa.Engine) -> Generator[sa.Connection]:
    """Give a transaction that nobody shares who takes something out of what creators are owed.

    What it reads of their balances can only have grown when it commits.
    """
    with _turn(engine, _MONEY_LOCK) as connection:
        yield connection


@contextlib.contextmanager
def _turn(engine: sa.Engine, lock: int) -> Generator[sa.Connection]:
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        yield connection


def take_money_turn(connection: sa.Connection) -> None:
    """Take the turn of `money_turn` from here to the end of a transaction that has written already.

    On SQLite whoever has written is alone.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MONEY_LOCK)))


def append_registry(
    connection: sa.Connection, changes: Sequence[RegistryChange], *, actor: str, at_us: int
) -> int:
    """Append `changes` inside a `registry_turn` and return the first one's seq; the rest follow it."""
    first = registry_seq(connection) + 1
    rows = [
        {
            "seq": first + place,
            "kind": change.kind,
            "work_id": change.work_id,
            "payload_sha256": hashlib.sha256(msgspec.json.encode(change.payload, order="sorted")).hexdigest(),
            "actor": actor,
            "at_us": at_us,
        }
        for place, change in enumerate(changes)
    ]
    if rows:
        connection.execute(sa.insert(_registry_event), rows)
    return first


def registry_seq(connection: sa.Connection) -> int:
    """Return the last change's number, 0 when there is none."""
    return int(connection.execute(sa.select(sa.func.max(_registry_event.c.seq))).scalar_one_or_none() or 0)


@contextlib.contextmanager
def much_cache(connection: sa.Connection) -> Generator[None]:
    """Let SQLite keep CACHE_KIB of pages while a large transaction lasts: two megabytes are its own default.

    Pages that do not fit are written to its log and read again, each as often as it is touched: two thirds of
    the system's time of a close.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    usual = connection.exec_driver_sql("PRAGMA cache_size").scalar_one()
    connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_KIB}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA cache_size = {usual}")


def insert_rows(
    connection: sa.Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Iterable[tuple[object, ...]],
    *,
    at_once: int = ROWS_AT_ONCE,
    pass_over: bool = False,
    adds_to: str = "",
) -> int:
    """Insert rows by the driver's own means, `at_once` in memory, and return how many there were new.

    Some hundred rows a statement on SQLite, COPY on PostgreSQL. pass_over: rows whose key is taken are left
    out and not counted (COPY cannot do that: there it is one array a column); else they raise IntegrityError.
    adds_to: that column of a row whose key is taken grows by the new row's instead.
    """
    into = f"INSERT INTO {table.name} ({', '.join(columns)})"
    # ON CONFLICT and not OR IGNORE, which would also pass over a broken CHECK without a word.
    last = " ON CONFLICT DO NOTHING" if pass_over else ""
    if adds_to:
        keys = ", ".join(column.name for column in table.primary_key)
        last = f" ON CONFLICT ({keys}) DO UPDATE SET {adds_to} = {table.name}.{adds_to} + excluded.{adds_to}"
    count = 0
    if connection.dialect.name == "sqlite":
        for some in _batches(rows, at_once):
            count += _insert_sqlite(connection, into, len(columns), some, last)
        return count
    if not last:
        for some in _batches(rows, at_once):
            _copy(connection, f"COPY {table.name} ({', '.join(columns)}) FROM STDIN", some)
            count += len(some)
        return count
    types = (table.c[name].type.compile(connection.dialect) for name in columns)
    arrays = ", ".join(f"CAST(%s AS {kind}[])" for kind in types)
    statement = f"{into} SELECT * FROM unnest({arrays}){last}"  # noqa: S608  our own names
    for some in _batches(rows, at_once):
        count += connection.exec_driver_sql(statement, tuple(map(list, zip(*some, strict=True)))).rowcount
    return count


def _insert_sqlite(
    connection: sa.Connection, into: str, width: int, rows: Sequence[tuple[object, ...]], last: str
) -> int:
    # A statement on a table that has a trigger copies each page it touches, to take the change back should
    # the trigger refuse: alone a row costs twice what it costs among thousands (measured: 10.4 and 4.6 µs).
    marks = f"({', '.join('?' * width)})"
    count = start = 0
    for size in (VALUES_A_STATEMENT // width, VALUES_A_STATEMENT // width // 32):
        if len(rows) - start < size:
            continue
        statement = f"{into} VALUES {', '.join([marks] * size)}{last}"
        while len(rows) - start >= size:
            values = tuple(itertools.chain.from_iterable(rows[start : start + size]))
            count += connection.exec_driver_sql(statement, values).rowcount
            start += size
    if start < len(rows):
        count += connection.exec_driver_sql(f"{into} VALUES {marks}{last}", list(rows[start:])).rowcount
    return count


def _copy(connection: sa.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Stream rows of text, integers, booleans and None into a table of PostgreSQL, in the transaction."""
    driver = cast("Any", connection.dialect.dbapi)
    raw = cast("Any", connection.connection.driver_connection)
    try:
        with raw.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(_copied(rows))
    except driver.IntegrityError as error:
        raise IntegrityError(statement, None, error) from error
    except driver.Error as error:
        raise OperationalError(statement, None, error) from error


def _copied(rows: Sequence[tuple[object, ...]]) -> str:
    """Return rows of one width as lines of COPY's text format."""
    line = "\t".join(["%s"] * len(rows[0])) + "\n"
    missing = sum([row.count(None) for row in rows])
    plain = [tuple(["\\N" if one is None else one for one in row]) for row in rows] if missing else rows
    text = "".join([line % row for row in plain])
    # Values hardly ever need a second look; where one of them does, all get it.
    if (
        text.count("\t") == len(rows) * (len(rows[0]) - 1)
        and text.count("\n") == len(rows)
        and text.count("\\") == missing
        and "\r" not in text
    ):
        return text
    return "".join([line % tuple(map(_escaped, row)) for row in rows])


def _escaped(value: object) -> str:
    return "\\N" if value is None else str(value).translate(_ESCAPED)


def _batches(rows: Iterable[tuple[object, ...]], size: int) -> Iterator[list[tuple[object, ...]]]:
    every = iter(rows)
    while some := list(itertools.islice(every, size)):
        yield some


def ping(engine: sa.Engine) -> None:
    """Ask the store for nothing, to see whether it answers. Raises SQLAlchemyError when it does not."""
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table of the store. size_bytes: with its indexes, -1 where the engine does not tell."""

    name: str
    rows: int
    size_bytes: int


def table_sizes(engine: sa.Engine) -> list[TableSize]:
    """Return what each table takes, the largest first. Rows are counted, which reads the whole store."""
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        taken = _taken_bytes(connection)
        made = [TableSize(name, _count(connection, name), taken.get(name, -1)) for name in names]
    return sorted(made, key=lambda one: (-one.size_bytes, -one.rows, one.name))


def free_bytes(engine: sa.Engine) -> int:
    """Return how much of a SQLite file holds nothing; it is used again. 0 on PostgreSQL."""
    if engine.dialect.name != "sqlite":
        return 0
    with engine.connect() as connection:
        pages, size = (
            int(connection.exec_driver_sql(f"PRAGMA {one}").scalar_one())
            for one in ("freelist_count", "page_size")
        )
    return pages * size


def _count(connection: sa.Connection, name: str) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(sa.table(name))).scalar_one()


def _taken_bytes(connection: sa.Connection) -> dict[str, int]:
    if connection.dialect.name == "sqlite":
        asked = (
            "SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name "
            "WHERE s.aggregate = TRUE GROUP BY m.tbl_name"
        )
    else:
        asked = (
            "SELECT c.relname, coalesce((SELECT sum(pg_total_relation_size(p.relid)) "
            "FROM pg_partition_tree(c.oid) p), pg_total_relation_size(c.oid)) "
            "FROM pg_class c WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
        )
    try:
        return {str(name): int(size) for name, size in connection.exec_driver_sql(asked)}
    except OperationalError:  # a SQLite that was built without dbstat
        return {}
