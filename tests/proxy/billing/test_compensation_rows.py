from proxy.billing.compensation_rows import carried_rows, policy_row, rules_row, term_row
from proxy.billing.floors_store import AskedTerm
from proxy.billing.policies import of_settings
from proxy.billing.policies_store import Known
from proxy.settings import Billing

HOUSE = of_settings(Billing())


def test_a_policy_is_listed_by_name_and_time_and_shown_with_every_rule():
    row = policy_row(Known(HOUSE, "ada", 0, (0,), (7,)))
    assert (row["holds_from"], row["activations"]) == (["1970-01-01T00:00:00.000000Z"], [7])
    row = rules_row(HOUSE)
    assert (row["id"], row["rules"]["royalty_ppm"]) == (HOUSE.id, 300_000)
    assert "prices_dir" not in row["rules"]


def test_what_is_asked_is_said_as_it_was_written():
    def said(kind, value, currency):
        return term_row(AskedTerm(3, "work", "w_1", kind, value, currency, "", "ada", 0))["value"]

    assert said("floor", 20_000_000, "USD") == "0.02"
    assert said("excerpt_words", 50, "") == "50"
    assert said("floor", None, "USD") == "none"


def test_amounts_stand_twice():
    assert carried_rows({"unattributed": 5}, "USD") == [
        {"reason": "unattributed", "amount": "0.000000005", "amount_grains": 5, "currency": "USD"}
    ]
