"""What happens to a balance between two closes is told by exactly one statement, and the sums go on."""

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.billing import ledger, movements_store, store
from proxy.billing.ledger import Entry, Transfer, transfer_id
from proxy.billing.money import PPM
from proxy.billing.run import close_period
from proxy.billing.statements import Books, SplitSet
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.proxy.billing.conftest import CLOSED_US, make_event, meter, register

BOOKS = Books({"w_1": SplitSet(1, (("c_a", PPM),), "Low Water")}, {"c_a": "Ada"}, {"app_a": "Choir"}, {})


def book(engine, kind, source, entries, currency="USD"):
    """As anything that is no close books: without a period."""
    made = Transfer(transfer_id(kind, source), kind, currency, 7, "", source, entries)
    tables = SQLModel.metadata.tables
    with engine.begin() as connection:
        ids = {}
        for entry in made.entries:
            account = {"code": entry.account, "currency": currency}
            found = sa.select(tables["account"].c.id).filter_by(**account)
            if connection.execute(found).first() is None:
                normal = ledger.normal_side(entry.account)
                connection.execute(sa.insert(tables["account"]), [account | {"normal": normal}])
            ids[entry.account] = connection.execute(found).scalar_one()
        row = {
            "id": made.id,
            "kind": kind,
            "currency": currency,
            "at_us": 7,
            "period_label": "",
            "ref": source,
        }
        connection.execute(sa.insert(tables["transfer"]), [row])
        rows = [
            {
                "transfer_id": made.id,
                "ord": place,
                "account_id": ids[one.account],
                "side": one.side,
                "amount": one.grains,
            }
            for place, one in enumerate(made.entries)
        ]
        connection.execute(sa.insert(tables["entry"]), rows)
    return made.id


def pay(engine, grains, source="pay_1"):
    entries = (Entry(ledger.payee("c_a"), "D", grains), Entry("liab:payout:pob_1", "C", grains))
    return book(engine, "payout", source, entries)


@pytest.fixture
def closes(engine, prices):
    register(engine, BOOKS)
    number = iter(range(100))

    def close(label, *, used=True, dry_run=False):
        if used:
            meter(engine, [make_event(next(number), (Line("w_1", PPM),))])
        made = close_period(engine, label, Billing(), prices, dry_run=dry_run, now_us=CLOSED_US)
        return {statement.creator: statement for statement in made.statements}

    return close


def test_what_was_paid_is_told_once_and_the_balances_go_on(engine, closes):
    first = closes("1")["c_a"]
    assert first.moves == ()
    transfer = pay(engine, 1_000)
    second = closes("2")["c_a"]
    assert second.opening_grains == first.closing_grains
    assert second.paid_grains == 1_000
    assert [move.transfer for move in second.moves] == [transfer]
    assert second.closing_grains == second.opening_grains + second.earned_grains - 1_000
    third = closes("3")["c_a"]
    assert third.opening_grains == second.closing_grains
    assert third.moves == ()
    assert store.balances(engine, "liab:payee:") == {("liab:payee:c_a", "USD"): third.closing_grains}


def test_a_dry_run_tells_of_it_and_leaves_it_to_be_told(engine, closes):
    closes("1")
    pay(engine, 1_000)
    assert closes("2", dry_run=True)["c_a"].paid_grains == 1_000
    assert closes("2", used=False)["c_a"].paid_grains == 1_000


def test_whoever_was_paid_everything_and_used_nothing_still_gets_a_statement(engine, closes):
    owed = closes("1")["c_a"].closing_grains
    pay(engine, owed)
    second = closes("2", used=False)["c_a"]
    assert (second.opening_grains, second.paid_grains, second.closing_grains) == (owed, owed, 0)
    assert "c_a" not in closes("3", used=False)


def test_what_is_paid_while_a_close_computes_is_told_by_the_next(engine, closes, monkeypatch):
    first = closes("1")["c_a"]
    write = store.write

    def paid_meanwhile(*arguments, **named):
        pay(engine, 5)
        return write(*arguments, **named)

    monkeypatch.setattr(store, "write", paid_meanwhile)
    second = closes("2")["c_a"]
    monkeypatch.undo()
    assert (second.opening_grains, second.paid_grains) == (first.closing_grains, 0)
    third = closes("3")["c_a"]
    assert (third.opening_grains, third.paid_grains) == (second.closing_grains, 5)
    assert store.balances(engine, "liab:payee:") == {("liab:payee:c_a", "USD"): third.closing_grains}


def test_a_statement_with_moves_comes_back_equal_and_in_the_manifest(engine, closes):
    closes("1")
    plain = closes("2", dry_run=True, used=False)
    pay(engine, 5)
    told = closes("2", used=False)
    assert store.statement(engine, told["c_a"].id) == told["c_a"]
    assert plain["c_a"].closing_grains == told["c_a"].closing_grains + 5
    loaded = store.load_closing(engine, "2")
    assert loaded.statements == (told["c_a"],)


def test_other_currencies_are_other_balances(engine, closes):
    closes("1")
    entries = (Entry("asset:cash:manual", "D", 3), Entry(ledger.payee("c_a"), "C", 3))
    book(engine, "payout_return", "x", entries, currency="EUR")
    assert list(movements_store.unreported(engine, "EUR")) == ["c_a"]
    assert movements_store.unreported(engine, "USD") == {}
    assert movements_store.opening(engine, "EUR") == {}
