import pytest
import sqlalchemy as sa

from proxy.billing.tax_numbers_store import VERSIONS_MAX, TaxNumbers
from proxy.errors import BadRequest, Conflict, Problem
from tests.books import Bookkeeping


@pytest.fixture
def books(engine):
    return Bookkeeping(engine)


def numbers(books, key=bytes(32)):
    return TaxNumbers(books.engine, clock=books.clock, key=lambda: key, by="Ines")


def test_a_number_is_kept_sealed_and_shown_by_its_last_four(books):
    kept = numbers(books)
    assert kept.known("c_0") is None
    assert kept.revealed("c_0") == ""
    assert kept.enter("c_0", " de 123  456 ", "de")
    assert not kept.enter("c_0", "DE 123 456", "DE")
    assert kept.known("c_0") == ("DE", " 456")
    assert kept.revealed("c_0") == "DE 123 456"
    with books.engine.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM tax_number")).one()
    assert b"123" not in bytes(row.sealed)
    assert (row.version, row.by) == (1, "Ines")
    assert kept.enter("c_0", "DE 999", "DE")
    assert kept.revealed("c_0") == "DE 999"


def test_it_opens_with_its_own_key_only(books):
    numbers(books).enter("c_0", "DE 123", "DE")
    with pytest.raises(Problem, match="does not open"):
        numbers(books, b"k" * 32).revealed("c_0")


@pytest.mark.parametrize("number", ["", "A", "12 <3>", "Ä123", "1" * 41])
def test_what_is_no_number_is_refused_without_repeating_it(books, number):
    with pytest.raises(BadRequest) as refused:
        numbers(books).enter("c_0", number, "DE")
    assert len(number) < 2 or number not in str(refused.value)


def test_whoever_changes_it_for_ever_is_stopped(books):
    kept = numbers(books)
    for version in range(VERSIONS_MAX):
        assert kept.enter("c_0", f"DE {1000 + version}", "DE")
    with pytest.raises(Conflict):
        kept.enter("c_0", "DE 1", "DE")
