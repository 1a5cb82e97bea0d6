import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import common
from proxy.billing.ledger import balances
from proxy.errors import Conflict

SHARES = {"liab:payee:c_1": 600, "liab:payee:c_2": 300, "liab:escrow:unclaimed:w_9": 100, "liab:payee:c_3": 0}


def plan(**changes):
    facts = {
        "id_": "dst_1", "period": "2026-11", "currency": "USD", "policy": "pol_1", "rule": "pro_rata", "to": "",
        "available": {"unattributed": 1_000, "no_text": 7, "empty": 0}, "shares": SHARES, "by": "ada", "at_us": 5,
    }  # fmt: skip
    return common.plan(**(facts | changes))


def test_pro_rata_gives_each_as_the_period_gave_them_and_escrow_its_part():
    made = plan()
    assert made.reasons == {"no_text": 7, "unattributed": 1_000}
    assert common.parts(made, SHARES)["unattributed"] == {
        "liab:payee:c_1": 600, "liab:payee:c_2": 300, "liab:escrow:unclaimed:w_9": 100,
    }  # fmt: skip
    assert sum(common.parts(made, SHARES)["no_text"].values()) == 7
    assert (made.grains, made.parties) == (1_007, 3)


def test_equal_gives_alike_to_all_who_got_something_and_to_gives_it_to_one():
    assert common.parts(plan(rule="equal"), SHARES)["unattributed"] == {
        "liab:escrow:unclaimed:w_9": 334, "liab:payee:c_1": 333, "liab:payee:c_2": 333,
    }  # fmt: skip
    assert common.parts(plan(rule="to", to="c_7"), SHARES)["unattributed"] == {"liab:payee:c_7": 1_000}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"rule": "carried"}, "common_no_rule"),
        ({"available": {"unattributed": 0}}, "common_empty"),
        ({"available": {}}, "common_empty"),
        ({"shares": {}}, "common_nobody"),
        ({"shares": {"liab:payee:c_1": 0}}, "common_nobody"),
    ],
)
def test_without_a_rule_or_money_or_anybody_nothing_is_divided(changes, code):
    with pytest.raises(Conflict) as refused:
        plan(**changes)
    assert refused.value.code == code


@given(
    st.dictionaries(st.sampled_from(["unattributed", "no_text", "free"]), st.integers(1, 10**15), min_size=1),
    st.dictionaries(st.integers(0, 30).map("liab:payee:c_{}".format), st.integers(1, 10**15), min_size=1),
    st.sampled_from(["pro_rata", "equal", "to"]),
)
def test_what_is_booked_empties_each_reason_to_the_grain_and_is_the_same_every_time(there, shares, rule):
    made = plan(available=there, shares=shares, rule=rule, to="c_1" if rule == "to" else "")
    booked = common.transfers(made, shares, 9)
    assert booked == common.transfers(made, shares, 9)
    left = balances(booked)
    for reason, grains in there.items():
        assert left[f"liab:common:2026-11:{reason}", "USD"] == -grains
    assert sum(left.values()) == 0
    assert all(one.period == "" and one.kind == "distribution" for one in booked)
