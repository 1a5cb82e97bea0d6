"""Splits proposed: who is asked, what becomes of a proposal, and what a form may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.agreements import (
    SplitAnswer,
    SplitProposal,
    asked_of,
    percent_text,
    ppm_in,
    split_in,
)
from proxy.catalogue.works import UNCLAIMED, Part, Split, whole
from proxy.errors import BadRequest

TWO = Split((Part("ada", 600_000), Part("bo", 400_000)))


@given(st.integers(1, 1_000_000))
def test_a_part_is_read_back_as_it_was_written(ppm):
    assert ppm_in(percent_text(ppm), "ada") == ppm


@pytest.mark.parametrize("percent", ["", "0", "-5", "101", "33.33333", "half", "1e9", "NaN", "Infinity"])
def test_what_is_no_part_is_refused(percent):
    with pytest.raises(BadRequest, match="is no part for ada"):
        ppm_in(percent, "ada")


def test_a_form_says_a_split_with_points_or_commas_and_empty_rows():
    rows = [("ada", "33.3333"), ("", ""), ("bo", "33,3333 %"), ("cy", "33.3334")]
    assert [part.ppm for part in split_in(rows).parts] == [333_333, 333_333, 333_334]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("ada", "60"), ("bo", "30.5")], "make 90.5%, 9.5% missing"),
        ([("ada", "60"), ("bo", "60")], "make 120%, 20% too much"),
        ([("", "60"), ("bo", "40")], "60% are nobody's"),
        ([("ada", "50"), ("ada", "50")], "twice"),
        ([], "1 to"),
    ],
)
def test_a_form_that_says_no_whole_split_is_told_by_how_much(rows, said):
    with pytest.raises(BadRequest, match=said):
        split_in(rows)


def test_everybody_who_would_have_a_part_or_has_one_is_asked_but_for_the_proposer_and_nobody():
    after = Split((Part("ada", 500_000), Part("cy", 300_000), Part(UNCLAIMED, 200_000)))
    assert asked_of(TWO, after, "ada") == ("bo", "cy")
    assert asked_of(whole("ada"), Split((Part("ada", 700_000), Part(UNCLAIMED, 300_000))), "ada") == ()


@pytest.mark.parametrize(
    ("said", "version", "now_us", "state"),
    [
        ([], 0, 50, "open"),
        ([("bo", "agreed")], 0, 50, "open"),
        ([("bo", "agreed"), ("cy", "agreed")], 1, 500, "agreed"),
        ([("bo", "agreed"), ("cy", "refused")], 0, 50, "refused"),
        ([("ada", "withdrawn")], 0, 500, "withdrawn"),
        ([("bo", "agreed")], 0, 100, "expired"),
        ([("bo", "agreed")], 1, 50, "outdated"),
    ],
)
def test_what_becomes_of_a_proposal(said, version, now_us, state):
    answers = tuple(SplitAnswer(who, what, "", 1) for who, what in said)
    one = SplitProposal("spl_1", "w_1", 0, TWO, ("bo", "cy"), "", "ada", 1, 100, answers)
    assert one.state(version, now_us) == state
