"""What a long request costs the scorer: 100,000 tokens looked up. Prints; asserts nothing on time.

The words are the demo catalogue's own, shuffled, with whole stretches of its works among them; five characters
a token, as in English prose. Processor time of one thread: of all of it, and of the one step that comes after
the last of the text, which is the longest that others wait for at a time.
"""

from __future__ import annotations

import platform
import random
import time
from pathlib import Path

import pytest

from attribution import Attributor, SourceWork, build_index
from attribution.grounding import Grounder

pytestmark = pytest.mark.bench
TEXTS = Path(__file__).parents[2] / "proxy" / "demo" / "catalogue" / "texts"
TOKENS = 100_000
CHARACTERS_A_TOKEN = 5
PIECE_CHARACTERS = 16_000  # as the relay sends them
ROUNDS = 7


def request(texts: list[str]) -> str:
    chance = random.Random(7)
    vocabulary = sorted({word for text in texts for word in text.split()})
    pieces: list[str] = []
    while sum(map(len, pieces)) < TOKENS * CHARACTERS_A_TOKEN:
        pieces.append(" ".join(chance.choices(vocabulary, k=600)))
        pieces.append(chance.choice(texts)[:1_000])
    return "\n".join(pieces)[: TOKENS * CHARACTERS_A_TOKEN]


def test_a_request_of_100_000_tokens(tmp_path: Path):
    texts = [path.read_text(encoding="utf-8") for path in sorted(TEXTS.iterdir())]
    works = [SourceWork(f"w{n}", text, n, f"c{n}") for n, text in enumerate(texts)]
    build_index(works, tmp_path / "index", threads=1)
    index, text = Attributor.open(tmp_path / "index").index, request(texts)
    whole, last = [], []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        grounder = Grounder(index)
        for at in range(0, len(text), PIECE_CHARACTERS):
            grounder.push(text[at : at + PIECE_CHARACTERS])
        pushed_s = time.process_time()
        found = grounder.finish()
        ended_s = time.process_time()
        whole.append((ended_s - began_s) * 1000)
        last.append((ended_s - pushed_s) * 1000)
    assert found.grounded
    print(
        f"\n{TOKENS} tokens, {len(text)} characters, {len(found.grounded)} works found, {platform.machine()}: "
        f"median {sorted(whole)[ROUNDS // 2]:.1f} ms ({min(whole):.1f} to {max(whole):.1f}), "
        f"of which the last step {sorted(last)[ROUNDS // 2]:.1f} ms"
    )
