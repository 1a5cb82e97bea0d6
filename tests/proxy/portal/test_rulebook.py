"""Rules of money in words: what each says and what another would change, exactly, and none left out."""

from __future__ import annotations

import msgspec

from proxy.billing.compensation_rows import rules_row
from proxy.billing.locales import English, style_of
from proxy.billing.policies import of_settings
from proxy.portal.rulebook import NAMES, ROWS_TOLD, VALUES, changed, told_rules
from proxy.settings import Billing, DirectRate

ENGLISH = English()


def flat(billing):
    return rules_row(of_settings(billing))["rules"]


def test_every_rule_of_money_has_words_and_so_has_everything_it_may_say():
    rules = flat(Billing())
    assert rules.keys() == NAMES.keys()
    assert [name for name, _ in told_rules(rules, ENGLISH)] == list(NAMES.values())
    for field in msgspec.structs.fields(Billing):
        choices = getattr(field.type, "__args__", ())
        if choices and all(isinstance(one, str) for one in choices):
            assert VALUES[field.name].keys() == set(choices)
    assert not any("_" in value for _, value in told_rules(rules, ENGLISH))


def test_a_difference_is_told_rule_by_rule():
    now = Billing()
    then = Billing(royalty_ppm=333_333, common_rule="pro_rata", pay_own_apps=True)
    assert changed(flat(now), flat(then), ENGLISH) == [
        ("A royalty's part of the price", "30%", "33.3333%"),
        ("A creator's own app pays them", "no", "yes"),
        ("The common account is given out", "not yet: it is carried on", "by what each creator earned"),
    ]
    assert changed(flat(now), flat(now), ENGLISH) == []
    assert changed(flat(now), flat(then), style_of("de-DE"))[0][1] == "30\xa0%"


def test_a_rate_card_is_told_by_what_its_rows_name_and_not_without_end():
    rates = (DirectRate(amount="0.01", model="small"), *(DirectRate(amount="1"),) * (ROWS_TOLD + 1))
    told = dict(told_rules(flat(Billing(rates=rates)), ENGLISH))["Other rates"]
    assert told.startswith("amount 0.01, model small; amount 1; ")
    assert told.endswith("; 2 more")


def test_a_rule_without_words_is_told_by_its_name():
    assert told_rules({"id": "pol_1", "name": "x", "new_part_ppm": 1}, ENGLISH) == [("New part", "0.0001%")]
