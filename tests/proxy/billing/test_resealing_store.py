import os

import pytest

from proxy.billing import payees
from proxy.billing.payees_store import Payees
from proxy.billing.resealing_store import BY, NEXT, OLD, reseal
from proxy.billing.tax_numbers_store import TaxNumbers
from proxy.errors import Conflict, Problem
from proxy.metering.usage import Line
from tests.books import Bookkeeping


@pytest.fixture
def books(engine, tmp_path):
    """Books whose accounts are sealed under a key that is 32 zeros."""
    (tmp_path / "payees.key").write_bytes(bytes(32))
    kept = Bookkeeping(engine)
    TaxNumbers(engine, clock=kept.clock, key=lambda: bytes(32)).enter("c_0", "DE 123", "DE")
    return kept


def opened(books, key):
    found = Payees(books.engine, clock=books.clock, key=lambda: key)
    newest = [(one.creator, one.version) for one in found.newest()]
    return {creator: one.account for creator, one in found.unsealed(newest).items()}


def test_what_is_in_use_is_sealed_anew_as_verified_as_it_was_and_the_old_key_is_gone(books, tmp_path):
    key_file = tmp_path / "payees.key"
    unverified = payees.account("manual", "cheque to nobody", holder="Nobody", country_code="DE")
    kept = Payees(books.engine, clock=books.clock, key=lambda: bytes(32))
    kept.enter("c_1", unverified, minimum_grains=0, currency="USD", verified=False)
    before = opened(books, bytes(32))
    assert reseal(books.engine, key_file, clock=books.clock) == 5
    new = key_file.read_bytes()
    assert new != bytes(32)
    assert opened(books, new) == before
    assert TaxNumbers(books.engine, clock=books.clock, key=lambda: new).revealed("c_0") == "DE 123"
    newest = {one.creator: one for one in kept.newest()}
    assert {one.by for one in newest.values()} == {BY}
    assert [bool(newest[creator].verified_by) for creator in books.creators] == [True, False, True, True]
    with pytest.raises(Problem, match="does not open"):
        opened(books, bytes(32))
    assert not {OLD, NEXT} & {path.suffix for path in tmp_path.iterdir()}


def test_after_a_kill_it_goes_on_where_it_was(books, tmp_path):
    key_file, half = tmp_path / "payees.key", os.urandom(32)
    before = opened(books, bytes(32))
    # Killed behind the change of keys and before the store had anything.
    (tmp_path / f"payees.key{OLD}").write_bytes(bytes(32))
    key_file.write_bytes(half)
    assert reseal(books.engine, key_file, clock=books.clock) == 5
    assert key_file.read_bytes() == half
    assert opened(books, half) == before
    # Killed behind the commit: there is nothing left to do but to destroy the old key.
    (tmp_path / f"payees.key{OLD}").write_bytes(bytes(32))
    assert reseal(books.engine, key_file, clock=books.clock) == 0
    assert not (tmp_path / f"payees.key{OLD}").exists()


def test_while_a_payment_is_under_way_no_key_is_changed(books, tmp_path):
    books.answer([Line("w_0", 1_000_000)])
    books.close("2026-11")
    batch = books.propose()
    with pytest.raises(Conflict, match="under way"):
        reseal(books.engine, tmp_path / "payees.key", clock=books.clock)
    books.bob.approve(batch.id)
    books.export(batch.id)
    books.bob.settle(batch.id, ref="bank")
    assert reseal(books.engine, tmp_path / "payees.key", clock=books.clock) == 5


def test_where_something_does_not_open_nothing_is_changed(books, tmp_path):
    (tmp_path / "payees.key").write_bytes(b"k" * 32)
    with pytest.raises(Problem, match="does not open"):
        reseal(books.engine, tmp_path / "payees.key", clock=books.clock)
    assert {one.version for one in Payees(books.engine, clock=books.clock, key=bytes).newest()} == {1}
