import csv
import io

import msgspec
import pytest

from proxy.billing import focus_store, store
from proxy.billing.ledger import receivable
from proxy.billing.money import parse
from proxy.billing.pools_store import Pools
from proxy.billing.run import close_period
from proxy.errors import Conflict, NotFound
from proxy.metering.usage import Line
from proxy.settings import Billing, Payouts, Scheme, Settings
from tests.fakes import CountingIds, FrozenClock
from tests.proxy.billing.conftest import CLOSED_US, make_month, meter, register

RULES = Billing(schemes=(Scheme(scheme="direct", app="app_3"),))
SETTINGS = Settings(billing=RULES, payouts=Payouts(debtor_name="Harbour House"))


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def total(content: bytes) -> int:
    rows = read(content)
    assert sum(parse(row["BilledCost"], "USD") for row in rows) == sum(
        int(row["x_CostGrains"]) for row in rows
    )
    return sum(int(row["x_CostGrains"]) for row in rows)


def closed(engine, prices, count: int, seed: int, label: str = "2026-11", rules: Billing = RULES) -> int:
    """Meter and close a month made up by `seed`; return how many answers it had."""
    made = make_month(count=count, creators=8, works=20, seed=seed)
    events = [msgspec.structs.replace(one, id=f"rct_{label}_{seed}_{n}") for n, one in enumerate(made.events)]
    if not store.list_periods(engine):
        register(engine, made.books)
    meter(engine, events)
    close_period(engine, label, rules, prices, dry_run=False, now_us=CLOSED_US)
    return len(events)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", ["common", "platform", "not_charged"])
def test_invoice_and_usage_sum_to_what_the_ledger_charged_each_app(engine, prices, seed, mode):
    rules = msgspec.structs.replace(RULES, unattributed=mode)
    settings = msgspec.structs.replace(SETTINGS, billing=rules)
    answers = closed(engine, prices, 60 + 40 * seed, seed, rules=rules)
    owed = {code: grains for (code, _), grains in store.balances(engine, receivable("")).items()}
    used = 0
    for app in sorted({code.removeprefix(receivable("")) for code in owed}):
        invoice = focus_store.invoice(engine, settings, "2026-11", app)
        usage = focus_store.usage(engine, settings, prices, "2026-11", app)
        assert total(invoice) == total(usage) == owed[receivable(app)]
        assert {row["BillingAccountId"] for row in read(usage)} == {app}
        used += sum(int(row["ConsumedQuantity"] or 0) for row in read(usage))
    assert used == answers
    assert total(focus_store.invoice(engine, settings, "2026-11")) == sum(owed.values())
    assert total(focus_store.usage(engine, settings, prices, "2026-11")) == sum(owed.values())


def test_a_later_period_is_told_by_itself_and_the_issuer_is_named(engine, prices):
    closed(engine, prices, 80, 1)
    closed(engine, prices, 50, 2, label="2026-12")
    first = focus_store.invoice(engine, SETTINGS, "2026-11")
    second = focus_store.usage(engine, SETTINGS, prices, "2026-12")
    owed = sum(store.balances(engine, receivable("")).values())
    assert total(first) + total(second) == owed
    assert {row["InvoiceIssuerName"] for row in read(first)} == {"Harbour House"}
    assert {row["x_Period"] for row in read(second)} == {"2026-12"}
    assert {row["BillingPeriodStart"] for row in read(second)} == {"2026-12-01T00:00:00Z"}
    assert {row["BillingAccountName"] for row in read(first)} <= {f"App {n}" for n in range(7)}


def test_answers_that_no_longer_sum_to_the_ledger_are_refused_and_the_invoice_stands(engine, prices):
    closed(engine, prices, 80, 1)
    other = msgspec.structs.replace(SETTINGS, billing=msgspec.structs.replace(RULES, royalty_ppm=299_999))
    with pytest.raises(Conflict, match="no longer sum") as refused:
        focus_store.usage(engine, other, prices, "2026-11")
    assert refused.value.code == "usage_changed"
    assert total(focus_store.invoice(engine, other, "2026-11")) == sum(
        store.balances(engine, receivable("")).values()
    )


def test_a_long_period_is_not_rated_while_serving(engine, prices):
    closed(engine, prices, 60, 3)
    with pytest.raises(Conflict, match="60 answers") as refused:
        focus_store.usage(engine, SETTINGS, prices, "2026-11", events_max=59)
    assert refused.value.code == "usage_too_large"
    assert "endcredits apps usage" in refused.value.remedy
    assert focus_store.usage(engine, SETTINGS, prices, "2026-11", events_max=60)


def test_what_is_not_there_is_said(engine, prices):
    with pytest.raises(NotFound, match="no period"):
        focus_store.invoice(engine, SETTINGS, "2026-11")
    closed(engine, prices, 40, 4)
    assert read(focus_store.invoice(engine, SETTINGS, "2026-11", "app_nobody")) == []
    assert read(focus_store.usage(engine, SETTINGS, prices, "2026-11", "app_nobody")) == []


def test_what_a_pool_paid_is_a_row_of_its_own_and_sums_to_the_ledger_too(engine, prices, event, into_store):
    into_store.register(engine, make_month(count=0, works=3, creators=4).books)
    rules = Billing(schemes=(Scheme(scheme="pool", app="app_1"),))
    settings = Settings(billing=rules)
    line = (Line("w_00001", 600_000),)
    into_store.meter(
        engine,
        [
            event(n, line, app_id=f"app_{1 + n % 2}", subject_digest=f"u{n}", price_grains=10**9)
            for n in range(9)
        ],
    )
    ids, clock = CountingIds(), FrozenClock()
    made = Pools(engine, clock=clock, ids=ids, by="ada", currency="USD").declare(
        "app_1", "2026-11", "20.01", users=7
    )
    Pools(engine, clock=clock, ids=ids, by="ben", currency="USD").decide(made.id, "approved")
    close_period(engine, "2026-11", rules, prices, dry_run=False, now_us=CLOSED_US)
    for app in ("app_1", "app_2"):
        usage = focus_store.usage(engine, settings, prices, "2026-11", app)
        invoice = focus_store.invoice(engine, settings, "2026-11", app)
        assert (
            total(usage) == total(invoice) == store.balances(engine, receivable(app))[receivable(app), "USD"]
        )
    pooled = read(focus_store.usage(engine, settings, prices, "2026-11", "app_1"))
    assert {(row["ChargeCategory"], row["x_Scheme"]) for row in pooled} == {
        ("Usage", "pool"),
        ("Purchase", "pool"),
    }
    assert sum(int(row["ConsumedQuantity"] or 0) for row in pooled) == 5
