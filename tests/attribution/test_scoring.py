from __future__ import annotations

import shutil

import numpy as np
import pytest

from attribution.background import SCORER_DIR
from attribution.errors import ModelMismatch, ModelMissing
from attribution.features import FEATURES, Piece
from attribution.scoring import CONTEXT, Scorer, context_rows


def test_probabilities_are_rounded_and_lie_between_nought_and_one():
    rows = np.random.default_rng(0).normal(size=(50, len(FEATURES))).astype(np.float32)
    scorer = Scorer.open()
    found = scorer.pair(rows)
    assert ((found >= 0) & (found <= 1)).all()
    assert np.array_equal(found, np.round(found.astype(np.float64), 4).astype(np.float32))
    context = np.zeros((50, len(CONTEXT)), np.float32)
    assert scorer.in_context(rows, context).shape == (50,)
    assert scorer.pair(rows[:0]).shape == (0,)


def test_a_pair_scores_the_same_alone_and_in_company():
    rows = np.random.default_rng(1).normal(size=(30, len(FEATURES))).astype(np.float32)
    scorer = Scorer.open()
    assert np.array_equal(scorer.pair(rows), np.concatenate([scorer.pair(row[None]) for row in rows]))


@pytest.mark.parametrize("name", ["scorer.onnx", "context.onnx", "manifest.json"])
def test_a_missing_model_file_says_what_to_do(name, tmp_path):
    folder = shutil.copytree(SCORER_DIR, tmp_path / "s")
    (folder / name).unlink()
    with pytest.raises(ModelMissing, match="install the package again"):
        Scorer.open(folder)


def test_a_model_that_is_not_its_manifests_is_refused(tmp_path):
    folder = shutil.copytree(SCORER_DIR, tmp_path / "s")
    shutil.copy(folder / "context.onnx", folder / "scorer.onnx")
    with pytest.raises(ModelMismatch):
        Scorer.open(folder)


def column(rows, name):
    return np.round(rows[:, CONTEXT.index(name)].astype(float), 3).tolist()


def test_context_says_what_the_neighbours_and_the_rest_point_to():
    pieces = [Piece(0, 10, 0, None), Piece(10, 20, 1, None), Piece(20, 40, 2, None)]
    piece, work = np.array([0, 0, 1, 2]), np.array([7, 8, 7, 8])
    sentence, p = np.array([100, 500, 101, 900]), np.array([0.9, 0.2, 0.8, 0.1], np.float32)
    rows = context_rows(pieces, piece, work, sentence, p)
    assert column(rows, "p_margin") == [0.7, -0.7, 0.8, 0.1]
    assert column(rows, "p_elsewhere") == [0.8, 0.1, 0.9, 0.2]
    assert column(rows, "p_before") == [0, 0, 0.9, 0]
    assert column(rows, "p_after") == [0.8, 0, 0, 0]
    assert column(rows, "rank") == [0, 1, 0, 0]
    assert rows[0, CONTEXT.index("near")] > rows[3, CONTEXT.index("near")]


def test_one_piece_alone_has_no_context():
    rows = context_rows(
        [Piece(0, 5, 0, None)], np.array([0]), np.array([3]), np.array([1]), np.array([0.5], np.float32)
    )
    assert column(rows, "p_elsewhere") == [0]
    assert context_rows(
        [], np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32)
    ).shape == (0, len(CONTEXT))
