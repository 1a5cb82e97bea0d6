"""Train the scorer: made outputs in, three small ONNX models out.

    python -m attribution.training.train_scorer DATA_DIR --work /tmp/scorer --out attribution/models/scorer

Seeded from end to end. Steps leave their results under --work and are not made again: the training index (its
vectors come from --previous where texts are the same), the made outputs' features, the models.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, log_loss

from attribution.background import Background
from attribution.building import build
from attribution.encoder import Encoder
from attribution.engine import Attributor, Scored
from attribution.features import COSINES, FEATURES, Piece
from attribution.index import MANIFEST, Index
from attribution.normalise import words
from attribution.runs import Claim
from attribution.scoring import CONTEXT, MODELS, context_rows, left_open
from attribution.training.corpus import pinned, training_works, write_background
from attribution.training.edits import Made
from attribution.training.outputs import Maker, add_same_subject, split
from attribution.training.trees import export

PINS = {
    "works.jsonl.gz": "e16826b3f89cba666f48bdc3d7f2a0d0940b2f34dd2f5c3a7d2ec86cb3c0c3da",
    "provenance.jsonl.gz": "0942bfd8d075552eecc35e161bfeda66773a1d8b2f3c0413d911d2ab6d5a84f6",
}
# Held out twice, differently, so that less hangs on which books were away: name -> part of the outputs.
CATALOGUES = {"large": 0.65, "small": 0.35}  # the names are seeds: "large" makes more outputs
SEED = 20260101
# How much of the world owes nothing nobody knows: one forest is grown for each answer, and they are averaged.
DRAWS = ({}, {"outside_passage": 1.3, "outside_headline": 1.6, "beside": 1.6})
FOLDS = 4
MODEL = {
    "max_iter": 160,
    "learning_rate": 0.08,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 40,
    "l2_regularization": 5.0,
}
# More of these can only speak for a work, more of those only against it. The made outputs are not the
# world's: what is known beforehand need not be learned from them, and cannot be unlearned.
FOR = frozenset([
    "contained", "contained_window", "contained_sentence", "sentence_covered", "bm25", "bigrams",
    "bigrams_idf", "trigrams", "fourgrams", "longest_run", "longest_run_part", "shared_rare",
    "shared_very_rare", "rarest_shared", "numbers_shared", "names_shared", "content_shared", "cosine",
    "cosine_second", "cosine_mean", "cosine_lexical", "contained_margin", "cosine_margin", "bm25_margin",
    "p", "p_margin", "p_before", "p_after", "near",
])  # fmt: skip
AGAINST = frozenset(
    ["missing_rare", "missing_very_rare", "rarest_missing", "numbers_missing", "names_missing", "rank"]
)


def neighbours(texts: list[str], encoder: Encoder, *, top: int = 7_000) -> dict[str, list[str]]:
    """Return each frequent word's nearest words by the encoder, those of the same stem left out."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in text.split():
            if word.isalpha() and len(word) >= 4 and word.islower():
                counts[word] = counts.get(word, 0) + 1
    vocabulary = sorted(sorted(counts, key=lambda word: (-counts[word], word))[:top])
    rows = encoder.encode(vocabulary)
    result: dict[str, list[str]] = {}
    for at in range(0, len(vocabulary), 500):
        near = rows[at : at + 500] @ rows.T
        for offset, scores in enumerate(near):
            word = vocabulary[at + offset]
            best = [
                vocabulary[other] for other in np.argsort(-scores, kind="stable")[:12] if scores[other] > 0.55
            ]
            kept = [other for other in best if other[:4] != word[:4]][:4]
            if kept:
                result[word] = kept
    return result


def label(made: Made, scored: Scored, index: Index) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pair whether its work is owed the piece, and whether that is clear."""
    found = words(made.text)
    owner = np.full(len(found.starts), -1, np.int64)
    number = {work: at for at, work in enumerate(index.work_ids)}
    for start, end, work in made.spans:
        owner[(found.starts >= start) & (found.starts < end)] = number[work]
    truth, clear = np.zeros(len(scored.pairs.piece), bool), np.ones(len(scored.pairs.piece), bool)
    for at, (piece, work) in enumerate(
        zip(scored.pairs.piece.tolist(), scored.pairs.work.tolist(), strict=True)
    ):
        one = scored.pieces[piece]
        part = float((owner[one.start : one.end] == work).mean())
        truth[at], clear[at] = part >= 0.5, part <= 0.15 or part >= 0.5
    return truth, clear


_STATE: dict[str, Any] = {}


def _open(work_dir: Path, scorer_dir: Path) -> None:
    encoder, background = Encoder.open(), Background.open(scorer_dir)
    for name in CATALOGUES:
        index = Index(work_dir / f"index-{name}", background, model_sha256=encoder.model_sha256)
        _STATE[name] = Attributor(encoder, None, index, "training")


def _describe(job: tuple[int, str, Made]) -> dict[str, np.ndarray]:
    draw, name, made = job
    attributor: Attributor = _STATE[name]
    stream = attributor.stream()
    stream.push(made.text)
    stream._take(stream._segmenter.flush())  # noqa: SLF001  features without the models that are being made
    scored = stream.score(made.text, words(made.text))
    assert attributor.index is not None
    truth, clear = label(made, scored, attributor.index)
    claim = [(piece.start, piece.end, piece.segment, piece.claim is not None) for piece in scored.pieces]
    return {
        "rows": scored.described.rows, "piece": scored.pairs.piece, "work": scored.pairs.work,
        "sentence": scored.described.sentence, "truth": truth, "clear": clear,
        "pieces": np.array(claim, np.int64).reshape(-1, 4), "draw": np.array(draw),
    }  # fmt: skip


def contexts(parts: list[dict[str, np.ndarray]], probability: np.ndarray) -> np.ndarray:
    """Return every pair's context features, from probabilities no model gave to its own training pairs."""
    rows, at = [], 0
    for part in parts:
        end = at + len(part["truth"])
        rows.append(
            context_rows(
                _pieces(part),
                part["piece"],
                part["work"],
                part["sentence"],
                probability[at:end],
                part["rows"],
            )
        )
        at = end
    return np.concatenate(rows)


def opened(parts: list[dict[str, np.ndarray]], probability: np.ndarray) -> np.ndarray:
    """Return which pairs belong to a piece that words alone leave open."""
    result, at = [], 0
    for part in parts:
        end = at + len(part["truth"])
        result.append(left_open(_pieces(part), part["piece"], probability[at:end])[part["piece"]])
        at = end
    return np.concatenate(result)


def _pieces(part: dict[str, np.ndarray]) -> list[Piece]:
    mark = Claim(0, 0, 0, 0, 1, 1)
    return [Piece(int(a), int(b), int(s), mark if run else None) for a, b, s, run in part["pieces"]]


def without_vectors(rows: np.ndarray) -> np.ndarray:
    """Return feature rows (pairs, columns) with COSINES at 0, as they are before vectors are made."""
    rows = rows.copy()
    rows[:, [FEATURES.index(name) for name in COSINES]] = 0
    return rows


def fit(rows: np.ndarray, truth: np.ndarray, seed: int = SEED) -> HistGradientBoostingClassifier:
    """Fit one small forest."""
    columns = (*FEATURES, *CONTEXT)[: rows.shape[1]]
    signs = [1 if name in FOR else -1 if name in AGAINST else 0 for name in columns]
    forest = HistGradientBoostingClassifier(
        random_state=seed, early_stopping=False, monotonic_cst=signs, **MODEL
    )
    return forest.fit(rows, truth)


def out_of_fold(rows: np.ndarray, truth: np.ndarray, clear: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return each pair's probability by a model that did not see its output."""
    result = np.zeros(len(rows))
    for number in range(FOLDS):
        train = (fold != number) & clear
        found = fit(rows[train], truth[train]).predict_proba(rows[fold == number])
        result[fold == number] = found[:, 1]
    return np.round(result, 4)


def main() -> None:
    """Run the whole recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--previous", type=Path)
    parser.add_argument("--outputs", type=int, default=16000)
    parser.add_argument("--threshold", type=float, default=0.4, help="credit from this probability on")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, sha256 in PINS.items():
        pinned(arguments.data / name, sha256)
    works = training_works(arguments.data)
    if not (arguments.out / "background.npz").exists():
        write_background(works, arguments.out / "background.npz")
    table = arguments.work / "neighbours.json"
    if not table.exists():
        table.write_text(json.dumps(neighbours([work.text for work in works[:3000]], Encoder.open())))
    jobs: list[tuple[int, str, Made]] = []
    for name, part in CATALOGUES.items():
        # A source of chance for each step, so that a step found done leaves the next ones as they were.
        catalogue = split(works, random.Random(f"{SEED} {name}"))  # noqa: S311  repeatable on purpose
        index_dir = arguments.work / f"index-{name}"
        if not (index_dir / MANIFEST).exists():
            encoders = [Encoder.open(), Encoder.open()]
            build(
                catalogue.registered,
                index_dir,
                encoders,
                Background.open(arguments.out),
                previous=arguments.previous,
            )
        add_same_subject(catalogue, Encoder.open().encode)
        near = json.loads(table.read_text())
        for draw, weights in enumerate(DRAWS):
            rng = random.Random(f"{SEED} {name} made {draw}")  # noqa: S311
            maker = Maker(catalogue, near, rng, weights)
            for _ in range(int(arguments.outputs * part / len(DRAWS))):
                jobs.append((draw, name, maker.make()))  # noqa: PERF401  one at a time: a draw's order is its own
    kinds = [made.kind for _, _, made in jobs]
    print({kind: kinds.count(kind) for kind in sorted(set(kinds))})
    kept = arguments.work / f"features-{arguments.outputs}.pickle"
    if not kept.exists():
        with ProcessPoolExecutor(2, get_context("spawn"), _open, (arguments.work, arguments.out)) as pool:
            kept.write_bytes(pickle.dumps(list(pool.map(_describe, jobs, chunksize=25))))
    parts = pickle.loads(kept.read_bytes())  # noqa: S301  our own file, made by the line above
    train(parts, arguments.out, arguments.threshold)


def train(parts: list[dict[str, np.ndarray]], out: Path, threshold: float) -> None:
    """Fit the three models once a draw, print their out-of-fold figures, write their averages."""
    members = [member([part for part in parts if part["draw"] == draw]) for draw in range(len(DRAWS))]
    columns = (len(FEATURES), len(FEATURES), len(FEATURES) + len(CONTEXT))
    for name, models, width in zip(MODELS, zip(*members, strict=True), columns, strict=True):
        export(models, width, out / name)
    sha256 = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in MODELS}
    manifest = {"features": FEATURES, "context": CONTEXT, "threshold": threshold, "sha256": sha256}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def member(parts: list[dict[str, np.ndarray]]) -> tuple[HistGradientBoostingClassifier, ...]:
    """Fit the three models to one draw, each to what those before it say of outputs they did not see."""
    rows = np.concatenate([part["rows"] for part in parts])
    truth = np.concatenate([part["truth"] for part in parts])
    clear = np.concatenate([part["clear"] for part in parts])
    fold = np.concatenate([np.full(len(part["truth"]), at % FOLDS) for at, part in enumerate(parts)])
    plain = without_vectors(rows)
    by_words = out_of_fold(plain, truth, clear, fold)
    again = opened(parts, by_words)
    alone = by_words.copy()
    alone[again] = out_of_fold(rows[again], truth[again], clear[again], fold[again])
    both = np.concatenate([plain, contexts(parts, alone.astype(np.float32))], axis=1)
    whole = out_of_fold(both, truth, clear, fold)
    for name, found in (("by words", by_words), ("by vectors where open", alone), ("in context", whole)):
        loss, precision = log_loss(truth, found), average_precision_score(truth, found)
        print(name, "log loss", round(loss, 4), "AP", round(precision, 4))
    print(len(rows), "pairs", int(again.sum()), "left open", int(truth.sum()), "owed;", len(parts), "outputs")
    return (
        fit(plain[clear], truth[clear]),
        fit(rows[clear & again], truth[clear & again]),
        fit(both[clear], truth[clear]),
    )


if __name__ == "__main__":
    main()
