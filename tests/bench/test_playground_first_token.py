"""How much later the first words come on the playground's page than at /v1 itself. Prints p50 of both.

The same backend, scorer and socket; the two ways are asked in turn, so that a busy machine is busy for both.
"""

from __future__ import annotations

import re
import statistics
import time

import pytest

from tests.builders import chat_request
from tests.live import live, settings_in

pytestmark = [pytest.mark.anyio, pytest.mark.bench]
RUNS, WARM = 50, 5
LATER_MS_MAX = 20


async def test_the_first_words_come_within_20_ms_of_the_bare_proxys(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        (work,) = app.register("a text of hers")
        await app.running.registry.refresh()
        app.answers(f"{work} says this. And that. " * 20, stream=True)
        key = app.key(name="shop")
        asked = await app.client.get("/portal/sign-in")
        form = re.findall(r'name="token" value="([0-9a-f]+)"', asked.text)[0]
        secret = key["authorization"].removeprefix("Bearer ")
        await app.client.post("/portal/sign-in", data={"token": form, "key": secret})
        page = await app.client.get("/portal/playground")
        token = re.findall(r'data-token="([0-9a-f]+)"', page.text)[0]
        ways = {
            "/v1/chat/completions": key,
            "/portal/playground/answers": {"x-csrf-token": token},
        }
        first_ms: dict[str, list[float]] = {path: [] for path in ways}
        for run in range(RUNS + WARM):
            for path, headers in ways.items():
                sent = {"content-type": "application/json", "x-attribution": "full", **headers}
                began = time.perf_counter()
                async with app.client.stream(
                    "POST", path, content=chat_request(stream=True), headers=sent
                ) as reply:
                    assert reply.status_code == 200
                    came_ms = [1_000 * (time.perf_counter() - began) async for _ in reply.aiter_raw()]
                if run >= WARM:
                    first_ms[path].append(came_ms[0])
    medians = {path: statistics.median(times) for path, times in first_ms.items()}
    for path, times in first_ms.items():
        print(f"{path}: p50 {medians[path]:.2f} ms, p90 {sorted(times)[int(0.9 * RUNS)]:.2f} ms of {RUNS}")
    bare, watched = medians.values()
    print(f"later by {watched - bare:.2f} ms")
    assert watched - bare < LATER_MS_MAX
