import hashlib
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.billing.money import (
    EXPONENTS,
    GRAINS_MAX,
    Money,
    allocate,
    apportion,
    decimal_text,
    decimal_texts,
    parse,
    parts,
    plain,
)

weights = st.dictionaries(
    st.text(alphabet="abcdefghij~_|", min_size=1, max_size=6),
    st.integers(0, 1_000_000),
    min_size=1,
    max_size=40,
).filter(lambda drawn: sum(drawn.values()) > 0)
totals = st.integers(-GRAINS_MAX, GRAINS_MAX) | st.integers(-50, 50)


def oracle(total: int, parties: dict[str, int], seed: str) -> dict[str, int]:
    mass = sum(parties.values())
    exact = {key: Fraction(abs(total) * weight, mass) for key, weight in parties.items()}
    result = {key: value.numerator // value.denominator for key, value in exact.items()}
    order = sorted(
        exact, key=lambda key: (result[key] - exact[key], hashlib.sha256(f"{seed}|{key}".encode()).digest())
    )
    for key in order[: abs(total) - sum(result.values())]:
        result[key] += 1
    return {key: value if total > 0 else -value for key, value in result.items()}


@settings(max_examples=1_500, deadline=None)
@given(totals, weights, st.text(max_size=8))
def test_allocate_agrees_with_exact_fractions(total, parties, seed):
    assert allocate(total, list(parties.items()), seed) == oracle(total, parties, seed)


@settings(max_examples=300, deadline=None)
@given(totals, weights, st.text(max_size=8))
def test_parts_sum_to_the_total_within_one_grain_each(total, parties, seed):
    divided = allocate(total, list(parties.items()), seed)
    mass = sum(parties.values())
    assert sum(divided.values()) == total
    for key, weight in parties.items():
        assert abs(divided[key] - Fraction(total * weight, mass)) < 1
        assert weight or divided[key] == 0


@settings(max_examples=300, deadline=None)
@given(totals, weights, st.randoms(use_true_random=False), st.integers(1, 1_000))
def test_neither_order_nor_scale_nor_a_party_with_nothing_matters(total, parties, random, factor):
    shuffled = [(key, weight * factor) for key, weight in parties.items()] + [("nobody at all", 0)]
    random.shuffle(shuffled)
    divided = allocate(total, shuffled, "seed")
    assert divided.pop("nobody at all") == 0
    assert divided == allocate(total, list(parties.items()), "seed")


@settings(max_examples=200, deadline=None)
@given(totals, weights)
def test_a_negative_total_mirrors_the_positive_one(total, parties):
    there = allocate(total, list(parties.items()), "s")
    back = allocate(-total, list(parties.items()), "s")
    assert {key: -value for key, value in there.items()} == back


def test_the_grain_left_over_does_not_always_go_to_the_same_party():
    winners = {
        next(key for key, part in allocate(1, [("a", 1), ("b", 1), ("c", 1)], f"rct_{n}").items() if part)
        for n in range(50)
    }
    assert winners == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("total", "parties"),
    [(1, [("a", 1), ("a", 1)]), (1, [("a", -1), ("b", 2)]), (1, [("a", 0)]), (1, [])],
)
def test_a_division_that_has_no_answer_is_refused(total, parties):
    with pytest.raises(ValueError):
        allocate(total, parties, "s")


def test_more_than_64_bits_cannot_be_divided():
    with pytest.raises(OverflowError):
        allocate(GRAINS_MAX + 1, [("a", 1)], "s")


@pytest.mark.parametrize(
    ("text", "currency", "grains"),
    [
        ("0.002", "USD", 2_000_000),
        ("0", "USD", 0),
        ("12", "JPY", 120_000_000),
        ("0.0000001", "JPY", 1),
        ("-1.50", "EUR", -1_500_000_000),
        ("1.0000000000000", "USD", 1_000_000_000),
    ],
)
def test_decimal_text_is_read_exactly(text, currency, grains):
    assert parse(text, currency) == grains


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("0.0000000001", "USD"), ("0.00000001", "JPY"), ("", "USD"), (".5", "USD"), ("1.", "USD"), ("1e3", "USD"),
        ("1,5", "USD"), ("+1", "USD"), (" 1", "USD"), ("١", "USD"), ("NaN", "USD"), ("1", "ZZZ"),
    ],
)  # fmt: skip
def test_text_that_says_no_exact_amount_is_refused(text, currency):
    with pytest.raises(ValueError):
        parse(text, currency)


def test_an_amount_no_store_can_hold_is_refused():
    with pytest.raises(OverflowError):
        parse("9999999999999", "USD")


@given(st.integers(-GRAINS_MAX, GRAINS_MAX), st.sampled_from(sorted(EXPONENTS)))
def test_what_is_printed_for_machines_reads_back(grains, currency):
    assert parse(decimal_text(grains, currency), currency) == grains


def in_words(grains, currency):
    """What `decimal_text` says, put together in another way."""
    whole, rest = divmod(abs(grains), 10 ** (EXPONENTS[currency] + 7))
    point = str(rest).rjust(EXPONENTS[currency] + 7, "0").rstrip("0").ljust(EXPONENTS[currency], "0")
    return f"{'-' if grains < 0 else ''}{whole}" + (f".{point}" if point else "")


@given(st.lists(totals, max_size=4), st.sampled_from(["USD", "JPY", "KWD"]))
def test_a_column_of_amounts_is_said_as_each_would_be_alone(column, currency):
    assert decimal_texts(column, currency) == [in_words(grains, currency) for grains in column]
    assert [decimal_text(grains, currency) for grains in column] == decimal_texts(column, currency)
    assert decimal_texts(column * 2, currency) == decimal_texts(column, currency) * 2


def test_people_see_minor_units_and_never_more_than_there_is():
    assert plain(3_174_882_986_490, "USD") == "$3,174.88"
    assert plain(9_999_999, "USD") == "$0.00"
    assert plain(-9_999_999, "USD") == "$0.00"
    assert plain(-1_999_999_999, "EUR") == "-€1.99"
    assert plain(129_999_999, "JPY") == "¥12"
    assert plain(50_000_000, "CHF") == "CHF 0.05"
    assert parts(3_174_882_986_490, "USD") == ("", "3174", "88", "2986490")


def test_two_currencies_never_add():
    assert str(Money.parse("0.10", "USD") + Money.parse("0.2", "USD")) == "0.30 USD"
    with pytest.raises(ValueError, match="do not add"):
        Money(1, "USD") + Money(1, "EUR")
    with pytest.raises(OverflowError):
        Money(GRAINS_MAX, "USD") + Money(1, "USD")


@given(
    st.integers(-(10**18), 10**18),
    st.lists(st.one_of(st.integers(0, 3), st.integers(0, 10**12)), min_size=1, max_size=12),
    st.text(max_size=5),
)
def test_dividing_by_place_is_dividing_by_key(total, weights, seed):
    assume(total == 0 or sum(weights))
    keys = [f"k{place}" for place in range(len(weights))]
    by_key = allocate(total, list(zip(keys, weights, strict=True)), seed)
    assert apportion(total, weights, seed, keys.__getitem__) == list(by_key.values())


def test_a_key_is_asked_for_only_where_remainders_tie():
    def unknown(place):
        raise AssertionError(place)

    assert apportion(10, [1, 2, 4], "s", unknown) == [1, 3, 6]
    assert apportion(7, [1, 2, 4], "s", unknown) == [1, 2, 4]
    with pytest.raises(AssertionError):
        apportion(10, [1, 1, 1], "s", unknown)
