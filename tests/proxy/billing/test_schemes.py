import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.money import PPM, parse
from proxy.billing.prices import load
from proxy.billing.schemes import Terms, rate
from proxy.errors import SettingsError
from proxy.metering.usage import Line, MeteredEvent
from proxy.settings import Billing, DirectRate, Scheme

PRICES = load()
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
