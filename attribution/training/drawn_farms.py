"""Farms drawn again and again from the written sentences: how the rule for long chapters was chosen.

    python -m attribution.training.drawn_farms [--draws 150]

One farm a kind says whether a kind is caught; it does not say how narrowly. So each kind is drawn many times,
12 works of the usual sizes, and judged by its sums alone, without an index. Printed for every pair of
numbers: the part of each kind's works that is held as common or as a list. The pair that ships is the one
that lets go of most while no kind is held less than by `before`.
"""

from __future__ import annotations

import argparse
import random

import numpy as np
from numpy.typing import NDArray

from attribution.background import Background
from attribution.encoder import Encoder
from attribution.normalise import words
from attribution.novelty import COUNT_SCALE, COUNTS, WORDS_A_SENTENCE_MAX, Probe, says_nothing_new
from attribution.replication import (
    COHERENCE_MIN,
    HONEST_COHERENCE,
    LIST_SENTENCES_MIN,
    PRIOR_NEIGHBOURS,
)
from attribution.training.corpus import sections
from attribution.training.farms import PHRASES, SEED, SENTENCES_A_WORK, WORKS_A_KIND, filled
from attribution.training.train_novelty import rows

F64 = NDArray[np.float64]
FARM_SENTENCES = (0.0, 5.0, 10.0, 20.0)
PLAINLY_HONEST = (-2.5, -2.0, -1.8, -1.6, -1.5, -1.4)
BEFORE = (0.0, -2.5)


def sums_of(score: F64, vectors: F64, length: F64, sizes: tuple[int, ...], rng: random.Random) -> F64:
    """Return the five rows of sums (novelty.says_nothing_new) of works drawn from these sentences."""
    made: list[list[float]] = []
    for size in sizes:
        chosen = rng.sample(range(len(score)), min(size, len(score)))
        weight, rows_ = np.minimum(length[chosen], WORDS_A_SENTENCE_MAX), vectors[chosen]
        alike = float((rows_[:-1] * rows_[1:]).sum())
        made.append([len(chosen), float(score[chosen] @ weight), float(weight.sum()), len(chosen) - 1, alike])
    return np.array(made, np.float64).T


def held(sums: F64, farm_sentences: float, plainly_honest: float) -> NDArray[np.bool_]:
    """Return which works of one farmer are held, as common or as a list."""
    number, _, _, pairs, alike = sums
    coherence = (alike + HONEST_COHERENCE * PRIOR_NEIGHBOURS) / (pairs + PRIOR_NEIGHBOURS)
    lists = (coherence < COHERENCE_MIN) & (number >= LIST_SENTENCES_MIN)
    one_person = np.zeros(len(number), np.int64)
    common = says_nothing_new(sums, one_person, farm_sentences=farm_sentences, plainly_honest=plainly_honest)
    return common | lists


def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=150)
    arguments = parser.parse_args()
    rng = random.Random(SEED)  # noqa: S311  repeatable on purpose
    encoder, background, probe = Encoder.open(threads=1), Background.open(), Probe.open()
    sizes = tuple(SENTENCES_A_WORK[number % len(SENTENCES_A_WORK)] for number in range(WORKS_A_KIND))
    drawn: dict[str, list[F64]] = {}
    for kind, lines in sections(PHRASES).items():
        texts = [filled(line, rng) for line in lines]
        table = rows(texts, encoder, background)
        vectors = table[:, :-COUNTS].astype(np.float32)
        score = probe.scores(vectors, (table[:, -COUNTS:] / COUNT_SCALE).astype(np.float32)).astype(
            np.float64
        )
        length = np.array([len(words(text).texts) for text in texts], np.float64)
        drawn[kind] = [
            sums_of(score, vectors.astype(np.float64), length, sizes, rng) for _ in range(arguments.draws)
        ]
    print("farm sentences, plainly honest: " + ", ".join(drawn))
    for pair in [(few, low) for few in FARM_SENTENCES for low in PLAINLY_HONEST]:
        parts = [np.mean([held(sums, *pair).mean() for sums in farm]) for farm in drawn.values()]
        said = "  ".join(f"{part:.3f}" for part in parts)
        print(f"{pair[0]:4.0f} {pair[1]:5.1f}  {said}{'  before' if pair == BEFORE else ''}")


if __name__ == "__main__":
    main()
