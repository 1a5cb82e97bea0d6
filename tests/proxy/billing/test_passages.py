"""Passages: what stretches come to, and how a text is cut for a page."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.passages import CELL, LEAF_CHARACTERS, By, cells, leaf, leaf_starts

SONG = "The ferry left at noon.\nNobody waved, nobody wept at all.\n\nThe harbour light went out at ten past one."


@given(st.integers(0, 10_000), st.integers(1, 2_000))
def test_every_stretch_comes_to_cells_that_it_mostly_fills_or_mostly_lies_in(start, length):
    found = cells(start, start + length)
    assert found
    for cell in found:
        shared = min((cell + 1) * CELL, start + length) - max(cell * CELL, start)
        assert 2 * shared >= min(CELL, length)
    for beside in (found[0] - 1, found[-1] + 1):
        shared = min((beside + 1) * CELL, start + length) - max(beside * CELL, start)
        assert 2 * shared <= min(CELL, length)


def test_nothing_comes_to_no_cell():
    assert [list(cells(*one)) for one in ((5, 5), (9, 3), (-4, 7))] == [[], [], []]


@given(st.text(alphabet=["a", " ", "\n", "."], max_size=40).map(lambda some: some * 900))
def test_the_leaves_of_a_text_are_all_of_it_and_none_is_too_long(text):
    starts = leaf_starts(text)
    ends = [*starts[1:], len(text)]
    assert "".join(text[one:end] for one, end in zip(starts, ends, strict=True)) == text
    assert all(end - one <= LEAF_CHARACTERS for one, end in zip(starts, ends, strict=True))
    assert starts == sorted(set(starts))


@given(st.text(max_size=400), st.dictionaries(st.integers(0, 8), st.integers(1, 9)))
def test_a_leaf_shows_the_text_and_marks_nothing_that_was_not_used(text, answers):
    shown = leaf(text, 0, len(text), {cell: (By("app_a", "m", n),) for cell, n in answers.items()})
    for line in shown.lines:
        for one in line:
            assert text[one.start : one.end] == one.text
            assert bool(one.passage) == bool(one.answers)
            assert one.answers in {0, *answers.values()}
    marked = {one.passage for line in shown.lines for one in line} - {0}
    assert marked == set(range(1, len(shown.passages) + 1))


def test_a_passage_is_as_many_sentences_as_were_used_one_after_the_other():
    both = (By("app_a", "large", 3), By("app_b", "small", 1))
    uses = {0: both, 1: both, 2: (By("app_a", "large", 2),)}
    shown = leaf(SONG, 0, len(SONG), uses)
    assert [[one.answers for one in line] for line in shown.lines] == [[4], [4], [], [2]]
    passage, other = shown.passages
    assert SONG[passage.start : passage.end] == SONG.partition("\n\n")[0]
    assert (passage.answers, passage.by, other.answers) == (4, both, 2)
    again = f"{SONG}\n{SONG}"
    two = leaf(again, 0, len(again), {0: both, 5: uses[2]})
    assert [one.answers for one in two.passages] == [4, 2]
