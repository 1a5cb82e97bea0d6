import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import payees
from proxy.billing.payees import TaxProfile, Withheld, follows, in_turn, profile_on, withholding
from proxy.errors import BadRequest, Problem, SettingsError
from proxy.settings import WithholdingRow

KEY = bytes(range(32))
# Published examples of the registry that keeps the format, and of its check digits.
IBANS = (
    "DE89370400440532013000",
    "GB82WEST12345698765432",
    "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
)
DAY = dt.date(2026, 11, 23)


def ada(**changes):
    facts = {"holder": "Ada Sandmark", "country_code": "de"} | changes
    return payees.account(facts.pop("rail", "sepa"), facts.pop("reference", IBANS[0]), **facts)


@pytest.mark.parametrize("known", IBANS)
def test_an_iban_is_taken_with_or_without_spaces(known):
    spaced = " ".join(known[at : at + 4] for at in range(0, len(known), 4)).lower()
    assert payees.iban(spaced) == known


@given(st.sampled_from(IBANS), st.data())
def test_any_one_wrong_character_of_an_iban_is_noticed(known, data):
    place = data.draw(st.integers(4, len(known) - 1))
    letters = "0123456789" if known[place].isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    other = data.draw(st.sampled_from([one for one in letters if one != known[place]]))
    with pytest.raises(BadRequest) as refused:
        payees.iban(known[:place] + other + known[place + 1 :])
    assert known not in str(refused.value), "an account is never repeated in an error"


@given(st.sampled_from(IBANS), st.data())
def test_two_neighbours_swapped_in_an_iban_are_noticed(known, data):
    pairs = [at for at in range(4, len(known) - 1) if known[at] != known[at + 1]]
    at = data.draw(st.sampled_from(pairs))
    with pytest.raises(BadRequest):
        payees.iban(known[:at] + known[at + 1] + known[at] + known[at + 2 :])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reference": ""}, "iban"),
        ({"reference": "DE89"}, "iban"),
        ({"reference": "DE11" + "5" * 17}, "iban"),
        ({"reference": "SA0380000000608010167519"}, "iban_country"),
        ({"bic_code": "TOOSHORT1"}, "bic"),
        ({"country_code": "Germany"}, "country"),
        ({"holder": " "}, "holder"),
        ({"holder": "x" * 71}, "holder"),
        ({"rail": "stripe"}, "stripe_account"),
        ({"rail": "stripe", "reference": "acct_1"}, "stripe_account"),
        ({"rail": "manual", "reference": "x" * 141}, "account"),
        ({"rail": "manual", "reference": "two\nlines"}, "account"),
        ({"rail": "manual", "reference": "cheque", "bic_code": "COBADEFFXXX"}, "bic"),
    ],
)
def test_what_could_not_be_paid_is_refused_when_it_is_entered(changes, code):
    with pytest.raises(BadRequest) as refused:
        ada(**changes)
    assert refused.value.code == code


def test_people_are_shown_the_last_four_and_of_a_short_reference_nothing():
    assert ada().last4 == "3000"
    assert ada(rail="stripe", reference="acct_1KabcdEFGH").last4 == "EFGH"
    assert ada(rail="manual", reference="cash").last4 == ""
    assert ada(bic_code="cobadeff").bic == "COBADEFF"


def test_an_account_opens_only_with_its_key_as_its_creators_and_its_version():
    made = ada()
    sealed = payees.seal(made, KEY, b"n" * 12, creator="c_a", version=1)
    assert b"DE89" not in sealed
    assert b"Ada" not in sealed
    assert payees.unseal(sealed, KEY, creator="c_a", version=1) == made
    for key, creator, version in ((bytes(32), "c_a", 1), (KEY, "c_b", 1), (KEY, "c_a", 2)):
        with pytest.raises(Problem, match=r"payees\.key"):
            payees.unseal(sealed, key, creator=creator, version=version)
    with pytest.raises(Problem):
        payees.unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), KEY, creator="c_a", version=1)


def profile(start, end=None, form="W8BEN", country="DE", treaty=None):
    first = dt.date.fromisoformat(start)
    return TaxProfile(form, country, treaty, first, dt.date.fromisoformat(end) if end else None)


def test_a_later_profile_ends_the_one_that_was_open():
    known = [profile("2026-01-01")]
    new = profile("2026-07-01", form="W9")
    follows(known, new)
    known.append(new)
    assert profile_on(known, dt.date(2026, 6, 30)).form == "W8BEN"
    assert profile_on(known, dt.date(2026, 7, 1)).form == "W9"
    assert profile_on(known, dt.date(2025, 12, 31)) is None


def test_one_that_begins_on_the_same_day_stands_in_the_others_place():
    known = [profile("2026-01-01"), profile("2026-01-01", form="W9")]
    follows(known[:1], known[1])
    assert profile_on(known, DAY).form == "W9"


@pytest.mark.parametrize(
    "new", [profile("2026-03-01"), profile("2025-06-01"), profile("2025-06-01", "2026-02-01")]
)
def test_two_profiles_never_speak_of_one_day(new):
    with pytest.raises(BadRequest, match="some of these days"):
        follows([profile("2026-01-01", "2026-06-01")], new)


days = st.dates(dt.date(2026, 1, 1), dt.date(2026, 3, 1))


@given(st.lists(st.tuples(days, st.one_of(st.none(), days)), max_size=8), days)
def test_whatever_is_entered_at_most_one_profile_speaks_of_a_day(entered, day):
    known = []
    for start, end in entered:
        try:
            new = TaxProfile("W9", "US", None, start, end)
            follows(known, new)
        except BadRequest:
            continue
        known.append(new)
    assert sum(one.holds_on(day) for one in in_turn(known)) <= 1


@pytest.mark.parametrize(
    "wrong",
    [{"form": "W7"}, {"treaty_ppm": 1_000_001}, {"treaty_ppm": -1}, {"valid_to": dt.date(2026, 1, 1)}],
)
def test_a_profile_that_says_nonsense_cannot_be_made(wrong):
    facts = {"form": "W9", "country": "US", "treaty_ppm": None, "valid_from": dt.date(2026, 1, 1)}
    with pytest.raises(BadRequest):
        TaxProfile(**(facts | wrong))


def row(form="*", ppm=300_000, start="2026-01-01", country="*", *, treaty=False):
    return WithholdingRow(
        regime="us",
        form=form,
        ppm=ppm,
        effective_from=dt.date.fromisoformat(start),
        country=country,
        treaty=treaty,
    )


def test_without_a_table_nothing_is_withheld_and_no_form_is_asked_for():
    assert withholding((), None, DAY) == Withheld("", "none", 0)
    assert withholding((row(start="2027-01-01"),), None, DAY) == Withheld("", "none", 0)


def test_with_a_table_who_gave_no_form_is_paid_only_where_a_row_says_how():
    assert withholding((row(),), None, DAY) == "no_tax_form"
    assert withholding((row(),), profile("2026-01-01", form="none"), DAY) == "no_tax_form"
    assert withholding((row(), row("none", 240_000)), None, DAY) == Withheld("us", "none", 240_000)


def test_a_form_from_a_country_without_a_row_is_told_as_that():
    only_france = (row("W8BEN", country="FR"), row("none", 240_000))
    assert withholding(only_france, profile("2026-01-01"), DAY) == "tax_country"
    assert withholding(only_france, profile("2026-01-01", country="FR"), DAY) == Withheld(
        "us", "W8BEN", 300_000
    )
    assert withholding(only_france, profile("2026-01-01", form="W9"), DAY) == "no_tax_form"
    assert withholding((row("none", country="FR"),), None, DAY) == "no_tax_form"


def test_the_more_exact_row_holds_and_then_the_later():
    rows = (row("*", 1), row("W8BEN", 2), row("*", 3, country="DE"), row("W8BEN", 4, "2026-06-01"))
    assert withholding(rows, profile("2026-01-01"), DAY).rate_ppm == 3
    assert withholding(rows, profile("2026-01-01", country="FR"), DAY).rate_ppm == 4
    assert withholding(rows, profile("2026-01-01", country="FR"), dt.date(2026, 5, 31)).rate_ppm == 2
    assert withholding(rows, profile("2026-01-01", form="W9", country="FR"), DAY).rate_ppm == 1


def test_a_treatys_rate_counts_only_where_the_row_lets_it():
    claims = profile("2026-01-01", treaty=50_000)
    assert withholding((row("W8BEN", treaty=True),), claims, DAY).rate_ppm == 50_000
    assert withholding((row("W8BEN"),), claims, DAY).rate_ppm == 300_000
    assert withholding((row("W8BEN", treaty=True),), profile("2026-01-01"), DAY).rate_ppm == 300_000


def test_a_table_that_contradicts_itself_is_refused():
    payees.check_withholding((row(), row("W9")))
    with pytest.raises(SettingsError, match="again"):
        payees.check_withholding((row(ppm=1), row(ppm=2)))


def test_a_treatys_rate_is_written_as_a_percentage():
    said = ("", " ", "0", "15", "7,5 %", "100", "0.0001")
    assert [payees.treaty_in(one) for one in said] == [None, None, 0, 150_000, 75_000, 1_000_000, 1]
    for wrong in ("x", "1e1", "-1", "1.", ".5", "7.12345", "1000", "7.5.1", "\u0667"):
        with pytest.raises(BadRequest):
            payees.treaty_in(wrong)
