"""How much has been repeated, known while the output is being written."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution import Attributor, SourceWork, build_index
from attribution.copying import Copying
from attribution.index import Index

TEXT = " ".join(f"Barge {n} carried {n * 3} casks of tar past lock {n * 7} at dawn." for n in range(12))
COMMONS = "We the people of the lower ferry hold that no toll shall be taken from any widow on a feast day."
LIMITS = (25, 60)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder: Path = tmp_path_factory.mktemp("copying") / "index"
    works = [
        SourceWork("commons", COMMONS, 1, commons=True),
        SourceWork("log", TEXT, 2, "ada"),
        SourceWork("copy", f"Found in a drawer. {TEXT} {COMMONS}", 3, "eve"),
    ]
    build_index(works, folder)
    opened = Attributor.open(folder).index
    assert opened is not None
    return opened


def watched(index: Index, pieces: list[str]) -> Copying:
    copying = Copying(index)
    for piece in pieces:
        copying.push(piece)
    copying.finish()
    return copying


def test_words_in_a_row_are_counted_for_the_earliest_holder_and_the_limits_are_placed(index: Index):
    (found,) = watched(index, [f"He read aloud: {TEXT}"]).found(LIMITS)
    assert found.work_id == "log"
    assert found.words == len(TEXT.split())
    text = f"He read aloud: {TEXT}"
    assert text[found.start : found.end] == TEXT.removesuffix(".")
    for limit, at in zip(LIMITS, found.crossed, strict=True):
        assert len(text[found.start : at].split()) == limit


@given(st.lists(st.integers(0, 700), max_size=12))
def test_where_a_limit_is_crossed_does_not_depend_on_the_cuts(index: Index, cuts: list[int]):
    text = f"Well. {TEXT[:300]} But then {TEXT[280:]} So it was."
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[low:high] for low, high in itertools.pairwise(bounds)]
    assert watched(index, pieces).found(LIMITS) == watched(index, [text]).found(LIMITS)


def test_it_is_known_at_the_next_word(index: Index):
    copying = Copying(index)
    spoken = 0
    for word in TEXT.split(" "):
        copying.push(word + " ")
        spoken += 1
        if copying.found((25,)):
            break
    assert spoken == 26


def test_a_changed_word_starts_no_new_allowance(index: Index):
    some = TEXT.split()
    for place in range(10, len(some), 12):
        some[place] = "verily"
    (found,) = watched(index, [" ".join(some)]).found((60,))
    assert found.work_id == "log"


def test_what_is_the_commons_is_nobodys_and_short_phrases_are_chance(index: Index):
    assert not watched(index, [COMMONS]).found((5,))
    assert not watched(index, ["Barge 3 carried 9 casks of tar, and sank."]).found((5,))


def test_an_empty_catalogue_is_copied_by_nobody():
    copying = Copying(None)
    assert not copying.push(TEXT)
    assert not copying.finish()
    assert not copying.found((1,))
