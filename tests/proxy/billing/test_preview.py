"""How two sides of a preview are told: sums that agree, the largest differences first, and no more than asked."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.money import decimal_text
from proxy.billing.preview import Paid, Preview, told

grains = st.integers(0, 10**12)
sums = st.dictionaries(st.sampled_from(["c_0", "c_1", "c_2", "c_3"]), grains)


def side(earned, charged=None, common=None):
    totals = SimpleNamespace(
        events=3,
        charged_grains=sum((charged or {}).values()),
        creators_grains=sum(earned.values()),
        escrow_grains=0,
        platform_grains=1,
        common_grains=common or {},
    )
    return Paid(totals, earned, charged or {})


def preview(before, after):
    names = {"c_0": "Ada", "app_a": "Choir"}
    return Preview("2026-11", "pol_x", "USD", False, True, before, after, names, names)


@given(sums, sums)
def test_everybody_on_either_side_is_told_once_and_counted(before, after):
    row = told(preview(side(before), side(after)))
    assert {one["creator"] for one in row["creators"]} == before.keys() | after.keys()
    assert len(row["creators"]) == row["counts"]["creators"]
    gaps = [one["difference_grains"] for one in row["creators"]]
    assert [abs(one) for one in gaps] == sorted((abs(one) for one in gaps), reverse=True)
    assert sum(gaps) == sum(after.values()) - sum(before.values())
    counts = row["counts"]
    assert (counts["gain"], counts["lose"]) == (sum(one > 0 for one in gaps), sum(one < 0 for one in gaps))
    assert counts["same"] == len(gaps) - counts["gain"] - counts["lose"]
    for one in row["creators"]:
        assert one["difference_grains"] == one["after_grains"] - one["before_grains"]
        assert one["difference"] == decimal_text(one["difference_grains"], "USD")


def test_the_largest_differences_are_told_and_the_rest_is_counted():
    row = told(preview(side({"c_0": 5, "c_1": 9, "c_2": 1}), side({"c_0": 5, "c_1": 2, "c_3": 4})), rows=2)
    assert [one["creator"] for one in row["creators"]] == ["c_1", "c_3"]
    assert row["counts"] == {"creators": 4, "apps": 0, "gain": 1, "lose": 2, "same": 1}


def test_accounts_stand_in_one_order_with_reasons_that_only_one_side_has():
    before = side({"c_0": 5}, {"app_a": 9}, {"free": 3})
    row = told(preview(before, side({"c_0": 6}, {"app_a": 9}, {"prohibited": 2})))
    accounts = {one["account"]: (one["before_grains"], one["after_grains"]) for one in row["accounts"]}
    assert accounts == {
        "charged": (9, 9), "creators": (5, 6), "escrow": (0, 0), "platform": (1, 1),
        "common:free": (3, 0), "common:prohibited": (0, 2),
    }  # fmt: skip
    assert next(iter(accounts)) == "charged"
    assert row["apps"][0]["name"] == "Choir"
