import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import periods
from proxy.billing.periods import Comment, next_comment, state_at, window_end
from proxy.errors import BadRequest, Conflict

TIMES = st.integers(0, 1 << 52)


def said(side, text, seq=1):
    return Comment(statement="stm_a", seq=seq, side=side, text=text, by="x", at_us=1)


def comment(before=(), side="creator", text="Too little.", now_us=1, until_us=10):
    return next_comment(
        before, statement="stm_a", side=side, text=text, by="x", now_us=now_us, until_us=until_us
    )


@given(TIMES, st.integers(0, 366), TIMES, TIMES)
def test_what_is_final_once_is_final_for_ever(closed_us, days, one_us, other_us):
    until_us = window_end(closed_us, days)
    earlier, later = sorted((one_us, other_us))
    if state_at(until_us, earlier) == "final":
        assert state_at(until_us, later) == "final"
    assert (state_at(until_us, closed_us) == "final") == (days == 0)


def test_a_period_that_promised_no_window_is_final():
    assert state_at(0, 1) == "final"


def test_a_creator_comments_while_the_period_is_a_draft():
    made = comment()
    assert (made.seq, made.side, made.text) == (1, "creator", "Too little.")
    with pytest.raises(Conflict) as refused:
        comment(now_us=10)
    assert refused.value.code == "period_final"


def test_an_operator_answers_whenever_but_only_what_was_said():
    with pytest.raises(Conflict) as refused:
        comment(side="operator")
    assert refused.value.code == "nothing_to_answer"
    assert comment([said("creator", "Too little.")], "operator", "It is right.", now_us=11).seq == 2


def test_saying_it_twice_is_saying_it_once_even_when_the_window_is_over():
    assert comment([said("creator", "Too little.")], text=" Too  little. ", now_us=99) is None
    assert comment([said("creator", "Too little."), said("operator", "No.", 2)]).seq == 3


@pytest.mark.parametrize("text", ["", "\u202e \n", "a" * (periods.COMMENT_CHARACTERS_MAX + 1)])
def test_a_comment_has_words_and_not_too_many(text):
    with pytest.raises(BadRequest):
        comment(text=text)


def test_what_is_said_is_bounded_in_number_too():
    before = [said("creator", str(n), n) for n in range(1, periods.COMMENTS_MAX + 1)]
    with pytest.raises(Conflict) as refused:
        comment(before)
    assert refused.value.code == "comments_full"
