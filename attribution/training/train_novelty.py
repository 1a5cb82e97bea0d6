"""Train the probe that knows common text: sentences written for it against sentences of honest works.

    python -m attribution.training.train_novelty DATA_DIR [--out attribution/models/novelty]

The honest sentences come from half of the creators of the open sources only (corpus.py), by a hash of
their id, so that the other half says what the probe does with honest works it has never seen.
"""

from __future__ import annotations

import argparse
import random
import zlib
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from attribution.background import Background
from attribution.encoder import Encoder
from attribution.normalise import words
from attribution.novelty import COUNT_SCALE, NOVELTY_DIR, rarity
from attribution.segments import segments
from attribution.training.corpus import sections, training_works

SEED = 20260101
HONEST_SENTENCES = 30_000
WRITTEN_WEIGHT = 10.0  # a sentence written for this stands for ten of a kind nobody has
PENALTY_C = 0.5
COMMON_SECTIONS, HONEST_SECTION = ("boilerplate", "proverbs", "stock"), "specific"


def learns_from(creator_id: str) -> bool:
    """Say whether the probe may see this creator's works; the others measure it."""
    return zlib.crc32(creator_id.encode()) % 2 == 0


def rows(texts: list[str], encoder: Encoder, background: Background) -> np.ndarray:
    """Return the probe's columns for these sentences."""
    hashes = [words(text).hashes for text in texts]
    starts = np.concatenate(([0], np.cumsum([len(one) for one in hashes])))[:-1].astype(np.int64)
    counts = rarity(background.idf(np.concatenate(hashes), 0), starts)
    return np.concatenate([encoder.encode(texts), counts * COUNT_SCALE], axis=1)


def main() -> None:
    """Train and write probe.npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=NOVELTY_DIR)
    arguments = parser.parse_args()
    encoder, background = Encoder.open(threads=1), Background.open()
    written = sections(NOVELTY_DIR / "phrases.txt")
    common = [text for name in COMMON_SECTIONS for text in written[name]]
    honest = [
        segment.text
        for work in training_works(arguments.data)
        if learns_from(work.creator_id)
        for segment in segments(work.text)
        if len(segment.text.split()) >= 4 and words(segment.text).texts
    ]
    honest = random.Random(SEED).sample(honest, min(HONEST_SENTENCES, len(honest)))  # noqa: S311  repeatable on purpose
    own = written[HONEST_SECTION]
    table = rows([*common, *own, *honest], encoder, background)
    label = np.repeat([1, 0], [len(common), len(own) + len(honest)])
    weight = np.repeat([WRITTEN_WEIGHT, 1.0], [len(common) + len(own), len(honest)])
    model = LogisticRegression(C=PENALTY_C, max_iter=3_000).fit(table, label, sample_weight=weight)
    np.savez(
        arguments.out / "probe.npz",
        weights=model.coef_[0].astype(np.float32),
        bias=np.float32(model.intercept_[0]),
        model_sha256=np.str_(encoder.model_sha256),
    )
    print(f"{len(common)} common, {len(own)} written and {len(honest)} found honest sentences")


if __name__ == "__main__":
    main()
