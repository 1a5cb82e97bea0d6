"""Passages counted: once an answer whose usage is there, by month, app and model, in bounded memory."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from proxy.billing import passages_store
from proxy.billing.passages import CELL, By
from proxy.billing.passages_store import PassageUses, passages_of, uses_between
from proxy.clock import parse_time_us
from tests.proxy.billing.conftest import make_event, meter
from tests.stores import lay

ONE, TWO, DECEMBER_US = (
    make_event(1),
    make_event(2, app_id="app_b", model="other"),
    parse_time_us("2026-12-03"),
)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    from proxy.database import open_engine

    url = f"sqlite:///{tmp_path / 'passages.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


def test_answers_are_counted_by_cell_month_app_and_model_and_each_once_for_its_work(store):
    later = make_event(3, occurred_us=DECEMBER_US)
    meter(store, [ONE, TWO, later])
    uses = PassageUses(store)
    uses.add(ONE.id, {"w_a": [(0, CELL), (10, CELL), (CELL, 3 * CELL)], "w_b": [(0, 5)]})
    uses.add(TWO.id, {"w_a": [(0, CELL)]})
    uses.add(later.id, {"w_a": [(0, CELL)]})
    assert uses.step() == 3
    assert uses.step() == 0
    found = passages_of(store, "w_a", now_us=DECEMBER_US)
    assert found.months == (("2026-12", 1), ("2026-11", 2))
    assert found.by == (By("app_a", "demo-writer", 2), By("app_b", "other", 1))
    assert (found.answers, found.most, found.cells) == (3, ((0, 3), (1, 1), (2, 1)), 3)
    november = passages_of(store, "w_a", "2026-11", now_us=DECEMBER_US)
    assert (november.answers, november.most[0]) == (2, (0, 2))
    assert uses_between(store, "w_a", 0, 2 * CELL, "2026-11") == {
        0: (By("app_a", "demo-writer", 1), By("app_b", "other", 1)), 1: (By("app_a", "demo-writer", 1),),
    }  # fmt: skip
    assert uses_between(store, "w_a", 2 * CELL, 3 * CELL) == {2: (By("app_a", "demo-writer", 1),)}
    assert passages_of(store, "w_nobody", now_us=DECEMBER_US).answers == 0


def test_an_answer_waits_until_its_usage_is_in_the_store_and_not_for_ever(store, monkeypatch):
    monkeypatch.setattr(passages_store, "LOOKS_MAX", 2)
    uses = PassageUses(store)
    uses.add(ONE.id, {"w_a": [(0, 9)]})
    uses.add("rct_refused", {"w_a": [(0, 9)]})
    assert uses.step() == 0
    meter(store, [ONE])
    assert [uses.step() for _ in range(3)] == [1, 0, 0]
    assert passages_of(store, "w_a", now_us=DECEMBER_US).answers == 1
    assert not uses._waiting


def test_a_store_that_is_away_costs_no_count(store, monkeypatch):
    meter(store, [ONE])
    uses = PassageUses(store)
    uses.add(ONE.id, {"w_a": [(0, 9)]})

    def away(_self):
        raise OperationalError("begin", {}, Exception("away"))

    monkeypatch.setattr(sa.Engine, "connect", away)
    with pytest.raises(OperationalError):
        uses.step()
    monkeypatch.undo()
    assert uses.step() == 1


def test_what_waits_is_bounded_and_the_oldest_is_left_out(store, monkeypatch):
    monkeypatch.setattr(passages_store, "WAITING_MAX", 2)
    meter(store, [ONE, TWO])
    uses = PassageUses(store)
    for one in ("rct_oldest", ONE.id, TWO.id):
        uses.add(one, {"w_a": [(0, 9)]})
    assert uses.step() == 2
    assert passages_of(store, "w_a", now_us=DECEMBER_US).answers == 2
