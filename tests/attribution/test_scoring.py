from __future__ import annotations

import shutil

import numpy as np
import pytest

from attribution.background import SCORER_DIR
from attribution.errors import ModelMismatch, ModelMissing
from attribution.features import COSINES, FEATURES, Piece
from attribution.runs import Claim
from attribution.scoring import CONTEXT, FEW_PIECES, MODELS, Scorer, context_rows, left_open


def test_probabilities_are_rounded_and_lie_between_nought_and_one():
    rows = np.random.default_rng(0).normal(size=(50, len(FEATURES))).astype(np.float32)
    scorer = Scorer.open()
    found = scorer.by_words(rows)
    assert ((found >= 0) & (found <= 1)).all()
    assert np.array_equal(found, np.round(found.astype(np.float64), 4).astype(np.float32))
    context = np.zeros((50, len(CONTEXT)), np.float32)
    assert scorer.in_context(rows, context).shape == (50,)
    assert scorer.by_vectors(rows[:0]).shape == (0,)


def test_a_pair_scores_the_same_alone_and_in_company():
    rows = np.random.default_rng(1).normal(size=(30, len(FEATURES))).astype(np.float32)
    scorer = Scorer.open()
    for judged in (scorer.by_words, scorer.by_vectors):
        assert np.array_equal(judged(rows), np.concatenate([judged(row[None]) for row in rows]))


@pytest.mark.parametrize("judged", ["by_words", "in_context"])
def test_models_asked_before_vectors_are_made_do_not_read_their_columns(judged):
    rng = np.random.default_rng(2)
    rows = np.abs(rng.normal(size=(40, len(FEATURES)))).astype(np.float32)
    blank = rows.copy()
    blank[:, [FEATURES.index(name) for name in COSINES]] = 0
    ask = getattr(Scorer.open(), judged)
    more = [] if judged == "by_words" else [np.abs(rng.normal(size=(40, len(CONTEXT)))).astype(np.float32)]
    assert np.array_equal(ask(rows, *more), ask(blank, *more))


def test_more_likeness_never_makes_a_work_less_likely():
    rng = np.random.default_rng(3)
    rows = np.abs(rng.normal(size=(200, len(FEATURES)))).astype(np.float32)
    scorer = Scorer.open()
    for name in ("contained", "longest_run", "cosine", "bigrams_idf"):
        liker = rows.copy()
        liker[:, FEATURES.index(name)] += 0.3
        assert (scorer.by_vectors(liker) >= scorer.by_vectors(rows)).all(), name


@pytest.mark.parametrize("name", [*MODELS, "manifest.json"])
def test_a_missing_model_file_says_what_to_do(name, tmp_path):
    folder = shutil.copytree(SCORER_DIR, tmp_path / "s")
    (folder / name).unlink()
    with pytest.raises(ModelMissing, match="install the package again"):
        Scorer.open(folder)


def test_a_model_that_is_not_its_manifests_is_refused(tmp_path):
    folder = shutil.copytree(SCORER_DIR, tmp_path / "s")
    shutil.copy(folder / "context.onnx", folder / "words.onnx")
    with pytest.raises(ModelMismatch):
        Scorer.open(folder)


def column(rows, name):
    return np.round(rows[:, CONTEXT.index(name)].astype(float), 3).tolist()


def test_context_says_what_the_neighbours_and_the_rest_point_to():
    pieces = [Piece(0, 10, 0, None), Piece(10, 20, 1, None), Piece(20, 40, 2, None)]
    piece, work = np.array([0, 0, 1, 2]), np.array([7, 8, 7, 8])
    sentence, p = np.array([100, 500, 101, 900]), np.array([0.9, 0.2, 0.8, 0.1], np.float32)
    rows = context_rows(pieces, piece, work, sentence, p, np.zeros((4, len(FEATURES)), np.float32))
    assert column(rows, "p_margin") == [0.7, -0.7, 0.8, 0.1]
    assert column(rows, "p_elsewhere") == [0.8, 0.1, 0.9, 0.2]
    assert column(rows, "p_before") == [0, 0, 0.9, 0]
    assert column(rows, "p_after") == [0.8, 0, 0, 0]
    assert column(rows, "rank") == [0, 1, 0, 0]
    assert rows[0, CONTEXT.index("near")] > rows[3, CONTEXT.index("near")]


def test_one_piece_alone_has_no_context():
    features = np.ones((1, len(FEATURES)), np.float32)
    half = np.array([0.5], np.float32)
    rows = context_rows([Piece(0, 5, 0, None)], np.array([0]), np.array([3]), np.array([1]), half, features)
    assert (
        column(rows, "p_elsewhere") == column(rows, "longest_run_elsewhere") == column(rows, "trace") == [0]
    )
    none = np.zeros(0, int)
    assert context_rows([], none, none, none, half[:0], features[:0]).shape == (0, len(CONTEXT))


def test_context_says_what_gives_the_work_away_elsewhere():
    pieces = [Piece(0, 10, 0, None), Piece(10, 20, 1, None)]
    features = np.zeros((3, len(FEATURES)), np.float32)
    features[:, FEATURES.index("longest_run")] = [9, 2, 4]
    piece, work, p = np.array([0, 1, 1]), np.array([7, 7, 8]), np.full(3, 0.5, np.float32)
    rows = context_rows(pieces, piece, work, np.zeros(3, int), p, features)
    assert column(rows, "longest_run_elsewhere") == [2, 9, 0]


def test_vectors_are_asked_of_pieces_that_words_leave_open():
    free = [Piece(at, at + 5, at, None) for at in range(FEW_PIECES + 2)]
    run = Piece(90, 99, 9, Claim(90, 99, 0, 0, 1, 1))
    piece = np.arange(len(free) + 1)
    best = np.array([0.5, 0.001, 0.99, 0.3, 0.0, 0.5], np.float32)
    assert left_open([*free, run], piece, best).tolist() == [True, False, False, True, False, False]


def test_with_few_pieces_all_are_compared_but_the_certain_and_those_without_a_candidate():
    free = [Piece(0, 5, 0, None), Piece(5, 9, 1, None), Piece(9, 14, 2, None)]
    assert left_open(free, np.array([0, 1]), np.array([0, 0.99], np.float32)).tolist() == [True, False, False]
