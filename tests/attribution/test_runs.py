from __future__ import annotations

import pytest

from attribution.background import Background
from attribution.building import build
from attribution.index import Index
from attribution.normalise import words
from attribution.runs import claims
from attribution.terms import SourceWork

LINE = "the pump is dry now but no seller has ever stood on that spot"


@pytest.fixture
def opened(word_encoder, tmp_path):
    def open_(*works):
        build(works, tmp_path / "i", [word_encoder], Background.open())
        return Index(tmp_path / "i", Background.open(), model_sha256="words")

    return open_


def found(index, text):
    return [
        (index.work_ids[one.work], one.start, one.end, one.is_common)
        for one in claims(index, words(text).hashes)
    ]


def test_a_run_is_found_word_for_word(opened):
    index = opened(SourceWork("a", f"Before it. {LINE}. After it.", 1, "x"))
    assert found(index, f"one two {LINE} three") == [("a", 2, 16, False)]


def test_fewer_than_six_words_are_no_run(opened):
    index = opened(SourceWork("a", LINE, 1, "x"))
    assert found(index, "the pump is dry now") == []


def test_the_earliest_registrant_owns_a_run(opened):
    index = opened(SourceWork("late", LINE, 9, "y"), SourceWork("early", LINE, 2, "x"))
    assert found(index, LINE) == [("early", 0, 14, False)]


def test_what_three_creators_hold_is_nobodys(opened):
    index = opened(*(SourceWork(name, f"{name} {LINE}", 1, name) for name in "abc"))
    assert [common for *_, common in found(index, LINE)] == [True]


def test_copies_of_the_page_do_not_make_its_lines_a_saying(opened):
    page = "When we came to the yard he said {line} and then he laughed and wiped both his hands on the door"
    pages = [
        page,
        page.replace("came to", "entered").replace("laughed", "wept"),
        page.replace("door", "gate"),
    ]
    works = [
        SourceWork(str(place), text.format(line=LINE), place, str(place)) for place, text in enumerate(pages)
    ]
    assert found(opened(*works), LINE) == [("0", 0, 14, False)]


def test_a_saying_with_copies_of_a_page_is_still_a_saying(opened):
    page = "When we came to the yard he said {line} and then he laughed and wiped both his hands on the door"
    other = (
        "Nobody in this village would sell me anything because {line} or so my uncle wrote home to us once"
    )
    third = (
        "There is a proverb about wells that goes {line} which my teacher never tired of telling her class"
    )
    pages = [page, page, other, other, third]
    works = [
        SourceWork(str(place), text.format(line=LINE), place, str(place)) for place, text in enumerate(pages)
    ]
    assert [common for *_, common in found(opened(*works), LINE)] == [True]


def test_a_small_edit_does_not_cut_a_run(opened):
    index = opened(SourceWork("a", LINE, 1, "x"))
    edited = "the pump is dry now but no buyer has ever stood on that spot"
    assert found(index, edited) == [("a", 0, 14, False)]


def test_two_works_in_one_sentence_each_keep_their_words(opened):
    other = "she wound the silver key and the snow rose from the roofs"
    index = opened(SourceWork("a", LINE, 1, "x"), SourceWork("b", other, 1, "y"))
    assert [(work, start, end) for work, start, end, _ in found(index, f"{LINE} {other}")] == [
        ("a", 0, 14),
        ("b", 14, 26),
    ]
