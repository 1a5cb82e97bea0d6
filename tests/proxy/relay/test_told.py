"""What an answer told, within a bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.told import CITED_MAX, Told

KEY = b"k" * 32


@given(st.lists(st.text(max_size=9), max_size=8))
def test_the_digest_depends_on_the_text_and_not_on_its_pieces(pieces):
    whole, parts = Told(10), Told(1000)
    whole.add(0, "".join(pieces))
    for piece in pieces:
        parts.add(0, piece)
    if pieces:
        assert whole.digest(KEY) == parts.digest(KEY)
    assert parts.texts() == ({0: "".join(pieces)} if pieces else {})


def test_the_digest_needs_the_key_and_tells_choices_apart():
    one, other = Told(99), Told(99)
    one.add(0, "a")
    other.add(1, "a")
    assert len({one.digest(KEY), other.digest(KEY), one.digest(b"other")}) == 3
    assert Told(9).digest(KEY) == ""


def test_beyond_the_bound_text_is_counted_and_not_kept():
    told = Told(5)
    assert told.add(0, "abc") == "abc"
    assert told.add(1, "defg") == "de"
    assert told.add(0, "h") == ""
    assert told.texts() == {0: "abc", 1: "de"}
    assert (told.characters, told.kept_characters) == (8, 5)


def test_half_a_surrogate_pair_does_no_harm():
    told = Told(9)
    told.add(0, "\ud83d")
    assert told.digest(KEY)


def test_addresses_that_are_cited_are_kept_once_in_their_order_and_within_a_bound():
    told = Told(9)
    told.cite(["https://b.example", "https://a.example", "https://b.example", "https://" + "x" * 2_000])
    assert list(told.cited) == ["https://b.example", "https://a.example"]
    told.cite([f"https://{number}.example" for number in range(2 * CITED_MAX)])
    assert len(told.cited) == CITED_MAX
