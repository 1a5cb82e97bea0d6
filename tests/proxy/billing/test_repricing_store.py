from dataclasses import replace

import pytest

from proxy.billing import policies_store, repricing_store
from proxy.billing.policies import Policy
from proxy.billing.totals import Basis, Totals
from tests.books import NOVEMBER_US, PRICES, RULES, Bookkeeping


@pytest.fixture
def books(engine):
    return Bookkeeping(engine, new=False)


def told(books, prices=PRICES, **numbers):
    closing = books.close(f"p{books.clock.now_us()}")
    assert isinstance(closing.basis, Basis)
    assert isinstance(closing.totals, Totals)
    at = {name: numbers.get(name, getattr(closing.basis, name)) for name in ("registry_seq", "policy_seq")}
    basis = Basis(**{name: getattr(closing.basis, name) for name in Basis.__struct_fields__} | at)
    return repricing_store.rules(books.engine, RULES, prices, basis, closing.totals)


def test_what_came_after_a_periods_numbers_is_left_out(books):
    books.answer([])
    before = told(books)
    policies = policies_store.Policies(books.engine, clock=books.clock, by="ada", currency="USD")
    made = Policy(name="next", rules=RULES)
    policies.add(made)
    policies.activate(made.id)
    books.answer([])
    assert told(books, policy_seq=0) == before
    assert [one[0] for one in told(books).activations] == [1]


def test_a_price_file_that_was_not_in_force_yet_is_left_out(books):
    books.answer([])
    later = replace(PRICES.lists[0], effective_from_us=NOVEMBER_US + 1, text="later")
    added = replace(PRICES, lists=(*PRICES.lists, later))
    assert "later" not in told(books, added).prices
    assert len(told(books, PRICES).prices) <= len(PRICES.lists)
