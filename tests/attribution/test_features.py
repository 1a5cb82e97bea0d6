from __future__ import annotations

import numpy as np
import pytest

from attribution.background import Background
from attribution.features import COSINES, FEATURES, OutputWords, Pairs, Piece, describe
from attribution.index import Index, Manifest
from attribution.normalise import words


@pytest.fixture
def index(own_index) -> Index:
    return Index(own_index, Background.open(), model_sha256=Manifest.read(own_index).model_sha256)


def described(index, texts, works):
    """Each text beside each work's first passage and a sentence more."""
    found = words(" ".join(texts))
    ids, idf = index.word_ids(found.hashes)
    numbers = np.array([any(char.isdigit() for char in word) for word in found.texts])
    output = OutputWords(ids, idf, numbers, np.zeros(len(ids), bool))
    pieces, at = [], 0
    for text in texts:
        count = len(words(text).texts)
        pieces.append(Piece(at, at + count, len(pieces), None))
        at += count
    chosen = [index.work_ids.index(work) for work in works]
    piece = np.repeat(np.arange(len(texts)), len(works))
    work = np.tile(np.array(chosen, np.int64), len(texts))
    passage = index.work_passage[work]
    high = np.minimum(index.passage_sentence[passage + 1] + 1, index.work_sentence[work + 1])
    pairs = Pairs(piece, work, passage, index.passage_sentence[passage], high)
    return describe(index, output, pieces, pairs)


def value(found, row, name):
    return float(found.rows[row, FEATURES.index(name)])


COPY = "Unlike honeybees she lives alone, makes no honey and almost never stings."


def test_a_copy_holds_everything_and_another_work_hardly_anything(index):
    found = described(index, [COPY], ["bees", "chess"])
    for name in ("contained", "contained_sentence", "bigrams", "trigrams", "fourgrams", "sentence_covered"):
        assert value(found, 0, name) == 1, name
        assert value(found, 1, name) < 0.5, name
    assert value(found, 0, "longest_run") == 12
    assert value(found, 0, "contained_margin") == -value(found, 1, "contained_margin") > 0.5


def test_numbers_that_are_not_in_the_work_are_missing(index):
    found = described(index, ["It flies at temperatures of 12 and 99 degrees."], ["bees"])
    assert value(found, 0, "numbers_missing") == 2


def test_the_sentence_shown_is_the_one_restated(index):
    found = described(index, ["She makes no honey, lives by herself and hardly ever stings."], ["bees"])
    first = int(index.work_sentence[index.work_ids.index("bees")])
    assert int(found.sentence[0]) == first + 2


def test_a_pair_is_described_the_same_whatever_stands_beside_it(index):
    texts = [COPY, "Patience is the whole technique.", "A medal for the bell of the harbour."]
    together = described(index, texts, ["bees", "chess"])
    for number, text in enumerate(texts):
        alone = described(index, [text], ["bees", "chess"])
        assert np.allclose(alone.rows, together.rows[2 * number : 2 * number + 2], atol=2e-4)
        assert np.array_equal(alone.sentence, together.sentence[2 * number : 2 * number + 2])


def test_words_the_catalogue_never_saw_are_no_trouble(index):
    found = described(index, ["qqzzx zzqqy"], ["bees"])
    assert np.isfinite(found.rows).all()
    assert value(found, 0, "contained") == 0


def test_no_pairs_are_no_rows(index):
    none = np.zeros(0, np.int64)
    empty = OutputWords(none, np.zeros(0, np.float32), none.astype(bool), none.astype(bool))
    found = describe(index, empty, [], Pairs(none, none, none, none, none))
    assert found.rows.shape == (0, len(FEATURES))


def test_what_vectors_would_say_is_left_at_nought(index):
    found = described(index, [COPY], ["bees", "chess"])
    assert not found.rows[:, [FEATURES.index(name) for name in COSINES]].any()
