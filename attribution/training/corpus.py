"""The texts the scorer may learn from, and the table of common words made from them.

Only three sources, each open: public-domain books whose authors (and, as far as known, translators) died
before
1955, abstracts of SciTLDR (Apache-2.0), and the Wizard of Wikipedia part of BEGIN (CC BY 4.0). The data
folder
is given as an argument, its files are pinned by sha256, and nothing of them is written into the package but
numbers.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attribution.lexical import I64
from attribution.normalise import words

# sha256 of the unpacked files.
SOURCES = ("books", "scitldr", "begin-wow")
# Authors or translators who died after 1954, or of whom that is not certain.
TITLES_LEFT_OUT = frozenset(
    """The Report on Unidentified Flying Objects|The Flying Saucers Are Real|Deadly City|A Damsel in
    Distress|My Man Jeeves
Right Ho, Jeeves|Poirot Investigates|The Murder on the Links|The Mysterious Affair at Styles|The Secret
Adversary|Antic Hay
Gladiator|The Time Traders|Mr. Spaceship|The Crystal Crypt|Adaptation|Stand for Mars|The Challenge from Beyond
The Boxcar Children|Parnassus on Wheels|The Worst Journey in the World|New Hampshire|1001 Afternoons in
Chicago
The Pivot of Civilization|Brood of the Witch-Queen|The Gods of Pegana|The Sword of Welleran and Other Stories
Time and the Gods|Siddhartha|The Gentleman from San Francisco|A Hunger Artist|Metamorphosis|The Trial|The Cask
The Tree of Life|Angel Island|Across Mongolian Plains|R.U.R.|The Great American Fraud|The Epic of
Gilgamesh|The Quran
Tao Te Ching|The Canterbury Tales|Authenticated History of the Bell Witch|The Sandman|The Man-Wolf and Other
Tales Hawaiian Folk Tales|Andy Gordon|The Guide for the Perplexed""".replace("\n", "|").split("|")
)


@dataclass(frozen=True, slots=True)
class TrainingWork:
    """A text to learn from; `book` groups parts of one source, which stay on one side of every split.

    title: what an abstract's authors called it; empty for the others, whose titles only count their parts.
    """

    work_id: str
    creator_id: str
    book: str
    source: str
    text: str
    title: str = ""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a gzipped JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def pinned(path: Path, sha256: str) -> Path:
    """Return the path of a file that is what it was. Raises ValueError otherwise."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: sha256 {found}, pinned {sha256}")
    return path


def training_works(folder: Path) -> list[TrainingWork]:
    """Read the works we may learn from, in a fixed order."""
    source = {row["work_id"]: row for row in read_lines(folder / "provenance.jsonl.gz") if "work_id" in row}
    found: list[TrainingWork] = []
    for row in read_lines(folder / "works.jsonl.gz"):
        origin = source[row["work_id"]]
        book = re.sub(r", part \d+$", "", row["title"]).strip()
        if origin["src"] in SOURCES and origin["tag"] == "orig" and book not in TITLES_LEFT_OUT:
            title = row["title"] if origin["src"] == "scitldr" else ""
            found.append(
                TrainingWork(row["work_id"], row["creator_id"], book, origin["src"], row["text"], title)
            )
    return found


def write_background(
    works: list[TrainingWork], path: Path, *, keep: int = 60_000, passage_words: int = 80
) -> None:
    """Count in how many passages of `passage_words` each word stands; keep the most frequent."""
    counts: dict[int, int] = {}
    passages = 0
    for work in works:
        hashes = words(work.text).hashes
        for at in range(0, len(hashes), passage_words):
            passages += 1
            for word in set(hashes[at : at + passage_words].tolist()):
                counts[word] = counts.get(word, 0) + 1
    chosen = sorted(counts, key=lambda word: (-counts[word], word))[:keep]
    chosen.sort()
    table: I64 = np.array([counts[word] for word in chosen], np.int64)
    np.savez_compressed(
        path,
        hashes=np.array(chosen, np.uint64),
        counts=table.astype(np.int32),
        passages=np.array(passages, np.int64),
    )


def sections(path: Path) -> dict[str, list[str]]:
    """Read a file of sentences: [section] lines, one sentence a line, # comments."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            current.append(line)
    return found
