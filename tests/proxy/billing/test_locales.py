import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.locales import Amount, English, Localised, percent, preferred, style_of
from proxy.billing.money import EXPONENTS, GRAINS_MAX, plain
from proxy.errors import BadRequest

TAGS = ("de-DE", "de-CH", "fr-FR", "sv-SE", "pt-BR", "hi-IN", "ja-JP", "ar-EG", "fa-IR", "he-IL", "en-IN")


def digits_of(text: str) -> int:
    """The integer that a person reads, whatever their digits look like."""
    found = "".join(str(unicodedata.digit(letter)) for letter in text if letter.isdigit())
    return -int(found) if "−" in text else int(found)


def text_of(amount: Amount) -> str:
    return amount.symbol + amount.whole + amount.minor + amount.fine + amount.after


@pytest.mark.parametrize("tag", ["", *TAGS])
@given(grains=st.integers(-GRAINS_MAX, GRAINS_MAX), currency=st.sampled_from(sorted(EXPONENTS)))
def test_every_locale_says_the_same_integer(tag, grains, currency):
    amount = style_of(tag).amount(grains, currency)
    assert digits_of(text_of(amount)) == grains
    assert len(re.sub(r"\D", "", amount.minor)) == EXPONENTS[currency]
    assert len(re.sub(r"\D", "", amount.fine)) == 7


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("", ["$1,234.56", "$0.002", "1,234,567", "41.2%", "3 November 2026", "1–30 Nov", "November 2026"]),
        ("de-DE", ["1.234,56 $", "0,002 $", "1.234.567", "41,2 %", "3. November 2026", "1.–30. Nov.", "November 2026"]),
        ("fr-FR", ["1 234,56 $US", "0,002 $US", "1 234 567", "41,2 %", "3 novembre 2026", "1–30 nov.", "novembre 2026"]),
        ("ja-JP", ["$1,234.56", "$0.002", "1,234,567", "41.2%", "2026年11月3日", "11月1日～30日", "2026年11月"]),
        ("ar-EG", ["١٬٢٣٤٫٥٦ US$", "٠٫٠٠٢ US$"]),
    ],
)  # fmt: skip
def test_money_and_dates_are_written_as_their_readers_write_them(tag, said):
    style = style_of(tag)
    made = [
        style.spoken(1_234_567_890_123, "USD"), style.exactly(2_000_000, "USD"), style.count(1_234_567),
        style.percent(412_345, 1_000_000), style.date("2026-11-03"), style.span("2026-11-01", "2026-11-30"),
        style.month("2026-11"),
    ]  # fmt: skip
    plainly = [re.sub(r"\s", " ", text).replace("\u200f", "").replace("US$", "US$") for text in made]
    for shown, expected in zip(plainly, said, strict=False):
        if tag == "ar-EG":
            assert digits_of(shown) == digits_of(expected)
        else:
            assert shown == expected


def test_a_sentence_never_rounds_up():
    for tag in TAGS:
        assert digits_of(style_of(tag).spoken(19_999_999, "USD")) == 1
        assert digits_of(style_of(tag).spoken(-19_999_999, "USD")) == -1


@pytest.mark.parametrize("first", ["2025-12-30", "2026-10-31", "2026-11-01", "2026-11-30"])
@pytest.mark.parametrize("tag", ["", *TAGS])
def test_a_span_names_both_its_days(tag, first):
    shown = style_of(tag).span(first, "2026-11-30")
    assert "30" in "".join(str(unicodedata.digit(one)) if one.isdigit() else one for one in shown)
    assert (len(shown) > len(style_of(tag).span("2026-11-30", "2026-11-30"))) == (first != "2026-11-30")


@pytest.mark.parametrize("label", ["winter", "2026-13", "2026-Q1", "2026-11-02", "２０２６-１１"])
def test_a_label_that_is_no_month_stays_as_it_is(label):
    assert English().month(label) == Localised("de-DE").month(label) == label


@pytest.mark.parametrize("tag", ["zz", "de_DE_../x", "../../etc/passwd", "-", "x" * 500])
def test_what_names_no_locale_is_refused_with_the_remedy(tag):
    with pytest.raises(BadRequest) as refused:
        style_of(tag)
    assert refused.value.code == "locale"
    assert "de-DE" in refused.value.remedy


def test_who_reads_from_the_right_is_told_so():
    assert [style_of(tag).direction for tag in ("", "de-DE", "ar-EG", "he-IL", "fa-IR")] == [
        "ltr", "ltr", "rtl", "rtl", "rtl",
    ]  # fmt: skip


def test_without_babel_english_works_and_the_rest_says_what_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "babel.core", None)
    assert plain(10**9, "USD") == "$1.00" == English().spoken(10**9, "USD")
    monkeypatch.setattr(
        "importlib.import_module", lambda name: (_ for _ in ()).throw(ModuleNotFoundError(name))
    )
    with pytest.raises(BadRequest, match="not installed"):
        style_of("de-DE")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "0%"), (0, 5, "0%"), (1, 10**9, "0.1%"), (412_345, 10**6, "41.2%"), (10**6, 10**6, "100%"), (5, 0, "0%")],
)  # fmt: skip
def test_a_percentage_is_cut_by_integers(part, whole, text):
    assert percent(part, whole) == text


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        ("", ""), ("de-DE,de;q=0.9,en;q=0.8", "de-DE"), ("en;q=0.5, sv-SE", "sv-SE"), ("xx-YY, fr;q=0.1", "fr"),
        ("*", ""), ("de;q=0", ""), ("../../etc/passwd, ja", "ja"), ("de;q=bad, pt-BR;q=0.3", "pt-BR"), (",;,;q=", ""),
        ("a" * 5_000 + ",de", ""),
    ],
)  # fmt: skip
def test_a_browsers_languages_choose_a_style_and_never_fail(header, tag):
    assert preferred(header) == tag


@given(st.text(max_size=60))
def test_no_header_is_an_error(header):
    assert isinstance(preferred(header), str)


def test_amounts_below_nothing_carry_one_minus_in_front():
    assert English().exactly(-12_340_000_000, "USD") == "−$12.34"
    assert English().spoken(-12_340_000_000, "USD") == "−$12.34"


@pytest.mark.parametrize(
    ("tag", "zero"),
    [("ar-EG", "٠"), ("fa-IR", "۰"), ("mr-IN", "०"), ("bn-BD", "০"), ("ar-AE", "0"), ("hi-IN", "0")],
)
def test_digits_are_those_of_the_language_in_amounts_and_dates_alike(tag, zero):
    style = style_of(tag)
    said = [
        text_of(style.amount(-1_234_567_890_123, "USD")), style.spoken(10**12, "USD"), style.exactly(2_000_000, "USD"),
        style.count(1_234_567), style.percent(412_345, 10**6), style.date("2026-11-03"), style.month("2026-11"),
        style.span("2025-12-30", "2026-11-30"),
    ]  # fmt: skip
    digits = {letter for text in said for letter in text if letter.isdigit()}
    assert digits <= {chr(ord(zero) + digit) for digit in range(10)}


def test_a_sign_stays_behind_its_letters_among_those_that_run_the_other_way():
    assert style_of("ar-EG").spoken(10**12, "USD").endswith("US$\u200e")
    assert "\u200e" not in style_of("de-DE").spoken(10**12, "USD")
