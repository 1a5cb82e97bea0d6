from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution import Attributor, IndexMissing
from attribution.engine import rules
from attribution.terms import PPM


def test_a_copied_sentence_is_its_works_with_both_places(attributor, own_works):
    text = "I read this: A single female visits about two thousand flowers to feed one larva."
    found = attributor.attribute(text)
    (share,) = found.shares
    assert share.work_id == "bees"
    match = share.matches[0]
    source = next(work.text for work in own_works if work.work_id == "bees")
    assert match.kind == "verbatim"
    assert text[match.start : match.end] == source[match.work_start : match.work_end]


def test_a_reworded_sentence_points_to_the_sentence_it_restates(attributor, own_works):
    found = attributor.attribute(
        "The blue orchard bee makes its nest in hollow reeds and seals every cell with a mud plug."
    )
    source = next(work.text for work in own_works if work.work_id == "bees")
    match = found.shares[0].matches[0]
    assert source[match.work_start : match.work_end].startswith("The blue orchard bee nests in hollow reeds")


def test_the_earliest_registrant_owns_what_a_copy_repeats(attributor, own_works):
    copy = next(work for work in own_works if work.work_id == "lighthouse-copy")
    assert [share.work_id for share in attributor.attribute(copy.text).shares] == ["lighthouse"]


def test_look_alike_letters_and_shouting_hide_nothing(attributor):
    found = attributor.attribute(
        "ЕLЕVЕN ВОАТS CАMЕ IN BY THE SО\u00adUND ALONE, EVERY EVENING AT A QUARTER PAST FIVE"
    )
    assert [share.work_id for share in found.shares] == ["lighthouse"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "...",
        "🙂🙂",
        "a",
        "word " * 3000,
        "x" * 5000,
        "東京は大きい。" * 300,
        "\ud800",
        "| a | b |\n|---|---|\n" * 50,
        "```py\nx = 1\n```",
    ],
)
def test_any_text_has_shares_that_sum(attributor, text):
    found = attributor.attribute(text)
    assert found.unattributed_ppm + sum(share.ppm for share in found.shares) == PPM


def test_a_text_that_owes_nobody_is_unattributed(attributor):
    found = attributor.attribute(
        "Restart the router, wait a minute and try again. If that fails, call your provider."
    )
    assert (found.shares, found.unattributed_ppm) == ((), PPM)


@pytest.mark.parametrize(
    "text", ["Hello there. How are you?", "Yes, of course.", "It is an endgame.", "The bee is blue."]
)
def test_a_few_common_words_owe_nobody(attributor, text):
    assert attributor.attribute(text).shares == ()


def test_without_a_catalogue_everything_is_unattributed():
    empty = Attributor.open(None)
    assert empty.attribute("Eleven boats came in by the sound alone.").unattributed_ppm == PPM
    assert empty.method.startswith("endcredits/1 ")
    empty.close()


@pytest.mark.parametrize(
    "name",
    ["scoring.OPEN_FROM", "scoring.OPEN_TO", "scoring.FEW_PIECES", "candidates.WORKS_MAX", "runs.GAP_WORDS_MAX",
     "lexical.POSTINGS_MAX", "grounding.CITED_ODDS", "likeness.SHOWN_MARGIN", "engine.CONTENT_WORDS_MIN"],
)  # fmt: skip
def test_a_method_with_other_numbers_has_another_name(name, monkeypatch):
    before = Attributor.open(None).method
    monkeypatch.setattr(f"attribution.{name}", 7)
    assert Attributor.open(None).method != before


def test_what_only_paces_the_work_is_no_part_of_the_methods_name(monkeypatch):
    before = rules()
    monkeypatch.setattr("attribution.engine.PIECES_AT_ONCE", 7)
    assert rules() == before


def test_no_index_at_the_path_says_how_to_build_one(tmp_path):
    with pytest.raises(IndexMissing, match="endcredits index build"):
        Attributor.open(tmp_path)


def test_tokens_are_counted_in_word_pieces(attributor):
    assert attributor.count_tokens("Eleven boats came in.") == 5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_shares_do_not_depend_on_where_the_stream_is_cut(attributor, own_outputs, data):
    text = " ".join(
        output["text"] for output in data.draw(st.lists(st.sampled_from(own_outputs), min_size=1, max_size=3))
    )
    whole = attributor.attribute(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    stream = attributor.stream()
    for low, high in zip([0, *cuts], [*cuts, len(text)], strict=True):
        stream.push(text[low:high])
    assert stream.finish() == whole


def test_evidence_lies_inside_both_texts_and_never_overlaps(attributor, own_outputs, own_works):
    texts = {work.work_id: work.text for work in own_works}
    for output in own_outputs:
        matches = [match for share in attributor.attribute(output["text"]).shares for match in share.matches]
        matches.sort(key=lambda match: match.start)
        for match in matches:
            assert 0 <= match.start < match.end <= len(output["text"])
            assert 0 <= match.work_start < match.work_end <= len(texts[match.work_id])
        assert all(one.end <= after.start for one, after in itertools.pairwise(matches))


def test_a_step_at_a_time_ends_with_the_same_shares(attributor, own_outputs):
    text = own_outputs[0]["text"]
    stream = attributor.stream()
    stream.push(text)
    steps = stream.finishing()
    with pytest.raises(StopIteration) as end:  # noqa: PT012  the generator's result is what it raises
        while True:
            next(steps)
    assert end.value.value == attributor.attribute(text)
