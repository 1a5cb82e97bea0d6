"""What anybody says: boilerplate, sayings and worn phrases, told from text that says something of its own.

A lone farmer needs to copy nobody: "I hope this helps" stands in a thousand answers, and would pay
whoever registered it. A list of such phrases would only stop who uses that list. So a small linear probe
looks at what a sentence vector and four counts of word rarity say about the manner of a sentence, and a
work is judged by the mean over its sentences: single honest sentences sound like anybody's (one in forty
does), whole honest works do not. A few sentences prove little, so each work begins with the weight of
PRIOR_SENTENCES honest ones. Phrases gathered in a pile have little to do with each other, and that counts
too. A creator's short works are judged together, and so are all works of who registers hardly anything
else: a farm is not hidden by cutting it up, and a long chapter that speaks for itself is not lost by its
neighbours.

The probe learned from sentences written for it (models/novelty/phrases.txt) and from honest books and
abstracts (training/train_novelty.py). It knows one encoder; an index built with another is not judged by
it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.background import Background
from attribution.errors import ModelMissing
from attribution.lexical import I64
from attribution.ownership import Sentences, Verdicts
from attribution.replication import COMMON, HONEST_COHERENCE, PRIOR_NEIGHBOURS
from attribution.terms import PPM

F32 = NDArray[np.float32]
NOVELTY_DIR = Path(__file__).parent / "models" / "novelty"

COUNTS = 4  # columns of `rarity`
COUNT_SCALE = 0.1  # brings them to the size of a vector's numbers, so that one penalty suits both
RARE_IDF, STOP_IDF = 5.5, 1.5
SCORE_MAX = 4.0  # one sentence counts for no more than this
HONEST_SCORE, PRIOR_SENTENCES = -3.6, 2.0
COHERENCE_LOW, COHERENCE_WEIGHT = 0.25, 8.0
COHERENT_MOST = 0.1  # above COHERENCE_LOW that counts: sorting a farm's phrases buys little
COMMON_MIN = -1.15
SHORT_SENTENCES = 8  # works below are judged with their creator's other short works
# A work by a farmer is none of the farm when its mean score is lower than this. Its sentences are counted
# with FARM_SENTENCES of the farmer's manner, because a few of them say little about a work and much about
# who gathers them. Chosen so that no kind of made-up farm is held less than it was without that.
PLAINLY_HONEST, FARM_SENTENCES = -1.5, 20.0
WORDS_A_SENTENCE_MAX = 40


@dataclass(frozen=True, slots=True)
class Probe:
    """Weights (dim + COUNTS,) and bias of a linear model; scores are log odds of "anybody's"."""

    weights: F32
    bias: float
    model_sha256: str
    sha256: str

    @staticmethod
    def open(directory: Path | None = None) -> Probe:
        """Read probe.npz. Raises ModelMissing."""
        path = (directory or NOVELTY_DIR) / "probe.npz"
        if not path.is_file():
            raise ModelMissing(
                f"{path} is missing", remedy="install the package again, or run training/train_novelty.py"
            )
        with np.load(path) as table:
            weights, bias, model = table["weights"], float(table["bias"]), str(table["model_sha256"])
        return Probe(weights, bias, model, hashlib.sha256(path.read_bytes()).hexdigest())

    def scores(self, vectors: F32, counts: F32) -> F32:
        """Return each sentence's score, clipped. vectors (n, dim), counts (n, COUNTS)."""
        raw = vectors @ self.weights[:-COUNTS] + counts @ (self.weights[-COUNTS:] * np.float32(COUNT_SCALE))
        return np.clip(raw + np.float32(self.bias), -SCORE_MAX, SCORE_MAX).astype(np.float32)


def rarity(idf: F32, starts: I64) -> F32:
    """Return (sentences, COUNTS): mean and largest idf, part of rare words and of stop words.

    starts: the first word of each sentence, none empty; idf by the background alone, so that nobody can
    make a word look rare or common by what they register.
    """
    if not len(starts):
        return np.zeros((0, COUNTS), np.float32)
    words = np.diff(np.append(starts, len(idf))).astype(np.float32)
    columns = (
        np.add.reduceat(idf, starts) / words,
        np.maximum.reduceat(idf, starts),
        np.add.reduceat((idf > RARE_IDF).astype(np.float32), starts) / words,
        np.add.reduceat((idf < STOP_IDF).astype(np.float32), starts) / words,
    )
    return np.stack(columns, axis=1).astype(np.float32)


def common(
    probe: Probe,
    sentences: Sentences,
    arrays: Mapping[str, NDArray[Any]],
    background: Background,
    creator: I64,
    likeness: F32,
) -> Verdicts:
    """Return which works say only what anybody says.

    creator: a number a work, equal for one person. likeness: each sentence's cosine with the next one.
    """
    bounds = sentences.work_sentence
    count = len(bounds) - 1
    verdicts = Verdicts.none(count)
    if not len(sentences.words):
        return verdicts
    idf = background.idf(arrays["vocab_hash"], 0)[arrays["token_word"]]
    counts = rarity(idf, arrays["sentence_token"][:-1])
    scores = np.zeros(len(sentences.words), np.float32)
    for at in range(0, len(scores), 8_192):
        end = min(at + 8_192, len(scores))
        scores[at:end] = probe.scores(sentences.vectors(at, end), counts[at:end])
    weight = np.minimum(sentences.words, WORDS_A_SENTENCE_MAX).astype(np.float64)
    owner = np.repeat(np.arange(count), np.diff(bounds))
    number = np.diff(bounds).astype(np.float64)
    total, words = (np.bincount(owner, column, minlength=count) for column in (scores * weight, weight))
    sounding = np.bincount(owner, weight * (scores > 0), minlength=count)
    joined = np.append(owner[1:] == owner[:-1], False)
    joins, alike = (np.bincount(owner, column, minlength=count) for column in (joined, joined * likeness))
    sums = np.stack([number, total, words, joins, alike]).astype(np.float64)
    found = says_nothing_new(sums, creator)
    own = np.maximum(np.bincount(owner, weight, minlength=count), 1)
    verdicts.reason[found] = COMMON
    verdicts.part_ppm[found] = np.round(sounding / own * PPM)[found]
    return verdicts


def says_nothing_new(
    sums: NDArray[np.float64],
    creator: I64,
    *,
    farm_sentences: float = FARM_SENTENCES,
    plainly_honest: float = PLAINLY_HONEST,
) -> NDArray[np.bool_]:
    """Return which works are held, by five rows of sums over the sentences of each.

    sums: sentences, score times words, words, pairs of neighbours, sum of their cosines. creator: works of
    one person have one number.
    """
    number, total, words = sums[:3]
    short = number < SHORT_SENTENCES
    found = _sounds_common(np.where(short, _pooled(sums * short, creator), sums))
    # Who registers hardly anything else is judged as a whole; what of it is plainly honest stays free.
    whole = _pooled(sums, creator)
    manner, farm = total / np.maximum(words, 1), whole[1] / np.maximum(whole[2], 1)
    manner = (manner * number + farm * farm_sentences) / (number + farm_sentences)
    found |= _sounds_common(whole) & (manner >= plainly_honest)
    return found & (number > 0)


def _pooled(sums: NDArray[np.float64], creator: I64) -> NDArray[np.float64]:
    """Return each row summed over all works of one creator, for each of them."""
    people = int(creator.max(initial=0)) + 1
    pooled = [np.bincount(creator, row, minlength=people)[creator] for row in sums]
    return np.stack(pooled).astype(np.float64)


def _sounds_common(sums: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Decide by rows of: sentences, score times words, words, pairs of neighbours, sum of their cosines."""
    number, total, words, joins, alike = sums
    mean = total / np.maximum(words, 1)
    judged = (mean * number + HONEST_SCORE * PRIOR_SENTENCES) / (number + PRIOR_SENTENCES)
    coherence = (alike + HONEST_COHERENCE * PRIOR_NEIGHBOURS) / (joins + PRIOR_NEIGHBOURS)
    loose = np.maximum(COHERENCE_LOW - coherence, -COHERENT_MOST) * COHERENCE_WEIGHT
    return judged + loose >= COMMON_MIN
