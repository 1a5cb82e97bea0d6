from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.arriving import Arriving, cut
from attribution.candidates import candidates
from attribution.features import FEATURES, MARGINS, describe
from attribution.lexical import grams
from attribution.normalise import words
from attribution.runs import Claim, claims
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
    pieces = cut([int(bound) for bound in bounds], claims(index, found.hashes, arriving.held()), 0)
    pairs = candidates(index, output, pieces, arriving.ask)
    alone, place = arriving.known(pieces, pairs)
    whole = describe(index, output, pieces, pairs)
    known = place >= 0
    if all(piece.claim is None for piece in pieces) and len(pairs.piece):
        assert known.any()
    assert not any(pieces[number].claim for number in pairs.piece[known].tolist())
    margins = np.flatnonzero(np.any(alone.rows[place[known]] != whole.rows[known], axis=0))
    assert set(MARGINS) >= {FEATURES[column] for column in margins}
    assert np.array_equal(alone.sentence[place[known]], whole.sentence[known])


def test_what_is_left_beside_a_run_is_described_as_it_arrives(attributor, own_works):
    index = attributor.index
    quoted = " ".join(own_works[0].text.split()[3:15])
    text = f"Long before the harbour was lit, people there used to say that {quoted} and that was all of it."
    arriving = Arriving(index)
    arriving.take(segments(text))
    texts, piece, _ = arriving.describe(0)
    assert texts[0].startswith("Long before")
    assert quoted not in texts[0]
    found = arriving.words(text)
    output = arriving.output(text, found)
    pieces = cut([0, len(found.texts)], claims(index, found.hashes, arriving.held()), 0)
    pairs = candidates(index, output, pieces, arriving.ask)
    _, place = arriving.known(pieces, pairs)
    own = [number for number, one in enumerate(pieces) if one.claim is None]
    assert np.count_nonzero(place >= 0) == len(piece)
    assert set(pairs.piece[place >= 0].tolist()) <= set(own)


def test_sentences_are_cut_around_their_runs_and_short_rests_left_out():
    run = Claim(start=6, end=18, place=0, work=0, creators=1, copies=1)
    pieces = cut([0, 10, 20, 30], [run], 5)
    assert [(one.start, one.end, one.segment, one.claim is None) for one in pieces] == [
        (0, 6, 5, True),
        (6, 18, 5, False),
        (20, 30, 7, True),
    ]
