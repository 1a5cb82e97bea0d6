import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import ledger
from proxy.billing.ledger import Entry, Transfer, Unbalanced, balances, transfer_id


def transfer(*entries: Entry, currency: str = "USD") -> Transfer:
    return Transfer(transfer_id("charge", "p|a"), "charge", currency, 0, "p", "app a", entries)


def test_a_transfer_that_balances_can_be_made():
    made = transfer(
        Entry(ledger.receivable("a"), "D", 5),
        Entry(ledger.of_work("w", 1), "C", 3),
        Entry(ledger.common("p", "unattributed"), "C", 2),
    )
    assert balances([made]) == {
        ("asset:receivable:a", "USD"): 5,
        ("liab:work:w:v1", "USD"): 3,
        ("liab:common:p:unattributed", "USD"): 2,
    }


@given(st.integers(1, 10**18), st.integers(1, 10**18))
def test_one_that_does_not_balance_cannot(debit, credit):
    entries = (Entry("asset:receivable:a", "D", debit), Entry("income:platform:a", "C", credit))
    if debit == credit:
        assert transfer(*entries).entries == entries
        return
    with pytest.raises(Unbalanced) as refused:
        transfer(*entries)
    assert refused.value.excess_grains == debit - credit


def test_a_transfer_of_nothing_cannot_be_made():
    with pytest.raises(Unbalanced):
        transfer()


@pytest.mark.parametrize("grains", [0, -1, 2**63])
def test_an_entry_is_positive_and_fits_the_store(grains):
    with pytest.raises(ValueError, match="grains"):
        Entry("asset:receivable:a", "D", grains)


@pytest.mark.parametrize("code", ["", "liab", "liab:", "cash:drawer", "LIAB:x"])
def test_an_account_has_a_known_kind(code):
    with pytest.raises(ValueError, match="account code"):
        Entry(code, "D", 1)


def test_an_account_passed_through_ends_at_nothing():
    first = transfer(Entry("asset:receivable:a", "D", 5), Entry("liab:work:w:v1", "C", 5))
    second = transfer(Entry("liab:work:w:v1", "D", 5), Entry("liab:payee:c", "C", 5))
    assert balances([first, second])["liab:work:w:v1", "USD"] == 0


def test_currencies_are_told_apart_in_balances():
    entries = (Entry("asset:receivable:a", "D", 5), Entry("income:platform:a", "C", 5))
    assert balances([transfer(*entries), transfer(*entries, currency="EUR")]) == {
        ("asset:receivable:a", "USD"): 5,
        ("income:platform:a", "USD"): 5,
        ("asset:receivable:a", "EUR"): 5,
        ("income:platform:a", "EUR"): 5,
    }


def test_the_same_source_is_the_same_transfer_and_another_kind_is_not():
    assert transfer_id("charge", "p|a") == transfer_id("charge", "p|a")
    assert len({transfer_id("charge", "p|a"), transfer_id("split", "p|a"), transfer_id("charge", "p|b")}) == 3
    assert len(transfer_id("charge", "p|a")) == 32


@pytest.mark.parametrize("own", ["", "c_a"])
def test_an_account_that_claims_hold_says_which_work_and_whose_own_app(own):
    assert ledger.claim_of(ledger.claimed("w_1", own)) == ("w_1", own)
