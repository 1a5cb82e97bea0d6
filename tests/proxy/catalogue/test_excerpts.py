"""A work's own words are shown where its creator lets them be, and no more of them than that."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.excerpts import WORDS_MAX, Excerpts
from proxy.catalogue.works import WorkCredit
from proxy.errors import NotFound

WORK = "w_" + "a" * 26
TEXT = " ".join(f"word{n}" for n in range(400))
OPEN = WorkCredit(WORK, "Title", ("Ada",), "CC-BY-4.0", "", "paid", excerpts=True)


def excerpts(**changes):
    credit = dataclasses.replace(OPEN, **changes)
    return Excerpts({WORK: credit}.get, lambda _work: TEXT)


def test_a_passage_is_the_text_between_its_places():
    assert excerpts()(WORK, [(0, 5), (6, 11)]) == ["word0", "word1"]


@pytest.mark.parametrize("changes", [{"excerpts": False}, {"verdict": "prohibited"}])
def test_without_consent_nothing_is_shown(changes):
    assert excerpts(**changes)(WORK, [(0, 5)]) == [""]


def test_of_an_unknown_work_or_one_whose_text_is_gone_nothing_is_shown():
    def gone(_work: str) -> str:
        raise NotFound("erased")

    assert excerpts()("w_other", [(0, 5)]) == [""]
    assert Excerpts({WORK: OPEN}.get, gone)(WORK, [(0, 5)]) == [""]


@given(
    st.lists(st.tuples(st.integers(-5, 3_000), st.integers(0, 3_000)), max_size=6),
    st.one_of(st.none(), st.sampled_from([25, 50, 1_000])),
)
def test_all_passages_together_keep_to_the_words_that_are_allowed(spans, limit):
    shown = excerpts(excerpt_words=limit)(WORK, spans)
    assert len(shown) == len(spans)
    assert sum(len(one.split()) for one in shown) <= min(limit or WORDS_MAX, WORDS_MAX)
