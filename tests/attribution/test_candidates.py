from __future__ import annotations

import numpy as np
import pytest

from attribution.background import Background
from attribution.candidates import (
    ELSEWHERE_MAX,
    NEAR_PASSAGES,
    NEAR_PASSAGES_MAX,
    PASSAGES_MAX,
    WORKS_MAX,
    _near,
    candidates,
    query,
)
from attribution.features import OutputWords, Piece
from attribution.index import Index, Manifest
from attribution.normalise import words
from attribution.runs import Claim


@pytest.fixture
def index(own_index) -> Index:
    return Index(own_index, Background.open(), model_sha256=Manifest.read(own_index).model_sha256)


def output_of(index, text):
    ids, idf = index.word_ids(words(text).hashes)
    none = np.zeros(len(ids), bool)
    return OutputWords(ids, idf, none, none)


def look(index, text, pieces):
    output = output_of(index, text)
    return candidates(index, output, pieces, lambda queries: index.best_passages(queries, PASSAGES_MAX))


def test_a_query_is_the_distinct_known_words_rarest_first(index):
    output = output_of(index, "the bee the larva qqzzx")
    terms, idf = query(output, 0, 5)
    assert len(terms) == 3
    assert (np.diff(idf) <= 0).all()


def test_the_right_work_is_among_few(index):
    pairs = look(index, "viscous dampers under the handrails of the footbridge", [Piece(0, 8, 0, None)])
    names = [index.work_ids[work] for work in pairs.work.tolist()]
    assert "bridge" in names
    assert len(names) == len(set(names)) <= WORKS_MAX + ELSEWHERE_MAX


def test_a_run_is_held_against_its_owner_only(index):
    work = index.work_ids.index("bees")
    claim = Claim(0, 6, int(index.work_token[work]), work, 1, 1)
    pairs = look(index, "the blue orchard bee nests in", [Piece(0, 6, 0, claim)])
    assert pairs.work.tolist() == [work]


def test_a_work_strong_in_one_sentence_is_a_candidate_of_the_next(index):
    text = "blue orchard bee hollow reeds mud plug larva flowers nothing here says anything about it"
    pairs = look(index, text, [Piece(0, 9, 0, None), Piece(9, 15, 1, None)])
    bees = index.work_ids.index("bees")
    assert bees in pairs.work[pairs.piece == 1].tolist()


def test_words_the_catalogue_never_saw_lead_nowhere(index):
    assert len(look(index, "qqzzx zzqqy xxyyz qqyyz", [Piece(0, 4, 0, None)]).piece) == 0


def test_a_work_copied_at_length_is_searched_at_its_strongest_places_only(index):
    work = index.work_ids.index("bees")
    low, high = int(index.work_passage[work]), int(index.work_passage[work + 1])
    passages = _near(index, work, dict.fromkeys(range(low, high), 1.0))
    assert len(passages) <= NEAR_PASSAGES_MAX * (2 * NEAR_PASSAGES + 1)
    assert (low <= passages).all()
    assert (passages < high).all()


def test_a_pair_stays_inside_its_work(index, own_outputs):
    for output in own_outputs:
        count = len(words(output["text"]).texts)
        pairs = look(index, output["text"], [Piece(0, count, 0, None)])
        assert (pairs.low >= index.work_sentence[pairs.work]).all()
        assert (pairs.high <= index.work_sentence[pairs.work + 1]).all()
        assert (pairs.low < pairs.high).all()


def test_nothing_to_look_at_is_no_pair(index):
    assert len(look(index, "", []).piece) == 0
