"""No table of money can be forgotten by the audit: what is append-only is watched, what counts is an integer."""

from __future__ import annotations

import importlib
import re

import sqlalchemy as sa
from sqlmodel import SQLModel

import proxy.app  # noqa: F401  every chapter, in its order
from proxy.billing.audit_queries_store import HISTORY, INTEGERS
from tests.house.test_schema import APPEND_ONLY
from tests.repository import ROOT

# Columns that say when, which or where, and no amount, share or count.
PLACES = re.compile(r"(id|seq|idx|ord|line|level|number|version|\w+_(us|seq|idx|id))$")


def test_every_table_that_only_grows_is_watched_by_the_audit():
    assert set(HISTORY) == APPEND_ONLY
    assert len(HISTORY) == len(set(HISTORY))


def test_every_amount_share_and_count_in_them_is_checked_to_be_an_integer():
    for path in sorted(ROOT.glob("proxy/*/*store.py")):
        importlib.import_module(f"proxy.{path.parent.name}.{path.stem}")
    tables = SQLModel.metadata.tables
    counted = {
        (name, column.name)
        for name in APPEND_ONLY
        for column in tables[name].columns
        if isinstance(column.type, sa.BigInteger) and not PLACES.match(column.name)
    }
    assert set(INTEGERS) == counted
