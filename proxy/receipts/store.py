"""The transparency log in the store: entries, the subtrees above each 256 of them, and how far it reaches.

The log counts settled answers in the order of their `attributed` records, shard by shard, as far as they have
been carried; where it stands in each shard is written in the same transaction as the entries, so it can be
killed at any moment and goes on with the next one: no gap, no answer twice, and no fork, because an append
that does not begin where the log ends is refused. An entry is a mark and a hash, so nothing of a person is in
the log that would have to be erased.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import msgspec
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.metering.gone_store import trimmed_answers, trimmed_ranges
from proxy.metering.store import store_errors
from proxy.receipts.tree import TILE_LEVELS, Node, Subtrees, Tile, from_tiles
from proxy.receipts.verify import HASH_BYTES, leaf_hash

Kind = Literal["receipt", "manifest", "changes"]
MARKS: Final[Mapping[str, bytes]] = {"receipt": b"\x01", "manifest": b"\x02", "changes": b"\x03"}
ROWS_AT_ONCE: Final = 1_000  # one INSERT's parameters stay small on both engines
_ONLY: Final = 1  # the state is one row, there from the migration on


class LogEntryRow(SQLModel, table=True):
    """One entry: whose it is (an answer, a period, changes of the registry) and a hash; append-only."""

    __tablename__: ClassVar[Any] = "log_entry"
    idx: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    kind: str = Field(sa_type=sa.String)
    ref: str = Field(sa_type=sa.String, unique=True)
    digest: bytes = Field(sa_type=sa.LargeBinary)


class LogNodeRow(SQLModel, table=True):
    """The hash of a complete subtree whose level is a multiple of eight; append-only."""

    __tablename__: ClassVar[Any] = "log_node"
    level: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    idx: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    digest: bytes = Field(sa_type=sa.LargeBinary)


class LogStateRow(SQLModel, table=True):
    """How far the log reaches: entries, the subtrees of its root, and the next record of each shard."""

    __tablename__: ClassVar[Any] = "log_state"
    id: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    size: int = Field(sa_type=sa.BigInteger)
    subtrees: bytes = Field(sa_type=sa.LargeBinary)
    positions: str = Field(sa_type=sa.Text)


_tables = SQLModel.metadata.tables
_entry, _node, _state = _tables["log_entry"], _tables["log_node"], _tables["log_state"]
_attributed = _tables["attributed"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be logged. ref: whose it is, once in the log; digest: 32 bytes."""

    kind: Kind
    ref: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class State:
    """How far the log reaches. positions: {shard: the next record to be logged}."""

    size: int = 0
    subtrees: tuple[bytes, ...] = ()
    positions: Mapping[str, int] = field(default_factory=dict[str, int])

    def tree(self) -> Subtrees:
        """Return its root's subtrees, to append to."""
        return Subtrees(self.size, self.subtrees)

    @property
    def root(self) -> bytes:
        """The hash over all entries."""
        return self.tree().root()


def read_state(engine: sa.Engine) -> State:
    """Return how far the log reaches. Raises Unavailable when the store is away."""
    with store_errors(), engine.connect() as connection:
        row = connection.execute(sa.select(_state.c.size, _state.c.subtrees, _state.c.positions)).one()
    raw = bytes(row[1])
    subtrees = tuple(raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES))
    return State(int(row[0]), subtrees, msgspec.json.decode(row[2], type=dict[str, int]))


def append(
    engine: sa.Engine, state: State, entries: Sequence[Entry], positions: Mapping[str, int]
) -> State | None:
    """Append `entries` to the log of `state`, all or nothing. Return how far it reaches then.

    positions: {shard: the next record} after them. None, with nothing changed, when the log is no longer at
    `state`: another was first. Raises Unavailable when the store is away, Conflict for what is there.
    """
    tree = state.tree()
    nodes: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for entry in entries:
        rows.append({"idx": tree.size, "kind": entry.kind, "ref": entry.ref, "digest": entry.digest})
        for level, index, digest in tree.append(leaf_hash(MARKS[entry.kind] + entry.digest)):
            if level and level % TILE_LEVELS == 0:
                nodes.append({"level": level, "idx": index, "digest": digest})
    after = State(tree.size, tree.hashes, {**state.positions, **positions})
    with store_errors(), engine.begin() as connection:
        if not _moved(connection, state, after):
            return None
        for table, new in ((_entry, rows), (_node, nodes)):
            for start in range(0, len(new), ROWS_AT_ONCE):
                connection.execute(sa.insert(table), new[start : start + ROWS_AT_ONCE])
    return after


def _moved(connection: sa.Connection, state: State, after: State) -> bool:
    """Move the state on before all else: on both engines whoever else appends then waits, and sees it."""
    values = {
        "size": after.size,
        "subtrees": b"".join(after.subtrees),
        "positions": msgspec.json.encode(after.positions, order="sorted").decode(),
    }
    before = msgspec.json.encode(state.positions, order="sorted").decode()
    at = sa.and_(_state.c.id == _ONLY, _state.c.size == state.size, _state.c.positions == before)
    return connection.execute(sa.update(_state).where(at).values(values)).rowcount == 1


def place_of(engine: sa.Engine, ref: str) -> int | None:
    """Return where an answer or a period stands in the log; None while it does not."""
    with store_errors(), engine.connect() as connection:
        found = connection.scalar(sa.select(_entry.c.idx).where(_entry.c.ref == ref))
    return None if found is None else int(found)


def places_of(engine: sa.Engine, refs: Sequence[str]) -> dict[str, int]:
    """Return {id: where it stands in the log} of those that are in it. refs: a few hundred at most."""
    query = sa.select(_entry.c.ref, _entry.c.idx).where(_entry.c.ref.in_(refs))
    with store_errors(), engine.connect() as connection:
        return {str(ref): int(place) for ref, place in connection.execute(query)}


def answers_between(engine: sa.Engine, begin: int, end: int) -> list[str]:
    """Return the ids of the answers that stand at begin to end in the log, in its order."""
    at = (_entry.c.idx >= begin, _entry.c.idx < end, _entry.c.kind == "receipt")
    with store_errors(), engine.connect() as connection:
        return list(connection.scalars(sa.select(_entry.c.ref).where(*at).order_by(_entry.c.idx)))


def read_entries(engine: sa.Engine, begin: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of entries begin to end: a mark and a hash each, 33 bytes."""
    query = sa.select(_entry.c.kind, _entry.c.digest).where(_entry.c.idx >= begin, _entry.c.idx < end)
    with store_errors(), engine.connect() as connection:
        rows: Iterable[Any] = connection.execute(query.order_by(_entry.c.idx)).all()
    return (MARKS[row[0]] + bytes(row[1]) for row in rows)


def read_tile(engine: sa.Engine, tile: Tile) -> bytes:
    """Return a tile's hashes, as wide as asked; fewer where the log has fewer."""
    begin = tile.index << TILE_LEVELS
    end = begin + tile.width
    if not tile.level:
        return b"".join(leaf_hash(entry) for entry in read_entries(engine, begin, end))
    query = sa.select(_node.c.digest).where(
        _node.c.level == tile.level * TILE_LEVELS, _node.c.idx >= begin, _node.c.idx < end
    )
    with store_errors(), engine.connect() as connection:
        rows: Iterable[Any] = connection.execute(query.order_by(_node.c.idx)).all()
    return b"".join(bytes(row[0]) for row in rows)


def nodes(engine: sa.Engine, size: int) -> Node:
    """Return the hashes of complete subtrees of a log of `size`, a few tiles read for each proof."""
    return from_tiles(size, lambda tile: read_tile(engine, tile))


def bundle(entries: Iterable[bytes]) -> bytes:
    """Return entries as tlog-tiles bundles them: each after its length in two bytes."""
    return b"".join(itertools.chain.from_iterable((len(one).to_bytes(2, "big"), one) for one in entries))


def differences(connection: sa.Connection) -> tuple[int, list[str]]:
    """Return (entries, what does not hold), the root and its subtrees made anew of every entry.

    Places have no gap, and each settled answer that the log has passed is in it. Memory: a page of entries.
    """
    row = connection.execute(sa.select(_state.c.size, _state.c.subtrees, _state.c.positions)).one()
    found: list[str] = []
    tree = Subtrees()
    made: list[dict[str, Any]] = []
    kept = connection.execution_options(stream_results=True, max_row_buffer=ROWS_AT_ONCE)
    query = sa.select(_entry.c.idx, _entry.c.kind, _entry.c.digest).order_by(_entry.c.idx)
    with kept.execute(query) as entries:
        for place, kind, digest in entries:
            if place != tree.size:
                found.append(f"after entry {tree.size - 1} of the log comes {place}")
                break
            for level, index, hashed in tree.append(leaf_hash(MARKS[kind] + bytes(digest))):
                if level and level % TILE_LEVELS == 0:
                    made.append({"level": level, "idx": index, "digest": hashed})
            if len(made) >= ROWS_AT_ONCE:
                found += _other_nodes(connection, made)
                made = []
    found += _other_nodes(connection, made)
    if (tree.size, b"".join(tree.hashes)) != (int(row[0]), bytes(row[1])) and not found:
        found.append(f"the log says {row[0]} entries and another root than its {tree.size} entries have")
    positions = msgspec.json.decode(row[2], type=dict[str, int])
    passed = _passed(connection, positions)
    receipts = connection.scalar(sa.select(sa.func.count()).where(_entry.c.kind == "receipt"))
    if passed != receipts:
        found.append(f"the log has passed {passed} settled answers and holds {receipts}")
    return tree.size, found


def _passed(connection: sa.Connection, positions: Mapping[str, int]) -> int:
    """Return how many settled answers the log has passed, those included that have left the store since."""
    in_store = sa.select(sa.func.count()).select_from(_attributed)
    below = [(_attributed.c.shard_id == shard, _attributed.c.idx < mark) for shard, mark in positions.items()]
    # A period's answers leave only when the log has passed all of them. Some may be leaving at this moment.
    ranges = trimmed_ranges(connection)
    leaving = [
        (_attributed.c.shard_id == shard, _attributed.c.idx >= start, _attributed.c.idx < end)
        for shard, start, end in ranges
    ]
    there = sum(int(connection.scalar(in_store.where(*one)) or 0) for one in below)
    still = sum(int(connection.scalar(in_store.where(*one)) or 0) for one in leaving)
    return there - still + trimmed_answers(connection)


def _other_nodes(connection: sa.Connection, made: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for node in made:
        at = (_node.c.level == node["level"], _node.c.idx == node["idx"])
        kept = connection.scalar(sa.select(_node.c.digest).where(*at))
        if kept is None or bytes(kept) != node["digest"]:
            yield f"subtree {node['idx']} of level {node['level']} of the log is not that of its entries"
