"""Which terms hold: contracts before signals, the particular before the general, any denial among equals."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.licences import DEFAULTS, FREE, Condition, Licence, Term, decide, met_by_metering
from proxy.catalogue.works import Use

USE = Use.OUTPUT_INFLUENCE
PAID = (Condition("payment", "use"),)
ABROAD = (Condition("payment", "use"), Condition("geo", "FR"))


def licence(id_, effect, *ways, source="rsl", scope="work", use=USE, **when):
    return Licence(id_, source, scope, (Term(use, effect, f"says {effect}", tuple(ways)),), **when)


def held(*licences, use=USE, at_us=10, **more):
    return decide(use, licences, at_us=at_us, **more)


def test_what_nobody_speaks_of_is_left_to_its_default():
    assert held().effect == "deny"
    assert held(use=Use.SEARCH).effect == "allow"
    assert held().licence == ""
    assert set(DEFAULTS) == set(Use)


def test_a_contract_holds_against_any_signal():
    contract = licence("c", "allow", source="contract", scope="creator")
    assert held(licence("s", "deny"), contract).licence == "c"
    assert held(licence("s", "allow"), licence("c", "deny", source="contract")).effect == "deny"


def test_what_is_said_of_the_work_holds_before_what_is_said_of_all_works():
    assert held(licence("all", "deny", scope="creator"), licence("this", "allow")).effect == "allow"
    assert (
        held(licence("all", "allow", scope="creator"), licence("some", "deny", scope="collection")).effect
        == "deny"
    )


def test_among_equals_one_denial_is_enough():
    assert held(licence("a", "allow"), licence("b", "deny"), licence("c", "constrained", PAID)).licence == "b"


def test_conditions_that_are_not_met_are_a_denial():
    refused = held(licence("a", "constrained", ABROAD))
    assert refused.effect == "deny"
    assert "conditions are not met" in refused.why
    assert held(licence("a", "constrained")).effect == "deny"
    assert held(licence("a", "constrained", ABROAD), is_met=lambda _: True).way == ABROAD


def test_one_of_several_ways_is_enough_and_one_that_pays_comes_first():
    assert held(licence("a", "constrained", ABROAD, (FREE,), PAID)).way == PAID
    assert held(licence("a", "constrained", PAID)).given == "paid"
    assert held(licence("a", "constrained", (FREE,))).given == "free"
    assert held(licence("a", "constrained", (FREE,)), licence("b", "constrained", PAID)).given == "paid"
    assert held(licence("a", "allow")).given == "paid"
    assert held(licence("a", "deny")).given == "denied"


def test_a_licence_holds_from_its_day_until_it_ends_or_is_revoked():
    deny = licence("a", "deny", valid_from_us=5, valid_to_us=20, use=Use.SEARCH)
    assert [held(deny, use=Use.SEARCH, at_us=at).effect for at in (4, 5, 19, 20)] == [
        "allow",
        "deny",
        "deny",
        "allow",
    ]
    revoked = licence("a", "deny", revoked_us=7, use=Use.SEARCH)
    assert [held(revoked, use=Use.SEARCH, at_us=at).effect for at in (6, 7)] == ["deny", "allow"]


def test_metering_meets_a_payment_by_use_and_no_other():
    assert met_by_metering(Condition("payment", "use"))
    assert not met_by_metering(Condition("payment", "subscription"))
    assert not met_by_metering(Condition("geo", "use"))


def test_conditions_stand_only_on_what_is_constrained():
    with pytest.raises(ValueError, match="no conditions"):
        Term(USE, "allow", "x", (PAID,))


SOME = st.lists(
    st.builds(
        lambda number, effect, source, scope: licence(
            f"l{number}", effect, *((PAID,) if effect == "constrained" else ()), source=source, scope=scope
        ),
        st.integers(0, 99),
        st.sampled_from(["allow", "deny", "constrained"]),
        st.sampled_from(["contract", "rsl", "iptc"]),
        st.sampled_from(["work", "collection", "creator"]),
    ),
    max_size=4,
    unique_by=lambda one: one.id,
)


@given(SOME)
def test_the_order_in_which_licences_are_known_decides_nothing(licences):
    assert len({held(*order) for order in itertools.permutations(licences)}) == 1


@given(SOME)
def test_one_more_denial_never_allows_more(licences):
    before = held(*licences).effect
    after = held(*licences, licence("zz", "deny", source="contract")).effect
    assert after == "deny"
    assert before in {"allow", "deny"}
