"""Manifests in the store: one a period, written with it, with its trees in chunks; never changed.

A manifest is in the log a moment after: whoever appends asks here what is still to come.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.metering.store import store_errors
from proxy.receipts.store import LogEntryRow
from proxy.receipts.sums import Kind, SumTree

CHUNKS_AT_ONCE: Final = 100  # 2.6 MB


class ManifestRow(SQLModel, table=True):
    """A period's signed manifest: a compact JWS, and the hash of its payload; append-only."""

    __tablename__: ClassVar[Any] = "manifest"
    period_label: str = Field(sa_type=sa.String, primary_key=True)
    seq: int = Field(sa_type=sa.BigInteger, unique=True)
    jws: str = Field(sa_type=sa.Text)
    digest: bytes = Field(sa_type=sa.LargeBinary)
    payees: int = Field(sa_type=sa.BigInteger)
    apps: int = Field(sa_type=sa.BigInteger)


class SumChunkRow(SQLModel, table=True):
    """Some nodes of a period's tree, side by side on one level; append-only."""

    __tablename__: ClassVar[Any] = "sum_chunk"
    period_label: str = Field(sa_type=sa.String, primary_key=True, foreign_key="manifest.period_label")
    kind: str = Field(sa_type=sa.String, primary_key=True)
    level: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    number: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    nodes: bytes = Field(sa_type=sa.LargeBinary)


_tables = SQLModel.metadata.tables
_manifest, _chunk = _tables["manifest"], _tables["sum_chunk"]
_entry = _tables[str(LogEntryRow.__tablename__)]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A period's manifest. payees, apps: how many leaves its trees have."""

    label: str
    seq: int
    jws: str
    digest: bytes
    payees: int
    apps: int


def read(engine: sa.Engine, label: str) -> Manifest | None:
    """Return a period's manifest; None where it has none: it was closed before there were any."""
    with store_errors(), engine.connect() as connection:
        row = connection.execute(sa.select(_manifest).where(_manifest.c.period_label == label)).first()
    return (
        None
        if row is None
        else Manifest(row[0], int(row[1]), row[2], bytes(row[3]), int(row[4]), int(row[5]))
    )


def previous(connection: sa.Connection, seq: int) -> bytes:
    """Return the digest of the manifest of the period before `seq`; b"" where that has none."""
    found = connection.scalar(sa.select(_manifest.c.digest).where(_manifest.c.seq == seq - 1))
    return b"" if found is None else bytes(found)


def write(connection: sa.Connection, manifest: Manifest, trees: Iterable[tuple[Kind, SumTree]]) -> None:
    """Write a manifest and its trees in the transaction that writes its period."""
    row = {"seq": manifest.seq, "jws": manifest.jws, "digest": manifest.digest}
    counted = {"payees": manifest.payees, "apps": manifest.apps}
    connection.execute(sa.insert(_manifest), [{"period_label": manifest.label, **row, **counted}])
    rows = (
        {"period_label": manifest.label, "kind": kind, "level": level, "number": number, "nodes": nodes}
        for kind, tree in trees
        for level, number, nodes in tree.chunks()
    )
    while some := list(itertools.islice(rows, CHUNKS_AT_ONCE)):
        connection.execute(sa.insert(_chunk), some)


def chunks(engine: sa.Engine, label: str, kind: Kind) -> Callable[[int, int], bytes]:
    """Return what reads a period's tree: (level, number) -> nodes. Reading raises KeyError for none such."""

    def chunk(level: int, number: int) -> bytes:
        at = (_chunk.c.period_label == label, _chunk.c.kind == kind, _chunk.c.level == level)
        with store_errors(), engine.connect() as connection:
            found = connection.scalar(sa.select(_chunk.c.nodes).where(*at, _chunk.c.number == number))
        if found is None:
            raise KeyError((label, kind, level, number))
        return bytes(found)

    return chunk


def unlogged(engine: sa.Engine) -> list[tuple[str, bytes]]:
    """Return (label, digest) of the manifests that the log does not hold yet, oldest first."""
    logged = sa.exists().where(_entry.c.ref == _ref(_manifest.c.period_label))
    query = sa.select(_manifest.c.period_label, _manifest.c.digest).where(~logged).order_by(_manifest.c.seq)
    with store_errors(), engine.connect() as connection:
        return [(str(label), bytes(digest)) for label, digest in connection.execute(query)]


def ref_of(label: str) -> str:
    """Return how the log names a period's manifest: no answer's id begins so."""
    return f"period {label}"


def _ref(label: Any) -> Any:
    return sa.literal("period ").concat(label)
