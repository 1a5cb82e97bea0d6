import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.floors import NOTHING_ASKED, Asked
from proxy.billing.money import PPM, parse
from proxy.billing.policies import Activation, Agenda, Policy
from proxy.billing.prices import load
from proxy.billing.rollup import DAY_US
from proxy.billing.schemes import Terms, rate
from proxy.clock import parse_time_us
from proxy.errors import SettingsError
from proxy.metering.usage import Line, MeteredEvent
from proxy.settings import Billing, DirectRate, Scheme

PRICES = load()
NOVEMBER_US = parse_time_us("2026-11-01")
W1, W2, W3 = Line("w_1", 412_345), Line("w_2", 187_655), Line("w_3", 50_000)


def terms(**rules):
    return Terms.from_settings(Billing(**rules))


def test_the_worked_example_by_royalty(event):
    """30 % of $0.0125, divided over three works and what no work explains."""
    rated = rate(event(1, (W1, W2, W3), price_grains=parse("0.0125", "USD")), terms(), PRICES)
    assert rated.dues == (1_546_294, 703_706, 187_500)
    assert rated.common == (("unattributed", 1_312_500),)
    assert sum(rated.dues) + 1_312_500 == 3_750_000


def test_the_worked_example_by_direct_rates(event):
    rates = (
        DirectRate(work="w_1", amount="0.004"),
        DirectRate(work="w_2", amount="0.001"),
        DirectRate(work="*", amount="0.002"),
    )
    rated = rate(event(1, (W1, W2, W3)), terms(scheme="direct", rates=rates), PRICES)
    assert rated.dues == (1_649_380, 187_655, 100_000)
    assert sum(rated.dues) == parse("0.001937035", "USD")
    assert (rated.common, rated.platform_grains, rated.not_charged_grains) == ((), 0, 0)


def test_a_direct_due_is_rounded_up_to_the_creators_side(event):
    rated = rate(event(1, (Line("w_1", 1),)), terms(scheme="direct", rate="0.000000001"), PRICES)
    assert rated.dues == (1,)


@pytest.mark.parametrize(
    ("mode", "common", "platform", "not_charged"),
    [
        ("common", (("unattributed", 750_000),), 0, 0),
        ("platform", (), 750_000, 0),
        ("not_charged", (), 0, 750_000),
    ],
)
def test_the_mode_decides_where_the_unattributed_part_goes(event, mode, common, platform, not_charged):
    answer = event(1, (Line("w_1", 750_000),), price_grains=10_000_000)
    rated = rate(answer, terms(unattributed=mode), PRICES)
    assert rated.dues == (2_250_000,)
    assert (rated.common, rated.platform_grains, rated.not_charged_grains) == (common, platform, not_charged)


@pytest.mark.parametrize("mode", ["common", "platform", "not_charged"])
@pytest.mark.parametrize("verdict", ["free", "prohibited"])
def test_a_work_that_may_not_be_paid_earns_nothing_and_nobody_profits(event, mode, verdict):
    answer = event(1, (Line("w_1", 500_000, verdict), Line("w_2", 500_000)), price_grains=10_000_000)
    rated = rate(answer, terms(unattributed=mode), PRICES)
    assert rated.dues == (0, 1_500_000)
    assert rated.common == ((verdict, 1_500_000),)
    assert rated.platform_grains == rated.not_charged_grains == 0


@pytest.mark.parametrize("mode", ["common", "platform", "not_charged"])
@pytest.mark.parametrize("reason", ["not_attributed", "cut_by_crash"])
def test_the_money_of_an_answer_never_scored_is_held_in_every_mode(event, mode, reason):
    rated = rate(event(1, reason=reason, price_grains=10_000_000), terms(unattributed=mode), PRICES)
    assert rated.common == ((reason, 3_000_000),)


def test_a_recorded_price_stands_and_a_missing_one_is_looked_up(event):
    recorded = rate(event(1, price_grains=5, price_version="v"), terms(), PRICES)
    assert (recorded.price_grains, recorded.price_version) == (5, "v")
    looked_up = rate(event(1), terms(), PRICES)
    assert looked_up.price_grains == parse("0.0125", "USD")  # 100 in at 2.50, 1,225 out at 10.00 a million
    assert looked_up.price_version == PRICES.version


def test_no_price_is_no_answer_and_not_nothing(event):
    assert rate(event(1, model="unheard-of"), terms(), PRICES) is None
    assert rate(event(1, price_grains=5, currency="EUR"), terms(), PRICES) is None


def test_a_direct_rate_needs_no_price(event):
    rated = rate(event(1, (W1,), model="unheard-of"), terms(scheme="direct"), PRICES)
    assert rated.dues == (824_690,)


def test_an_answer_that_failed_with_nothing_given_costs_nothing(event):
    rated = rate(event(1, model="unheard-of", outcome="failed", output_tokens=0), terms(), PRICES)
    assert (rated.price_grains, rated.common) == (0, ())


def test_the_first_scheme_that_matches_app_and_model_holds(event):
    chosen = terms(
        schemes=(Scheme(app="app_b", scheme="direct"), Scheme(model="demo-*", scheme="royalty")),
        scheme="direct",
    )
    assert rate(event(1, app_id="app_b"), chosen, PRICES).scheme == "direct"
    assert rate(event(1), chosen, PRICES).scheme == "royalty"
    assert rate(event(1, model="other"), chosen, PRICES).scheme == "direct"


def test_a_table_in_another_currency_is_refused(event):
    with pytest.raises(SettingsError, match="EUR"):
        rate(event(1), terms(currency="EUR"), PRICES)


@pytest.mark.parametrize("amount", ["0,1", "-1", "0.0000000001"])
def test_a_rate_that_is_no_amount_is_refused_by_name(amount):
    with pytest.raises(SettingsError, match=r"billing\.rates\[0\]\.amount"):
        terms(rates=(DirectRate(amount=amount),))
    with pytest.raises(SettingsError, match=r"billing\.rate"):
        terms(rate=amount)


@given(
    st.lists(
        st.tuples(st.integers(1, 100_000), st.sampled_from(["paid", "free", "prohibited"])), max_size=10
    ),
    st.integers(0, 10**12),
    st.integers(0, PPM),
    st.sampled_from(["common", "platform", "not_charged"]),
)
def test_every_grain_of_a_royalty_has_a_name(drawn, price, royalty_ppm, mode):
    lines = tuple(Line(f"w_{n}", ppm, verdict) for n, (ppm, verdict) in enumerate(drawn))
    left = PPM - sum(line.ppm for line in lines)
    answer = MeteredEvent(
        id="rct_x", occurred_us=0, app_id="a", model="m", endpoint="chat", outcome="complete", input_tokens=0,
        output_tokens=0, estimated=False, price_version="v", price_grains=price, currency="USD",
        unattributed_ppm=left, reason="", lines=lines,
    )  # fmt: skip
    rated = rate(answer, terms(royalty_ppm=royalty_ppm, unattributed=mode), PRICES)
    named = sum(rated.dues) + sum(grains for _, grains in rated.common)
    assert named + rated.platform_grains + rated.not_charged_grains == price * royalty_ppm // PPM


def dated(*rules, asked=NOTHING_ASKED):
    """Terms of a default and of policies that hold from day 10, 20, ... of the month on."""
    named = [Policy(name=str(place), rules=one) for place, one in enumerate(rules)]
    activations = tuple(
        Activation(place, NOVEMBER_US + place * 10 * DAY_US, policy)
        for place, policy in enumerate(named)
        if place
    )
    return Terms.of_agenda(Agenda(named[0], activations), asked)


def test_an_answer_is_paid_by_the_policy_in_force_when_it_was_given(event):
    held = dated(Billing(), Billing(royalty_ppm=500_000), Billing(scheme="direct", rate="0.004"))
    paid = [
        rate(event(1, (W1,), price_grains=10_000_000, occurred_us=NOVEMBER_US + us), held, PRICES)
        for us in (0, 10 * DAY_US - 1, 10 * DAY_US, 20 * DAY_US)
    ]
    assert [one.dues for one in paid] == [(1_237_035,), (1_237_035,), (2_061_725,), (1_649_380,)]
    assert len({one.policy for one in paid}) == 3
    assert [one.royalty_ppm for one in paid] == [300_000, 300_000, 500_000, 0]
    assert paid[3].rates == (4_000_000,)


def test_policies_in_another_currency_than_the_books_are_refused():
    with pytest.raises(SettingsError, match="EUR"):
        dated(Billing(), Billing(currency="EUR"))


def test_the_scheme_is_chosen_by_app_model_and_medium(event):
    rules = terms(
        schemes=(
            Scheme(scheme="pool", medium="picture"),
            Scheme(scheme="direct", app="app_z"),
            Scheme(scheme="royalty", model="demo-*", royalty_ppm=100_000),
        )
    )
    answers = [
        event(1, (W1,), price_grains=1_000_000, endpoint="images.generations"),
        event(1, (W1,), price_grains=1_000_000, app_id="app_z"),
        event(1, (W1,), price_grains=1_000_000, endpoint="audio.speech"),
        event(1, (W1,), price_grains=1_000_000, model="other"),
    ]
    paid = [rate(answer, rules, PRICES) for answer in answers]
    assert [(one.scheme, one.royalty_ppm) for one in paid] == [
        ("pool", 0), ("direct", 0), ("royalty", 100_000), ("royalty", 300_000),
    ]  # fmt: skip
    assert paid[0].dues == (0,)


def test_rates_are_by_work_creator_model_and_medium_and_an_agreed_one_before_them(event):
    rates = (
        DirectRate(amount="0.010", creator="c_1", medium="sound"),
        DirectRate(amount="0.005", creator="c_1"),
        DirectRate(amount="0.003", model="grand*"),
    )
    asked = Asked(rates={"w_3": ((4, 9_000_000),)}, owners={"w_1": "c_1"})
    rules = dated(Billing(scheme="direct", rate="0.002", rates=rates), asked=asked)

    def of(**facts):
        return rate(event(1, (W1, W2, W3), registry_seq=facts.pop("seq", 4), **facts), rules, PRICES).rates

    assert of() == (5_000_000, 2_000_000, 9_000_000)
    assert of(endpoint="audio.speech") == (10_000_000, 2_000_000, 9_000_000)
    assert of(model="grand-1", seq=3) == (5_000_000, 3_000_000, 3_000_000)


FLOORED = Asked(floors={"w_1": ((2, 50_000_000),)})


@pytest.mark.parametrize(("seq", "due"), [(1, 1_237_035), (2, 20_617_250)])
def test_a_royalty_below_a_floor_is_topped_up_where_the_policy_says_so(event, seq, due):
    answer = event(1, (W1, W2), price_grains=10_000_000, registry_seq=seq)
    rated = rate(answer, dated(Billing(floor="top_up"), asked=FLOORED), PRICES)
    assert rated.dues == (due, 562_965)
    assert rated.common == (("unattributed", 1_200_000),)
    assert rated.below_floor == frozenset()


@pytest.mark.parametrize("rules", [Billing(), Billing(floor="top_up", floor_max="0.049999999")])
def test_else_the_work_is_paid_nothing_and_nobody_keeps_its_part(event, rules):
    answer = event(1, (W1, W2), price_grains=10_000_000, registry_seq=2)
    rated = rate(answer, dated(rules, asked=FLOORED), PRICES)
    assert rated.dues == (0, 562_965)
    assert dict(rated.common) == {"below_floor": 1_237_035, "unattributed": 1_200_000}
    assert rated.below_floor == {"w_1"}
    assert [rated.verdict_of(line) for line in answer.lines] == ["below_floor", "paid"]


def test_a_royalty_that_reaches_the_floor_is_what_it_is(event):
    answer = event(1, (W1,), price_grains=10**9, registry_seq=2)
    assert rate(answer, dated(Billing(), asked=FLOORED), PRICES).dues == rate(answer, terms(), PRICES).dues


@pytest.mark.parametrize(("floor_max", "paid"), [("0.05", (20_617_250, 375_310)), ("0.04", (0, 375_310))])
def test_a_direct_rate_is_raised_to_a_floor_that_the_policy_bears(event, floor_max, paid):
    rules = dated(Billing(scheme="direct", floor_max=floor_max), asked=FLOORED)
    assert rate(event(1, (W1, W2), registry_seq=2), rules, PRICES).dues == paid


def test_an_answer_that_failed_with_nothing_given_reaches_no_floor(event):
    answer = event(1, (W1,), price_grains=10**6, outcome="failed", output_tokens=0, registry_seq=2)
    rated = rate(answer, dated(Billing(floor="top_up"), asked=FLOORED), PRICES)
    assert rated.dues == (0,)


def test_a_pool_pays_no_floors_so_works_that_insist_are_left_out_of_it(event):
    answer = event(1, (W1, W2), registry_seq=2)
    assert rate(answer, dated(Billing(scheme="pool"), asked=FLOORED), PRICES).below_floor == {"w_1"}
    bearing = dated(Billing(scheme="pool", floor="top_up"), asked=FLOORED)
    assert rate(answer, bearing, PRICES).below_floor == frozenset()
