"""Money and shares are integers from the journal to the statement: no float can enter, in code or in a column."""

from __future__ import annotations

import ast
import importlib

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from tests.repository import ROOT, modules, parsed, shown

MONEY_PATHS = [
    path
    for path in modules("proxy")
    if shown(path).startswith("proxy/billing/")
    or shown(path) in {"proxy/metering/usage.py", "proxy/metering/store.py", "attribution/allocation.py"}
]
PURE_SUMS = {"money.py", "ledger.py", "statements.py"}  # no paths here, so every / would be a division


@pytest.mark.parametrize("path", MONEY_PATHS, ids=shown)
def test_no_float_on_a_money_path(path):
    found = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Name) and node.id == "float")
        or (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (path.name in PURE_SUMS and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div))
    ]
    assert found == []


def tables() -> list[sa.Table]:
    for store in ROOT.glob("proxy/*/store.py"):
        importlib.import_module(f"proxy.{store.parent.name}.store")
    return SQLModel.metadata.sorted_tables


def test_there_are_tables_to_look_at():
    assert len(tables()) >= 10


def test_every_integer_column_holds_64_bits():
    narrow = [
        f"{table.name}.{column.name}: {column.type!r}"
        for table in tables()
        for column in table.columns
        if isinstance(column.type, sa.Integer) and not isinstance(column.type, sa.BigInteger)
    ]
    assert narrow == [], "PostgreSQL's INTEGER overflows at 2,147,483,647 grains, two dollars"


def test_no_column_is_a_float():
    assert [
        f"{table.name}.{column.name}"
        for table in tables()
        for column in table.columns
        if isinstance(column.type, (sa.Float, sa.Numeric)) and not isinstance(column.type, sa.Integer)
    ] == []
