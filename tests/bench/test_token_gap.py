"""The gap between two tokens at a client, attribution on over off: nobody waits for the scorer but the last token.

Two servers take turns on core 1, each relay and scorer together: one with works to compare with, one with an empty
catalogue, which asks its scorer for nothing. Paced streams, a word every 20 ms; client and backend on core 0. Prints;
what holds on any machine is asserted.

    INDEX=index BENCH=labelled pytest -m bench tests/bench/test_token_gap.py -s
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics

import pytest

from attribution import build_index
from tests.bench.scene import Backend, made_index, served
from tests.bench.test_overload import at, gaps

pytestmark = [pytest.mark.anyio, pytest.mark.bench, pytest.mark.timeout(600)]
SECONDS = float(os.environ.get("SECONDS", "8"))
ROUNDS = 3


async def test_the_gap_between_tokens_is_the_same_with_attribution_and_without(tmp_path):
    index, texts = made_index(tmp_path)
    empty = tmp_path / "empty"
    build_index([], empty)
    backend = Backend(texts)
    found: dict[str, list[list[float]]] = {"off": [], "on": []}
    for name in found:
        (tmp_path / name).mkdir()
    async with backend.serving() as upstream:
        with (
            served(tmp_path / "off" / "data", empty, upstream) as off,
            served(tmp_path / "on" / "data", index, upstream) as on,
        ):
            sides = {"off": off, "on": on}
            spent = {name: tree.cpu_s() for name, (_, _, tree) in sides.items()}
            for number in range(ROUNDS + 1):
                for name in sorted(sides, reverse=bool(number % 2)):
                    base, key, _ = sides[name]
                    gaps_ms = await gaps(base, key, SECONDS)
                    if number:  # the first is warming up
                        found[name].append(gaps_ms)
                await asyncio.sleep(0)
            spent = {
                name: {part: round(now - spent[name][part], 2) for part, now in tree.cpu_s().items()}
                for name, (_, _, tree) in sides.items()
            }
    p99 = {name: [at(values, 0.99) for values in rounds] for name, rounds in found.items()}
    ratios = [on_ms / off_ms for off_ms, on_ms in zip(p99["off"], p99["on"], strict=True)]
    print(
        json.dumps(
            {
                "command": "INDEX=index BENCH=labelled pytest -m bench tests/bench/test_token_gap.py -s",
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
                f"load {os.getloadavg()[0]:.1f}",
                "gap_p50_ms": {
                    name: [at(values, 0.5) for values in rounds] for name, rounds in found.items()
                },
                "gap_p99_ms": p99,
                "p99_on_over_off": [round(one, 2) for one in sorted(ratios)],
                "p99_on_over_off_median": round(statistics.median(ratios), 2),
                "cpu_s": spent,
            }
        )
    )
    assert spent["on"]["scorer"] > 2 * spent["off"]["scorer"], "one side is attributed, the other is not"
    assert statistics.median(ratios) < 3  # on a machine that others use
