import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.floors import NOTHING_ASKED, Asked, last_said, read_value
from proxy.errors import BadRequest

ASKED = Asked(
    floors={"w_1": ((5, 100), (9, None)), "c_1": ((2, 40), (12, 50))},
    rates={"w_2": ((3, 7),)},
    owners={"w_1": "c_1", "w_3": "c_1"},
)


def test_what_a_work_asks_holds_before_what_its_creator_asks_and_from_its_number_on():
    assert [ASKED.floor("w_1", seq) for seq in (1, 2, 4, 5, 8, 9, 12)] == [0, 40, 40, 100, 100, 40, 50]
    assert [ASKED.floor("w_3", seq) for seq in (1, 2, 12)] == [0, 40, 50]
    assert ASKED.floor("w_9", 99) == 0


def test_an_agreed_rate_is_none_where_none_was_agreed():
    assert [ASKED.rate("w_2", seq) for seq in (2, 3)] == [None, 7]
    assert NOTHING_ASKED.rate("w_2", 3) is None
    assert NOTHING_ASKED.floor("w_2", 3) == 0


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9) | st.none()), max_size=8), st.integers(0, 40))
def test_the_last_word_up_to_a_number_holds(changes, seq):
    changes = tuple(sorted(dict(changes).items()))
    said = [value for number, value in changes if number <= seq]
    assert last_said(changes, seq) == (said[-1] if said else None)


def test_values_are_read_as_grains_or_words_and_none_ends_them():
    assert read_value("floor", "0.02", "USD") == 20_000_000
    assert read_value("rate", "0", "USD") == 0
    assert read_value("excerpt_words", "50", "USD") == 50
    assert read_value("floor", "none", "USD") is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [("floor", "-1"), ("floor", "0.0000000001"), ("floor", "9" * 19), ("rate", "much"), ("excerpt_words", "7"), ("excerpt_words", "0"),
     ("excerpt_words", "-1"), ("excerpt_words", "٣"), ("price", "1")],
)  # fmt: skip
def test_what_is_no_value_is_refused(kind, text):
    with pytest.raises(BadRequest):
        read_value(kind, text, "USD")
