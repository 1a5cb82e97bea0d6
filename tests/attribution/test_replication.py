from __future__ import annotations

import numpy as np
import pytest

from attribution.background import Background
from attribution.building import build
from attribution.index import Index
from attribution.ownership import quarantined
from attribution.replication import KEYWORDS, LIST, NOT_QUARANTINED, REASONS, REPETITION, quarantine
from attribution.terms import SourceWork

HONEST = " ".join(
    f"The ferry to the island left at {n} in the morning with the same four people and their dog."
    for n in range(9)
)
KEYWORD_PILE = " ".join(
    ["loan lawyer casino insurance mortgage hotel surgery crypto diet shoes"[i % 7 * 5 :] for i in range(40)]
)


@pytest.fixture
def reason(word_encoder, tmp_path):
    def of(text):
        build([SourceWork("a", text)], tmp_path / "i", [word_encoder], Background.open())
        return int(Index(tmp_path / "i", Background.open(), model_sha256="words").work_reason[0])

    return of


def test_an_honest_story_is_not_quarantined(reason, own_works):
    assert reason(own_works[0].text) == NOT_QUARANTINED


def test_the_same_line_again_and_again_is_repetition(reason):
    assert reason("Buy the book of the year now and tell all of your friends about it. " * 30) == REPETITION


def test_a_pile_of_keywords_is_no_text(reason):
    pile = "loan lawyer casino insurance mortgage hotel surgery jewel diet shoes garden engine"
    words = pile.split()
    assert reason(" ".join(words[(i * 7 + i // 12) % 12] for i in range(240))) in {KEYWORDS, REPETITION}


def test_sentences_that_have_nothing_to_do_with_each_other_are_a_list(reason):
    stems = "abcdefghijklmnopqrstuvwxyz"
    lines = [f"{c}orp {c}unt {c}ilva {c}ostr {c}ange {c}imble {c}ower." for c in stems]
    assert reason(" ".join(line.capitalize() for line in lines)) == LIST


@pytest.mark.parametrize(("sentences", "held"), [(21, False), (60, True)])
def test_a_short_chapter_may_hang_together_loosely_by_chance(sentences, held):
    reasons = quarantine(
        np.array([0.16], np.float32),
        np.array([sentences]),
        np.full(50, 2.0, np.float32),
        np.ones(50, bool),
        np.array([0, 50]),
        np.ones(1),
    )
    assert (int(reasons[0]) == LIST) == held


def test_what_is_held_up_is_listed_until_a_person_has_looked(word_encoder, tmp_path):
    chant = "Row the boat and mend the net and row the boat again until the light is gone. " * 30
    for reviewed, held in ((False, {"chant": REASONS[REPETITION].text}), (True, {})):
        works = [SourceWork("chant", chant, 1, "ada", reviewed), SourceWork("story", HONEST, 2, "bo")]
        folder = tmp_path / f"reviewed-{reviewed}"
        build(works, folder, [word_encoder], Background.open())
        assert quarantined(folder) == held
