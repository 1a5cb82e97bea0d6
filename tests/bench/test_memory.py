"""Private memory of everything that serves, under a load that has gone everywhere once. Prints; asserts the bars.

    INDEX=index BENCH=labelled pytest -m bench tests/bench/test_memory.py -s

The index's pages are counted apart: they are mapped from its files, and whoever maps the same ones shares them.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys

import pytest

from tests.bench.scene import Backend, Client, chat, made_index, served

pytestmark = [pytest.mark.anyio, pytest.mark.bench, pytest.mark.timeout(600)]
CHAT = "/v1/chat/completions"
WITHOUT_MIB, WITH_MIB = 120, 320
BARE = """
import proxy.relay.scorer
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024)
"""


def bare_scorer_mib() -> float:
    """Return what a scoring process has before it has read a model."""
    ran = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=True)
    return round(float(ran.stdout), 1)


async def everything(base: str, key: str) -> None:
    async def one() -> None:
        client = Client(base, key)
        for number in range(20):
            await client.ask(
                CHAT, chat(stream=number % 2 == 0), headers="x-attribution-deadline-ms: 60000\r\n"
            )
        client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(one())


async def test_private_memory_without_the_model_and_with_it(tmp_path):
    index, texts = made_index(tmp_path)
    async with Backend(texts).serving() as upstream:
        with served(tmp_path / "data", index, upstream) as (base, key, tree):
            await everything(base, key)
            found = tree.private_mib()
    without = round(found["relay"] + await asyncio.to_thread(bare_scorer_mib), 1)
    whole = round(found["relay"] + found["scorer"], 1)
    print(
        json.dumps(
            {
                "command": "pytest -m bench tests/bench/test_memory.py -s",
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "index_mib": round(sum(path.stat().st_size for path in index.iterdir()) / 2**20),
                "private_mib": found,
                "without_the_model": without,
                "with_the_model": whole,
            }
        )
    )
    assert without <= WITHOUT_MIB
    assert whole <= WITH_MIB
