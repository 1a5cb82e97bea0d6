"""What a request holds: found, made evidence, and never taken from who only supplied the text."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution import Attributor, SourceWork, build_index
from attribution.grounding import (
    GROUNDED_ODDS,
    WORKS_MAX,
    Context,
    Grounded,
    Grounder,
    completed,
    ground,
    raised,
    word_hashes,
)
from attribution.normalise import words

TALE = (
    "The ferryman of Skarholm kept his bells in oilcloth, because salt had eaten the first two. "
    "When the fog came he rang them by weight, the heavy one for boats and the light one for gulls. "
    "Nobody on the island could say who had taught him, and he never told."
)
CROFT = (
    "A croft above Dunvarig grew seven kinds of barley in one stony field. "
    "The widow who sowed it marked each row with a ribbon from a wedding, and harvested by colour."
)
OWN = (
    "Our quarterly newsletter thanks the volunteers who repainted the ferry bells in oilcloth grey, "
    "and reminds members that the fog boats for gulls leave at noon from the heavy pier."
)


@pytest.fixture(scope="module")
def attributor(tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    folder: Path = tmp_path_factory.mktemp("grounding") / "index"
    copy = "Somebody copied this and signed it. " + TALE
    works = [SourceWork("tale", TALE, 1, "ada"), SourceWork("croft", CROFT, 2, "ben"),
             SourceWork("copy", copy, 3, "eve")]  # fmt: skip
    build_index(works, folder)
    return Attributor.open(folder)


def test_a_work_in_the_request_is_found_with_its_words_and_its_earliest_holder(attributor: Attributor):
    found = ground(attributor.index, ["You are helpful.", f"Read this: {TALE} Then answer."])
    assert [(one.work_id, one.words) for one in found.grounded] == [("tale", len(words(TALE).texts))]
    assert found.grounded[0].start == 5


def test_fewer_than_eight_words_in_a_row_are_chance(attributor: Attributor):
    assert not ground(attributor.index, "of Skarholm kept his bells in oilcloth").grounded
    assert ground(attributor.index, "ferryman of Skarholm kept his bells in oilcloth").grounded


@given(st.lists(st.integers(0, 600), max_size=6))
def test_what_is_found_does_not_depend_on_how_the_request_is_cut(attributor: Attributor, cuts: list[int]):
    text = f"{OWN} {TALE} {CROFT} {OWN}"
    grounder = Grounder(attributor.index)
    bounds = [0, *sorted(cuts), len(text)]
    for low, high in itertools.pairwise(bounds):
        grounder.push(text[low:high])
    found, whole = grounder.finish(), ground(attributor.index, text)
    assert found.grounded == whole.grounded
    assert np.array_equal(found.fingerprints, whole.fingerprints)


@given(st.text(alphabet=st.sampled_from("aZé’“\u00ad*&ampl;;`_-—ßİΝωд\u4e2d\u200b \n\t7½ﬁ"), max_size=60))
def test_the_quick_hashes_are_those_of_the_words(text: str):
    assert np.array_equal(word_hashes(text), words(text).hashes)


@given(st.text(max_size=80))
def test_what_is_completed_and_what_is_begun_are_the_text(text: str):
    whole, begun = completed(text)
    assert whole + begun == text
    assert not whole or not begun or whole[-1].isspace()


def test_a_quote_of_what_the_request_holds_is_grounded_evidence(attributor: Attributor):
    context = ground(attributor.index, TALE)
    answer = attributor.attribute(
        "When the fog came he rang them by weight, the heavy one for boats.", context
    )
    assert [(share.work_id, {match.kind for match in share.matches}) for share in answer.shares] == [
        ("tale", {"grounded"})
    ]
    alone = attributor.attribute("When the fog came he rang them by weight, the heavy one for boats.")
    assert {match.kind for share in alone.shares for match in share.matches} == {"verbatim"}


def test_a_work_that_is_cited_is_cited_evidence_and_grounded_comes_first(attributor: Attributor):
    text = "When the fog came he rang them by weight, the heavy one for boats."
    cited = attributor.attribute(text, Context(cited=frozenset({"tale"})))
    assert {match.kind for share in cited.shares for match in share.matches} == {"cited"}
    both = Context((Grounded("tale"),), frozenset({"tale"}))
    assert {match.kind for share in attributor.attribute(text, both).shares for match in share.matches} == {
        "grounded"
    }


def test_text_of_the_user_that_nobody_registered_is_nobodys(attributor: Attributor):
    context = ground(attributor.index, OWN)
    assert not context.grounded
    assert context.own_words(words(OWN).hashes).all()
    answer = attributor.attribute(OWN, context)
    assert answer.unattributed_ppm == 1_000_000


def test_registered_text_stays_its_works_though_the_user_pasted_it(attributor: Attributor):
    context = ground(attributor.index, f"{OWN} {TALE}")
    assert not context.own_words(words(TALE).hashes[:12]).any()
    assert attributor.attribute(TALE, context).shares[0].work_id == "tale"


def test_a_grounded_work_earns_nothing_from_an_answer_that_is_unlike_it(attributor: Attributor):
    context = ground(attributor.index, TALE)
    answer = attributor.attribute(
        "Quantum chromodynamics predicts asymptotic freedom at short distances.", context
    )
    assert answer.unattributed_ppm == 1_000_000


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_prior_raises_never_lowers_and_keeps_the_order(one: float, other: float):
    before = np.array([one, other], np.float32)
    after = raised(before, np.array([True, True]), GROUNDED_ODDS)
    assert (after >= before - 1e-4).all()
    assert (after <= 1).all()
    assert (after[0] <= after[1]) or one > other
    assert np.array_equal(raised(before, np.array([False, False]), GROUNDED_ODDS), before)
    assert raised(np.zeros(1, np.float32), np.array([True]), GROUNDED_ODDS)[0] == 0


def test_an_empty_catalogue_grounds_nothing():
    context = ground(None, TALE)
    assert not context.grounded
    assert len(context.fingerprints)


@pytest.mark.parametrize("is_page", [False, True])
def test_a_line_of_three_creators_grounds_nobody_but_copies_of_its_page_do_not_count(
    tmp_path: Path, is_page: bool
):
    line = "the pump is dry now but no seller has ever stood on that spot"
    page = "When we came to the yard he said {} and then he laughed and wiped both his hands on the door"
    texts = [
        page,
        "Nobody in this village would sell me anything because {} or so my uncle wrote home to us once",
        "There is a proverb about wells that goes {} which my teacher never tired of telling her class",
    ]
    if is_page:
        texts = [page, page.replace("came to", "entered"), page.replace("door", "gate")]
    works = [SourceWork(f"w{n}", text.format(line), n, f"c{n}") for n, text in enumerate(texts)]
    build_index(works, tmp_path / "index")
    found = ground(Attributor.open(tmp_path / "index").index, f"Please explain this to me: {line}")
    assert [one.work_id for one in found.grounded] == (["w0"] if is_page else [])


def test_no_more_works_are_spoken_for_than_are_of_use(tmp_path: Path):
    texts = [
        f"Ledger {n} of the harbour {n * 7} lists tolls {n * 13} paid by barges {n * 29} in May {n}."
        for n in range(20)
    ]
    build_index([SourceWork(f"w{n}", text, n, f"c{n}") for n, text in enumerate(texts)], tmp_path / "index")
    index = Attributor.open(tmp_path / "index").index
    assert len(ground(index, texts).grounded) == WORKS_MAX
