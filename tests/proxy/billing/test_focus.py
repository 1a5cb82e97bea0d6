import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.focus import COLUMNS, Charged, Frame, Used, add, bounds, invoice_rows, to_csv, usage_rows
from proxy.billing.money import PPM, parse
from proxy.billing.schemes import Terms, rate
from proxy.clock import parse_time_us
from proxy.metering.usage import Line
from proxy.settings import Billing

# FOCUS 1.2, Cost and Usage: the columns of feature level "Mandatory".
MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd",
    "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity",
    "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
}  # fmt: skip
FRAME = Frame(
    "2026-11", "app_a", "Choir", "USD", parse_time_us("2026-11-01"), parse_time_us("2026-12-01"), "House"
)


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_every_mandatory_column_is_there_and_only_the_class_may_be_empty():
    assert set(COLUMNS) >= MANDATORY
    assert [name for name in COLUMNS if not name.startswith("x_")] == sorted(
        name for name in COLUMNS if not name.startswith("x_")
    )
    uses = {("app_a", 20_000, "demo", "chat", "royalty"): Used(3, 1, 30, 40, 7)}
    rows = read(
        to_csv([*invoice_rows(FRAME, Charged({"works": 7})), *usage_rows(FRAME, Charged({}, 5), uses)])
    )
    assert len(rows) == 3
    for row in rows:
        assert {name for name in MANDATORY if not row[name]} == {"ChargeClass"}
        assert row["BilledCost"] == row["EffectiveCost"] == row["ListCost"] == row["ContractedCost"]
        assert parse(row["BilledCost"], "USD") == int(row["x_CostGrains"])
        assert row["ChargeCategory"] in {"Usage", "Purchase"}
        assert row["BillingPeriodStart"] == "2026-11-01T00:00:00Z"
        assert row["BillingPeriodEnd"] == "2026-12-01T00:00:00Z"
    assert (rows[1]["ConsumedQuantity"], rows[1]["x_EstimatedRequests"]) == ("3", "1")
    assert rows[1]["ChargePeriodStart"] == "2024-10-04T00:00:00Z"
    assert rows[2]["x_Scheme"] == "pool"


@pytest.mark.parametrize(
    ("label", "start", "end"),
    [
        ("2026-11", "2026-11-01", "2026-12-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2028-02", "2028-02-01", "2028-03-01"),
        ("winter", "2026-11-03", "2026-12-05"),
    ],
)
def test_a_label_that_names_a_month_is_that_month_and_any_other_lasts_until_the_close(label, start, end):
    first, closed = parse_time_us("2026-11-03T12:00Z"), parse_time_us("2026-12-05")
    assert bounds(label, first, closed) == (parse_time_us(start), parse_time_us(end))


@given(st.integers(0, 2**60), st.integers(0, 2**60))
def test_a_billing_period_is_never_empty(first, closed):
    start, end = bounds("any", first, closed)
    assert start < end


names = st.text(max_size=30)


@given(model=names, app=names, endpoint=names, period=names)
def test_no_name_breaks_a_row_or_becomes_a_formula(model, app, endpoint, period):
    frame = Frame(period, app, app, "USD", 0, 1, app)
    uses = {(app, 1, model, endpoint, "royalty"): Used(1)}
    content = to_csv([*usage_rows(frame, Charged(), uses), *invoice_rows(frame, Charged({model: 1}))])
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert [len(row) for row in rows] == [len(COLUMNS)] * 3
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row)


@given(
    parts=st.lists(st.integers(1, 200_000), min_size=0, max_size=5),
    price=st.integers(0, 10**12),
    mode=st.sampled_from(["common", "platform", "not_charged"]),
    scheme=st.sampled_from(["royalty", "direct"]),
)
def test_an_answers_cost_is_everything_its_app_is_charged(event, prices, parts, price, mode, scheme):
    answer = event(1, tuple(Line(f"w_{n}", ppm) for n, ppm in enumerate(parts)), price_grains=price)
    rated = rate(answer, Terms.from_settings(Billing(unattributed=mode, scheme=scheme)), prices)
    uses: dict = {}
    add(uses, answer, rated)
    ((key, used),) = uses.items()
    assert key == ("app_a", answer.occurred_us // 86_400_000_000, "demo-writer", "chat", scheme)
    if scheme == "royalty":
        assert used.grains + rated.not_charged_grains == price * 300_000 // PPM
    assert used.answers == 1


def test_images_and_time_are_summed_beside_the_tokens(event, prices):
    terms, uses = Terms.from_settings(Billing()), {}
    for number, media in enumerate(
        ({"images": 2}, {"milliseconds": 8_471}, {"images": 1, "milliseconds": 1}, {})
    ):
        made = event(number, (), price_grains=10, **media)
        add(uses, made, rate(made, terms, prices))
    (row,) = csv.DictReader(io.StringIO(to_csv(usage_rows(FRAME, Charged({}), uses)).decode(), newline=""))
    assert (row["x_Images"], row["x_Milliseconds"], row["x_InputTokens"]) == ("3", "8472", "400")
    assert int(row["x_CostGrains"]) == sum(one.grains for one in uses.values())
