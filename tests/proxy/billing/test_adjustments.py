import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import adjustments
from proxy.billing.adjustments import Event, account_of, corrected, made, may_approve, may_reject, state_of
from proxy.billing.ledger import balances, payee
from proxy.errors import BadRequest, Conflict

STATEMENT = "stm_" + "a" * 26
COMMON = "liab:common:2026-11:unattributed"


def one(**changes):
    said = {
        "corrects": STATEMENT, "creator": "c_a", "currency": "USD", "grains": 5, "account": COMMON,
        "reason": "Counted twice.", "by": "ada", "now_us": 1,
    }  # fmt: skip
    return made(**(said | changes))


def happened(*kinds):
    return [Event(seq=n, kind=kind, by="ada", reason="", at_us=n) for n, kind in enumerate(kinds, 1)]


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("common:2026-11:no_text", "liab:common:2026-11:no_text"),
        ("app:app_1", "asset:receivable:app_1"),
        ("platform", "expense:subsidy"),
    ],
)
def test_the_other_side_is_common_money_what_an_app_owes_or_the_platforms_own(text, account):
    assert account_of(text) == account


@pytest.mark.parametrize("text", ["", "common", "common:x", "app:", "payee:c_b", "app:a b", "common:x:Y:z"])
def test_no_other_account_can_be_named(text):
    with pytest.raises(BadRequest) as refused:
        account_of(text)
    assert refused.value.code == "adjustment_account"


def test_it_corrects_a_transfer_a_statement_or_a_line():
    assert corrected("ab" * 16) == ("ab" * 16, "", 0)
    assert corrected(STATEMENT) == ("", STATEMENT, 0)
    assert corrected(f"{STATEMENT}/12") == ("", STATEMENT, 12)
    for text in ("", "2026-11", f"{STATEMENT}/0", f"{STATEMENT}/x", "AB" * 16):
        with pytest.raises(BadRequest):
            corrected(text)


def test_saying_the_same_is_the_same_adjustment_whoever_says_it_when():
    assert one().id == one(by="bob", now_us=9).id
    others = [one(grains=6), one(grains=-5), one(reason="Other."), one(creator="c_b"), one(currency="EUR")]
    assert len({one().id, *(other.id for other in others)}) == 6


def test_an_adjustment_of_nothing_is_none():
    with pytest.raises(BadRequest):
        one(grains=0)


@given(st.integers(-(2**62), 2**62).filter(bool), st.sampled_from(["expense:subsidy", COMMON]))
def test_what_one_side_gets_the_other_gives(grains, account):
    booked = adjustments.transfer(one(grains=grains, account=account), 7)
    assert balances([booked])[payee("c_a"), "USD"] == grains
    assert booked.id == adjustments.transfer(one(grains=grains, account=account), 8).id


def test_what_takes_is_approved_by_somebody_else():
    taking = one(grains=-5)
    with pytest.raises(Conflict) as refused:
        may_approve(taking, happened("proposed"), " ADA ")
    assert refused.value.code == "adjustment_second_person"
    assert may_approve(taking, happened("proposed"), "bob")
    assert not may_approve(taking, happened("proposed", "booked"), "bob")
    with pytest.raises(Conflict):
        may_approve(taking, happened("proposed", "rejected"), "bob")


def test_what_is_booked_cannot_be_rejected():
    assert may_reject(one(), happened("proposed"))
    assert not may_reject(one(), happened("proposed", "rejected"))
    with pytest.raises(Conflict):
        may_reject(one(), happened("proposed", "booked"))
    assert state_of(happened("proposed", "booked")) == "booked"
