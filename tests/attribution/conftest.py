"""A catalogue of texts written for these tests, indexed once, and an encoder that costs nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attribution import Attributor, SourceWork, build_index

CORPUS = Path(__file__).parent / "corpus"


class WordEncoder:
    """A text's vector is the sum of its words' random directions: no model, and likeness still means something."""

    dim = 384
    model_sha256 = "words"

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += len(texts)
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split() or ["nothing"]:
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
                row += np.random.default_rng(seed).standard_normal(self.dim, np.float32)
            row /= np.linalg.norm(row)
        return rows


@pytest.fixture
def word_encoder() -> WordEncoder:
    return WordEncoder()


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CORPUS / name).read_text().splitlines()]


@pytest.fixture(scope="session")
def own_works() -> list[SourceWork]:
    return [
        SourceWork(row["work_id"], row["text"], row["registered_us"], row["creator_id"])
        for row in _lines("works.jsonl")
    ]


@pytest.fixture(scope="session")
def own_outputs() -> list[dict[str, Any]]:
    return _lines("outputs.jsonl")


@pytest.fixture(scope="session")
def own_index(own_works, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "index"
    build_index(own_works, folder, threads=1)
    return folder


@pytest.fixture(scope="session")
def attributor(own_index) -> Attributor:
    return Attributor.open(own_index)
