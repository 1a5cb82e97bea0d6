"""What the public page says stands in the books is what the ledger says, and sums to it."""

from __future__ import annotations

import pytest

from proxy.billing import store
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.billing.statements import UNCLAIMED
from proxy.billing.transparency_store import standing
from proxy.clock import parse_time_us
from proxy.metering.usage import Line
from proxy.settings import Billing

NOW_US = parse_time_us("2026-12-01")


@pytest.fixture
def closed(engine, event, make, into_store):
    into_store.register(engine, make(count=0).books)
    lines = (Line("w_00001", 400_000), Line("w_00000", 300_000))
    into_store.meter(engine, [event(number, lines, price_grains=1_000_000) for number in range(1, 4)])
    return close_period(engine, "2026-11", Billing(), load(), dry_run=False, now_us=NOW_US)


def test_an_empty_store_has_nothing_to_say(engine):
    assert standing(engine) == []


def test_it_is_the_ledger_by_kind(engine, closed):
    (told,) = standing(engine)
    ledger = store.balances(engine)

    def of(prefix: str) -> int:
        return sum(grains for (code, _), grains in ledger.items() if code.startswith(prefix))

    assert told.currency == "USD"
    assert told.common_grains == closed.totals.common_grains
    assert told.owed_grains == of("liab:payee:") == closed.totals.creators_grains > 0
    assert told.unclaimed_grains == of("liab:escrow:unclaimed:") == closed.totals.escrow_grains
    assert (told.claimed_grains, told.disputed_grains, told.paid_out_grains) == (0, 0, 0)
    assert sum(told.common_grains.values()) == of("liab:common:")


def test_an_unclaimed_part_is_told(engine, event, make, into_store):
    books = make(count=0).books
    work = next(work for work, split in books.splits.items() if UNCLAIMED in dict(split.parties))
    into_store.register(engine, books)
    into_store.meter(engine, [event(1, (Line(work, 1_000_000),), price_grains=1_000_000)])
    closing = close_period(engine, "2026-11", Billing(), load(), dry_run=False, now_us=NOW_US)
    (told,) = standing(engine)
    assert told.unclaimed_grains == closing.totals.escrow_grains > 0
