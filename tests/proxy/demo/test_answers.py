"""What the demonstration backend says is known beforehand, word for word."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.answers import CATALOGUE_DIR, WORKS_MAX, Passage, compose, load_repertoire

REPERTOIRE = load_repertoire()
PASSAGES = {passage.work_id: passage for passage in REPERTOIRE.passages}
TEXTS = {
    work["work_id"]: (CATALOGUE_DIR / work["path"]).read_text(encoding="utf-8")
    for work in map(json.loads, (CATALOGUE_DIR / "catalogue.jsonl").read_text(encoding="utf-8").splitlines())
}


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def test_every_work_has_one_passage() -> None:
    assert list(PASSAGES) == list(TEXTS)


@pytest.mark.parametrize("passage", REPERTOIRE.passages, ids=lambda passage: passage.work_id)
def test_a_quotation_stands_word_for_word_in_its_work(passage: Passage) -> None:
    assert passage.quoted in TEXTS[passage.work_id]
    assert len(words(passage.quoted)) >= 14


@pytest.mark.parametrize("passage", REPERTOIRE.passages, ids=lambda passage: passage.work_id)
def test_a_restatement_repeats_no_run_of_seven_words(passage: Passage) -> None:
    theirs = words(TEXTS[passage.work_id])
    runs = {tuple(theirs[start : start + 7]) for start in range(len(theirs) - 6)}
    ours = words(passage.restated)
    assert not runs & {tuple(ours[start : start + 7]) for start in range(len(ours) - 6)}


@pytest.mark.parametrize("passage", REPERTOIRE.passages, ids=lambda passage: passage.work_id)
def test_topics_are_single_lower_case_words(passage: Passage) -> None:
    assert passage.topics
    assert all(words(topic) == [topic] for topic in passage.topics)


@pytest.mark.parametrize("work_id", PASSAGES)
def test_every_work_can_be_asked_for(work_id: str) -> None:
    assert work_id in compose(REPERTOIRE, " ".join(sorted(PASSAGES[work_id].topics))).work_ids


def test_asking_for_a_quotation_gets_the_words_and_nothing_reworded() -> None:
    answer = compose(REPERTOIRE, "Quote the chorus of the night bus song")
    passage = PASSAGES["the-night-bus-has-my-number"]
    assert answer.work_ids == (passage.work_id,)
    assert passage.quoted in answer.text
    assert passage.restated not in answer.text


def test_asking_for_a_summary_gets_no_quotation() -> None:
    answer = compose(REPERTOIRE, "Summarise the lighthouse lens daemon")
    passage = PASSAGES["lamp-rotation-service"]
    assert passage.restated in answer.text
    assert passage.quoted not in answer.text


def test_a_comparison_draws_on_several_works() -> None:
    answer = compose(REPERTOIRE, "Compare keeping bees at an airport with reading tide tables")
    assert answer.work_ids[:2] == ("the-airport-keeps-bees", "tide-tables-for-the-undecided")
    assert len(answer.work_ids) == WORKS_MAX


@pytest.mark.parametrize(
    "question", ["How do I sort a list in Python?", "hello", "What is 12 times 9?", "", "Why?"]
)
def test_a_general_question_draws_on_nothing(question: str) -> None:
    answer = compose(REPERTOIRE, question)
    assert answer.work_ids == ()
    assert answer.text


def test_general_answers_share_no_run_of_five_words_with_any_work() -> None:
    general = [*REPERTOIRE.openings, *REPERTOIRE.closings, REPERTOIRE.default]
    general += [entry.answer for entry in REPERTOIRE.general]
    theirs = {tuple(w[i : i + 5]) for w in map(words, TEXTS.values()) for i in range(len(w) - 4)}
    assert not theirs & {tuple(w[i : i + 5]) for w in map(words, general) for i in range(len(w) - 4)}


@given(st.text(max_size=200), st.integers(min_value=0, max_value=7))
def test_the_same_question_always_gets_the_same_answer_and_uses_what_it_says(
    question: str, variant: int
) -> None:
    answer = compose(REPERTOIRE, question, variant)
    assert answer == compose(REPERTOIRE, question, variant)
    assert len(answer.work_ids) <= WORKS_MAX
    for work_id in answer.work_ids:
        passage = PASSAGES[work_id]
        assert passage.quoted in answer.text or passage.restated in answer.text


def test_another_choice_of_the_same_request_reads_otherwise() -> None:
    first, second = (compose(REPERTOIRE, "sourdough", variant).work_ids for variant in range(2))
    assert first == ("the-lodger-in-the-jar",)
    assert second == ("operating-a-starter",)
