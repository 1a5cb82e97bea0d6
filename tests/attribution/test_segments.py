from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.segments import OWN_LINE_CHARS_MAX, SEGMENT_CHARS_MAX, Halves, Segmenter, segments

PIECES = st.lists(
    st.sampled_from(
        ["Mr. Hale went home. ", "Yes. ", "word ", "\n", "\n\n", "- item\n", "1. ", "。", "東京は大きい", "...", "?!", '"', " ", "\t",
         "x" * 90, "e.g. this", "A.", "éß", "```\ncode()\n```", "‘so.’ ", "🙂", "No! “What?” he said. ",
         "# Heading? ", "| a. B | ", "|\n", "\n| ", "~~~", "\r\n", "है। ", "؟ ", "１．", "・", "x y " * 80]
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


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "It adds two numbers:\n```python\nx = 1\ny = 2\n\nprint(x)\n```\nThe function adds both. It works.",
            [
                "It adds two numbers:",
                "```python",
                "x = 1\ny = 2",
                "print(x)",
                "```",
                "The function adds both.",
                "It works.",
            ],
        ),
        ("## Why? Because. And\nThe text follows here.", ["## Why? Because. And", "The text follows here."]),
        (
            "| a | b |\n|---|---|\n| one row. Two. | x |\n| r2 | y |\nThen prose follows.",
            ["| a | b |", "|---|---|", "| one row. Two. | x |", "| r2 | y |", "Then prose follows."],
        ),
        (
            "1. First do this.\n2. Then that.\n10) Then ten",
            ["1. First do this.", "2. Then that.", "10) Then ten"],
        ),
        ("One paragraph\r\n\r\nand another", ["One paragraph", "and another"]),
        ("क्या हाल है। मैं ठीक हूँ॥ अच्छा।", ["क्या हाल है।", "मैं ठीक हूँ॥", "अच्छा।"]),
        ("هل هذا جيد؟ نعم. اردو جملہ۔ دوسرا", ["هل هذا جيد؟", "نعم. اردو جملہ۔", "دوسرا"]),
        ("他说：“好。”然后走了！真的？", ["他说：“好。”", "然后走了！", "真的？"]),
        ("本日は晴れ。（明日も。）終わり", ["本日は晴れ。", "（明日も。）", "終わり"]),
        ("・一つ目の項目\n・二つ目の項目\n①三つ目", ["・一つ目の項目", "・二つ目の項目", "①三つ目"]),
    ],
)
def test_each_shape_is_cut_where_a_reader_would(text, wanted):
    assert [one.text for one in segments(text)] == wanted


def test_a_script_without_stops_is_cut_at_its_spaces():
    found = segments("ผึ้งทำรังในไม้ไผ่ " * 100)
    assert len(found) > 1
    assert all(one.text.endswith("ไผ่") and one.text.startswith("ผึ้ง") for one in found)


def test_a_line_of_its_own_that_never_ends_is_cut_like_prose():
    row = "| " + "A sentence stands in this cell. " * 40
    assert all(len(one.text) <= OWN_LINE_CHARS_MAX for one in segments(row))
    assert len(segments(row)) == 40


def test_a_pair_cut_in_two_is_one_character_again():
    halves = Halves()
    assert [halves.push(part) for part in ("a\ud83d", "", "\ude42b", "\ud83d\ude42")] == [
        "a",
        "",
        "🙂b",
        "🙂",
    ]
    assert halves.flush() == ""


def test_a_half_that_meets_no_other_stays():
    halves = Halves()
    assert [halves.push(part) for part in ("\ude42", "\ud83d", "x", "\ud83d")] == [
        "\ude42",
        "",
        "\ud83dx",
        "",
    ]
    assert halves.flush() == "\ud83d"


@given(
    text=st.text(max_size=40),
    lone=st.lists(st.sampled_from(["\ud83d", "\ude42", "x"]), max_size=6),
    data=st.data(),
)
def test_halves_come_out_the_same_however_the_units_are_cut(text, lone, data):
    units = (text + "".join(lone)).encode("utf-16-le", "surrogatepass")
    split = [units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(split)), max_size=6)))
    halves = Halves()
    parts = [halves.push("".join(split[a:b])) for a, b in itertools.pairwise([0, *cuts, len(split)])]
    assert "".join(parts) + halves.flush() == units.decode("utf-16-le", "surrogatepass")
