import datetime as dt
from types import SimpleNamespace

from proxy.billing import payout_rows, payouts
from proxy.billing.declarations_store import Declaration
from proxy.billing.money import GRAINS_PER_MINOR
from proxy.billing.payees import TaxProfile
from proxy.billing.payees_store import KnownAccount
from proxy.billing.paying import Standing
from proxy.billing.payouts import Batch, Debtor, Event, Payee, Rules

DAY = dt.date(2026, 12, 1)
OWED = {("c_a", "JPY"): 12_345 * GRAINS_PER_MINOR + 5, ("c_b", "JPY"): 7}
KNOWN = {"c_a": Payee(account_version=1, rail="manual", last4="3000")}


def batch():
    payments, unpaid = payouts.plan("pob_1", Rules("manual", "JPY", DAY, 0), OWED, KNOWN)
    return Batch(
        id="pob_1", rail="manual", currency="JPY", day=DAY.isoformat(), created_by="ada", created_us=0,
        debtor=Debtor(), payments=payments, unpaid=unpaid,
    )  # fmt: skip


def happened(seq, kind, payment="", detail="", by="bob"):
    return Event(seq=seq, kind=kind, payment=payment, detail=detail, by=by, at_us=seq * 1_000_000)


def test_a_batch_says_by_whom_it_was_created_and_approved_and_how_much_it_pays():
    made = batch()
    row = payout_rows.batch_row(made, [happened(1, "created", by="ada"), happened(2, "approved")])
    assert (row["created_by"], row["approved_by"], row["state"]) == ("ada", "bob", "approved")
    assert (row["net_minor"], row["net"], row["payments"], row["unpaid"]) == (12_345, "12345", 1, 1)
    assert payout_rows.batch_row(made, [])["payment_states"] == {"planned": 1}


def test_a_payment_shows_its_state_and_nothing_of_the_account_but_its_last_four():
    made = batch()
    (row,) = payout_rows.payment_rows(made, [happened(1, "created"), happened(2, "approved")])
    assert (row["account"], row["state"], row["net"]) == ("···· 3000", "pending", "12345")
    assert "account_entered_by" not in row
    known = {"c_a": KnownAccount("c_a", 1, "manual", "3000", 0, "JPY", "eve", 0, "eve")}
    (row,) = payout_rows.payment_rows(made, [], known)
    assert (row["account_entered_by"], row["account_verified_by"]) == ("eve", "eve")
    assert row["account_entered"].startswith("1970-01-01")
    (told,) = payouts.told(
        made, [happened(1, "created"), happened(2, "cancelled", detail="Wrong day.")], "c_a"
    )
    row = payout_rows.told_row(told)
    assert (row["state"], row["detail"], row["at"]) == (
        "cancelled",
        "Wrong day.",
        "1970-01-01T00:00:02.000000Z",
    )


def test_who_is_not_paid_is_told_in_words_and_to_the_grain():
    (row,) = payout_rows.unpaid_rows(batch())
    assert (row["reason"], row["owed"], row["owed_grains"]) == ("no_details", "0.0000007", 7)
    assert row["why"] == payouts.REASONS["no_details"]


def test_what_happened_is_told_in_order():
    rows = payout_rows.event_rows([happened(1, "created"), happened(2, "returned", "ecp-1", "AC04")])
    assert [(row["what"], row["payment"], row["detail"]) for row in rows] == [
        ("created", "", ""),
        ("returned", "ecp-1", "AC04"),
    ]


class Ways:
    """What is kept of one creator, without a store."""

    def __init__(self, accounts, profiles, hold, stands, given=None, number=None):
        self._said = accounts, profiles, hold, stands, given, number

    def payees(self, by):
        accounts, profiles, hold, *_ = self._said
        return SimpleNamespace(known=lambda _: accounts, tax_profiles=lambda _: profiles, held=lambda _: hold)

    def declarations(self, by):
        return SimpleNamespace(last=lambda _: self._said[4])

    def tax_numbers(self, by):
        return SimpleNamespace(known=lambda _: self._said[5])

    def standing(self, creator):
        return self._said[3]


def test_everything_of_a_creator_stands_together():
    account = KnownAccount("c_a", 2, "sepa", "", 500 * GRAINS_PER_MINOR, "EUR", "ada", 0)
    form = TaxProfile("W9", "US", None, DAY)
    given = Declaration("c_a", 2, "refused", form, "unsigned", "Ines", 0)
    stands = Standing(
        currency="EUR",
        draft_grains=3,
        owed_grains=-5,
        reason="nothing_owed",
        why=payouts.REASONS["nothing_owed"],
    )
    row = payout_rows.payee_row(Ways([account], [form], "A letter.", [stands], given, ("US", "4321")), "c_a")
    assert (row["tax_given"]["state"], row["tax_number"]["last4"]) == ("refused", "4321")
    assert "not signed" in row["tax_given"]["why_said"]
    assert (row["account"]["account"], row["account"]["minimum"], row["account"]["verified"]) == (
        "····",
        "5.00",
        False,
    )
    assert (row["hold"], row["tax_profiles"][0]["from"]) == ("A letter.", "2026-12-01")
    assert row["owed"][0]["draft"] == "0.000000003"
    assert (row["owed"][0]["owed"], row["owed"][0]["payable"]) == ("-0.000000005", "0.00")
    nothing = payout_rows.payee_row(Ways([], [], "", []), "c_a")
    assert (nothing["account"], nothing["tax_given"], nothing["tax_number"]) == (None, None, None)
