"""Limits set from outside act in a serving application, and a budget ends up at what its answers were metered at."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time

import pytest

from proxy.access.limits import month_of
from proxy.access.limits_store import limit_app, limit_key, spent
from proxy.access.store import create_key, rotate
from proxy.clock import RandomIds, SystemClock
from proxy.metering.store import usage
from proxy.settings import Billing
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio
CLOCK, IDS = SystemClock(), RandomIds()
PRICES = """
version = "t1"
currency = "USD"
effective_from = 2020-01-01
[[models]]
pattern = "*"
input_per_million = "1"
output_per_million = "2"
"""


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "t1.toml").write_text(PRICES)
    return settings_in(tmp_path / "data", billing=Billing(prices_dir=str(tmp_path / "prices")))


def header(made):
    return {"authorization": f"Bearer {made.secret}"}


def limit(served, **changes):
    engine = served.running.engine
    return limit_app(engine, "shop", lambda old: dataclasses.replace(old, **changes), clock=CLOCK)


async def refusal(served, made, **asked):
    """Return the first answer that is none, asked for until the change acts; a change acts within a second."""
    ends_s = time.monotonic() + 10
    while time.monotonic() < ends_s:
        answer = await served.chat(header(made), **asked)
        if answer.status_code != 200:
            return answer
    raise AssertionError("the change never acted")


async def test_a_budget_ends_at_what_its_answers_were_metered_at_and_is_never_overdrawn(settings):
    async with live(settings) as served:
        engine = served.running.engine
        made = create_key(engine, "app", clock=CLOCK, ids=IDS, name="shop")
        served.answers("The lamp burned all night.")
        await served.chat(header(made))
        budget = (
            3_000_000  # grains: an answer costs 25,000; one that may have 1,000 tokens reserves 2 million
        )
        limit(served, budget_grains=budget, currency="USD")
        await served.running.keyring.refresh()
        answers = await asyncio.gather(*(served.chat(header(made), max_tokens=1_000) for _ in range(12)))
        assert {answer.status_code for answer in answers} <= {200, 429}
        assert answers[0].status_code == 200 or any(answer.status_code == 200 for answer in answers)
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["code"] == "insufficient_quota"
    async with live(settings) as served:  # what was in flight is settled, what was metered is carried
        engine, month = served.running.engine, month_of(CLOCK.now_us())
        events = [event for event in usage(engine, 0) if event.app_id == made.principal.app_id]
        passed = sum(answer.status_code == 200 for answer in answers)
        assert len(events) == passed + 1
        spent_grains, held_grains = spent(engine, made.principal.app_id, month)
        assert held_grains == 0
        assert spent_grains == sum(event.price_grains or 0 for event in events[1:])
        assert 0 < spent_grains <= budget


async def test_rates_models_and_rotation_act_while_serving(settings):
    async with live(settings) as served:
        engine = served.running.engine
        made = create_key(engine, "app", clock=CLOCK, ids=IDS, name="shop")
        served.answers("The lamp burned all night.")
        assert (await served.chat(header(made))).status_code == 200
        limit_key(engine, made.id, clock=CLOCK, models=["large-*"])
        answer = await refusal(served, made)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
        assert (await served.chat(header(made), model="large-1")).status_code == 200
        new = rotate(engine, made.id, clock=CLOCK, ids=IDS, overlap_s=0)
        assert (await refusal(served, made, model="large-1")).status_code == 401
        assert (await served.chat(header(new), model="large-1")).status_code == 200
        limit(served, requests_per_min=1)
        answer = await refusal(served, new, model="large-1")
        assert (answer.status_code, json.loads(answer.content)["error"]["type"]) == (429, "rate_limit_error")
        assert int(answer.headers["retry-after"]) <= 60
