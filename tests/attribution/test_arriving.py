from __future__ import annotations

import itertools

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.arriving import Arriving
from attribution.candidates import candidates
from attribution.features import FEATURES, MARGINS, Piece, describe
from attribution.lexical import grams
from attribution.normalise import words
from attribution.segments import segments

PARTS = [
    "A bee. ",
    "ΖΩΗ and Ζ. ",
    "東京は大きい。",
    "&amp; so",
    "**",
    " \n\n",
    "é́ ",
    "x" * 700,
    "Rain fell in 1987. ",
    "&am",
    "!\u200b ",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join) | st.text(max_size=80))
def test_words_of_the_sentences_are_those_of_the_whole_text(text):
    arriving = Arriving(None)
    for segment in segments(text):
        arriving.take([segment])
    found, whole = arriving.words(text), words(text)
    assert found.texts == whole.texts
    for name in ("hashes", "starts", "ends"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_was_found_ahead_is_what_would_be_found_at_the_end(attributor, own_outputs, data):
    index = attributor.index
    text = " ".join(
        one["text"] for one in data.draw(st.lists(st.sampled_from(own_outputs), min_size=1, max_size=3))
    )
    arriving = Arriving(index)
    for number, segment in enumerate(segments(text)):
        arriving.take([segment])
        arriving.describe(number)
    found = arriving.words(text)
    count, positions, places = arriving.held()
    expected = index.holders(grams(found.hashes))
    assert count == len(grams(found.hashes))
    assert np.array_equal(positions, expected[0])
    assert np.array_equal(places, expected[1])
    output = arriving.output(text, found)
    bounds = [*np.searchsorted(found.starts, [one.start for one in arriving.sentences]), len(found.texts)]
    pieces = [
        Piece(int(low), int(high), number, None)
        for number, (low, high) in enumerate(itertools.pairwise(bounds))
    ]
    pairs = candidates(index, output, pieces, arriving.ask)
    alone, place = arriving.known(pieces, pairs)
    whole = describe(index, output, pieces, pairs)
    known = place >= 0
    assert known.any() or not len(pairs.piece) or not len(alone.rows)
    margins = np.flatnonzero(np.any(alone.rows[place[known]] != whole.rows[known], axis=0))
    assert set(MARGINS) >= {FEATURES[column] for column in margins}
    assert np.array_equal(alone.sentence[place[known]], whole.sentence[known])
