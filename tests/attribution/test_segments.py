from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.segments import SEGMENT_CHARS_MAX, Segmenter, segments

PIECES = st.lists(
    st.sampled_from(
        ["Mr. Hale went home. ", "Yes. ", "word ", "\n", "\n\n", "- item\n", "1. ", "。", "東京は大きい", "...", "?!", '"', " ", "\t",
         "x" * 90, "e.g. this", "A.", "éß", "```\ncode()\n```", "‘so.’ ", "🙂", "No! “What?” he said. "]
    ),
    max_size=60,
).map("".join)  # fmt: skip


@settings(max_examples=200)
@given(text=PIECES, cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_segments_do_not_depend_on_where_the_stream_is_cut(text, cuts):
    segmenter, found, at = Segmenter(), [], 0
    for cut in sorted(min(cut, len(text)) for cut in cuts):
        found += segmenter.push(text[at:cut])
        at = cut
    found += segmenter.push(text[at:]) + segmenter.flush()
    assert found == segments(text)


@given(text=PIECES | st.text(max_size=300))
def test_segments_hold_every_visible_character_once_and_are_bounded(text):
    found = segments(text)
    assert all(text[one.start : one.end] == one.text and len(one.text) <= SEGMENT_CHARS_MAX for one in found)
    assert all(one.end <= after.start for one, after in itertools.pairwise(found))
    assert "".join("".join(one.text.split()) for one in found) == "".join(text.split())


def test_one_character_at_a_time_gives_the_same_sentences():
    text = "Dr. Vane was late. He had lost his hat, i.e. everything.\n\n- first thing\n- second thing\nThe end came slowly."
    segmenter = Segmenter()
    found = [one for char in text for one in segmenter.push(char)] + segmenter.flush()
    assert [one.text for one in found] == [one.text for one in segments(text)]
    assert [one.text for one in found][:2] == [
        "Dr. Vane was late. He had lost his hat, i.e. everything.",
        "- first thing",
    ] or len(found) >= 4


def test_text_without_a_stop_is_cut_at_a_space_or_anywhere():
    assert all(len(one.text) <= SEGMENT_CHARS_MAX for one in segments("word " * 1000))
    assert [len(one.text) for one in segments("x" * 1500)] == [600, 600, 300]


def test_full_width_stops_end_a_sentence_without_a_space():
    assert [one.text for one in segments("東京は大きい。次の文です。")] == ["東京は大きい。", "次の文です。"]


def test_what_is_held_back_stays_small_however_long_the_stream():
    segmenter = Segmenter()
    for _ in range(200):
        segmenter.push("no stop in sight and more of it ")
        assert len(segmenter._held) <= 2 * SEGMENT_CHARS_MAX
