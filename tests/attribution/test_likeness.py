from __future__ import annotations

import numpy as np
import pytest

from attribution.background import Background
from attribution.encoder import Encoder
from attribution.features import COSINES, FEATURES, Described, Pairs
from attribution.index import Index, Manifest
from attribution.likeness import compare


@pytest.fixture(scope="module")
def encoder():
    return Encoder.open()


@pytest.fixture
def index(own_index) -> Index:
    return Index(own_index, Background.open(), model_sha256=Manifest.read(own_index).model_sha256)


def pairs_of(index, works, pieces):
    """Each of so many pieces beside each work's first passage; nothing described yet."""
    chosen = [index.work_ids.index(work) for work in works]
    piece, work = np.repeat(np.arange(pieces), len(works)), np.tile(np.array(chosen, np.int64), pieces)
    passage = index.work_passage[work]
    low, high = index.passage_sentence[passage], index.passage_sentence[passage + 1]
    pairs = Pairs(piece, work, passage, np.asarray(low), np.asarray(high))
    return pairs, Described(np.zeros((len(piece), len(FEATURES)), np.float32), np.asarray(low).copy())


def value(found, row, name):
    return float(found.rows[row, FEATURES.index(name)])


RESTATED = "She makes no honey, lives by herself and hardly ever stings."


def test_a_restatement_is_like_its_work_and_the_sentence_it_restates_is_shown(index, encoder):
    pairs, described = pairs_of(index, ["bees", "chess"], 1)
    found = compare(index, pairs, described, encoder.encode([RESTATED]), np.array([True]))
    assert value(found, 0, "cosine") > 0.6 > value(found, 1, "cosine")
    assert value(found, 0, "cosine_margin") == -value(found, 1, "cosine_margin") > 0.2
    assert value(found, 0, "cosine") >= value(found, 0, "cosine_second") >= -1
    first = int(index.work_sentence[index.work_ids.index("bees")])
    assert int(found.sentence[0]) == first + 2


def test_only_the_chosen_pieces_are_compared_and_nothing_else_changes(index, encoder):
    pairs, described = pairs_of(index, ["bees", "chess"], 3)
    chosen = np.array([False, True, False])
    found = compare(index, pairs, described, encoder.encode([RESTATED]), chosen)
    columns = [FEATURES.index(name) for name in COSINES]
    assert not found.rows[[0, 1, 4, 5]].any()
    assert found.rows[2:4, columns].all()
    assert not np.delete(found.rows, columns, axis=1).any()
    assert not described.rows.any()


def test_a_piece_is_compared_the_same_whatever_is_chosen_beside_it(index, encoder):
    texts = [RESTATED, "A rook on the seventh rank is worth a pawn.", "It rained all day."]
    pairs, described = pairs_of(index, ["bees", "chess"], 3)
    together = compare(index, pairs, described, encoder.encode(texts), np.ones(3, bool))
    for number, text in enumerate(texts):
        chosen = np.arange(3) == number
        alone = compare(index, pairs, described, encoder.encode([text]), chosen)
        own = slice(2 * number, 2 * number + 2)
        assert np.array_equal(alone.rows[own], together.rows[own])
        assert np.array_equal(alone.sentence[own], together.sentence[own])


def test_with_nothing_chosen_nothing_is_done(index):
    pairs, described = pairs_of(index, ["bees"], 2)
    assert compare(index, pairs, described, np.zeros((0, 384), np.float32), np.zeros(2, bool)) is described
