import csv
import io

from tests.proxy.cli.test_money import ec, meter

__all__ = ["ec"]


def test_an_apps_invoice_and_usage_sum_to_what_the_period_charged(ec, tmp_path):
    meter(ec, ("rct_1", 1_000_000, {"r1": 500_000}), ("rct_2", 3_000_001, {"r1": 100_000, "r2": 800_000}))
    assert ec.json("apps", "invoice", "--period", "2026-11").status == 1
    charged = ec.json("periods", "close", "2026-11").row["totals"]["charged_grains"]
    for what in ("invoice", "usage"):
        rows = list(csv.DictReader(io.StringIO(ec("apps", what, "--period", "2026-11").out)))
        assert sum(int(row["x_CostGrains"]) for row in rows) == charged
        out = tmp_path / f"{what}.csv"
        assert ec("apps", what, "--period", "2026-11", "--out", out).status == 0
        assert list(csv.DictReader(out.read_text().splitlines())) == rows
    (day,) = rows
    assert (day["x_Model"], day["ConsumedQuantity"], day["x_InputTokens"]) == ("demo-credits-1", "2", "20")
    assert day["ChargePeriodStart"] == "2026-11-18T00:00:00Z"


def test_an_app_that_nobody_knows_is_named(ec):
    ran = ec.json("apps", "usage", "--period", "2026-11", "--app", "nobody")
    assert ran.status == 1
    assert "nobody" in ran.row["cause"]
