"""The columns against a dictionary of sums: the same lines, whatever was spilled in between."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import uses
from proxy.billing.uses import Use, Uses, seed_of, seen_by

RESTS = [
    (app, model, day, "royalty", verdict, whose)
    for app in ("app_b", "app_a")
    for model in ("m", "")
    for day in (20_001, 9)
    for verdict, whose in (("paid", ""), ("paid", "c_2"), ("paid", "c_1"), ("free", ""))
]
lines = st.lists(
    st.tuples(
        st.sampled_from(["w_9", "w_1", "w_10", "w_2"]),
        st.sampled_from(RESTS),
        st.integers(1, 1_000_000),
        st.integers(0, 10**9),
        st.integers(0, 10**9),
        st.integers(0, 9),
    ),
    max_size=60,
)


def taken(rows, rows_kept=uses.ROWS_KEPT):
    made = Uses(rows_kept=rows_kept)
    for work, rest, *sums in rows:
        made.add(work, made.rest(rest), *sums)
    made.finish()
    return made


def oracle(rows):
    sums = {}
    for work, rest, ppm, price, due, rate in rows:
        old = sums.get((work, rest), (0, 0, 0, 0, 0))
        sums[work, rest] = (old[0] + 1, old[1] + ppm, old[2] + price, old[3] + due, max(old[4], rate))
    return {
        work: [Use(*rest, *sums[of, rest]) for of, rest in sorted(sums) if of == work]
        for work in sorted({work for work, _ in sums})
    }


@given(lines, st.integers(1, 20))
def test_what_is_spilled_in_any_pieces_sums_as_it_would_in_a_dictionary(rows, rows_kept):
    assert dict(taken(rows, rows_kept)) == oracle(rows)
    assert taken(rows, rows_kept) == taken(rows)


@given(lines, st.integers(1, 20))
def test_what_an_app_is_charged_is_the_sum_of_what_it_used(rows, rows_kept):
    made = taken(rows, rows_kept)
    for app in ("app_a", "app_b", "app_c"):
        due = {}
        for work, rest, _ppm, _price, grains, _rate in rows:
            if rest[0] == app and grains:
                due[work] = due.get(work, 0) + grains
        assert list(made.charged(app)) == sorted(due.items())


def test_many_works_are_found_again_in_the_file():
    draw = random.Random(3)
    rows = [(f"w_{draw.randrange(900)}", draw.choice(RESTS), 1, 2, 3, 0) for _ in range(5_000)]
    assert dict(taken(rows, 700)) == oracle(rows)


def test_a_work_that_was_not_used_has_no_uses():
    assert taken([]).works == []
    assert taken([]).of("w_1") == []
    assert list(taken([]).charged("app_a")) == []


@pytest.mark.parametrize("rows_kept", [1, 100])
def test_a_sum_near_64_bits_is_exact_and_one_beyond_is_refused(rows_kept):
    half = 2**62
    row = ("w_1", RESTS[0], 1, 0, half, 0)
    near = ("w_1", RESTS[0], 1, 0, half - 1, 0)
    assert taken([row, near], rows_kept).of("w_1")[0].due == 2**63 - 1
    with pytest.raises(OverflowError):
        taken([row, row], rows_kept)
    with pytest.raises(OverflowError):
        taken([("w_1", RESTS[0], 1, 0, 2**63, 0)], rows_kept)


def test_whose_own_app_it_was_concerns_that_creator_alone():
    rows = [
        ("w_1", ("app_a", "m", 9, "royalty", "paid", whose), 10, 5, due, due)
        for whose, due in (("", 1), ("c_1", 2), ("c_2", 4))
    ]
    made = taken(rows).of("w_1")
    assert [(use.own_app_of, use.due, use.rate) for use in seen_by("c_2", made)] == [
        ("", 3, 2),
        ("c_2", 4, 4),
    ]
    assert [(use.own_app_of, use.due, use.answers) for use in seen_by("c_9", made)] == [("", 7, 3)]
    plain = taken(rows[:1]).of("w_1")
    assert seen_by("c_1", plain) is plain


def test_what_names_a_line_ends_with_the_creator_where_there_is_one():
    assert seed_of("w", Use("a", "m", 3, "royalty", "paid", "")) == "w|a|m|3|royalty|paid"
    assert seed_of("w", Use("a", "m", 3, "royalty", "paid", "c_1")) == "w|a|m|3|royalty|paid|c_1"
