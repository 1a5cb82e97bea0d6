"""How many sentences a second one thread encodes, alone and eight to a run."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from pathlib import Path

import pytest

from attribution.encoder import Encoder

TEXTS = Path(__file__).parents[2] / "proxy" / "demo" / "catalogue" / "texts"
SENTENCES = 400
ROUNDS = 5
A_CPU_SECOND_AT_LEAST = 40  # a tenth of what the slowest machine so far encodes


def sentences() -> list[str]:
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted(TEXTS.glob("*.txt"))).split()
    # 8 to 32 words each, as prose has them; where they are cut does not matter to speed.
    found, at = [], 0
    for number in range(SENTENCES):
        count = 8 + number * 7 % 25
        found.append(" ".join(words[(at + place) % len(words)] for place in range(count)))
        at += count
    return found


@pytest.mark.bench
def test_how_many_sentences_a_second_are_encoded_on_one_thread():
    encoder = Encoder.open(threads=1)
    texts = sentences()
    pieces = sum(encoder.count_tokens(text) for text in texts) / len(texts)
    encoder.encode(texts[:32])
    alone, together = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        for text in texts:
            encoder.encode([text])
        alone.append(len(texts) / (time.process_time() - began))
        began = time.process_time()
        encoder.encode(texts)
        together.append(len(texts) / (time.process_time() - began))
    print(
        json.dumps(
            {
                "command": "pytest -m bench tests/bench/test_encoder_speed.py -s",
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "sentences": len(texts),
                "pieces_a_sentence": round(pieces, 1),
                "one_a_run_per_cpu_s": [
                    round(min(alone)),
                    round(statistics.median(alone)),
                    round(max(alone)),
                ],
                "batched_per_cpu_s": [
                    round(min(together)),
                    round(statistics.median(together)),
                    round(max(together)),
                ],
            }
        )
    )
    assert statistics.median(alone) > A_CPU_SECOND_AT_LEAST
    assert statistics.median(together) > A_CPU_SECOND_AT_LEAST
