"""The main job on both stores: registered, used, metered, closed, and the statements add up to what was metered."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from proxy.billing import store as books
from proxy.billing.prices import PriceTable
from proxy.billing.run import close_period
from proxy.metering.store import usage
from proxy.settings import Billing, Store
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio
NOW_US = 1_800_000_000_000_000
PRICES = """
version = "test"
currency = "USD"
effective_from = 2020-01-01
[[models]]
pattern = "small-*"
input_per_million = "1"
output_per_million = "2"
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def settings(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "test.toml").write_text(PRICES)
    billing = Billing(prices_dir=str(tmp_path / "prices"))
    return settings_in(tmp_path / "data", store=Store(url=url), billing=billing)


async def test_what_creators_are_owed_adds_up_to_what_was_metered(settings, tmp_path):
    async with live(settings) as app:
        (adas,) = app.register("a text of hers")
        (bos,) = app.register("a text of his", creator="bo")
        await app.running.registry.refresh()
        key = app.key(name="shop")["authorization"].removeprefix("Bearer ")
        async with openai.AsyncOpenAI(base_url=f"{app.base}/v1", api_key=key, max_retries=0) as client:
            ask = {"model": "small-1", "messages": [{"role": "user", "content": "tell me"}]}
            app.answers(f"{adas} and {bos} too")
            whole = await client.chat.completions.create(**ask)
            shares = {credit["work"]: credit["share_ppm"] for credit in whole.attribution["works"]}
            assert shares == {adas: 250_000, bos: 250_000}
            app.answers(f"{adas} alone", stream=True)
            chunks = [chunk async for chunk in await client.chat.completions.create(**ask, stream=True)]
            assert chunks[-1].attribution["works"][0]["share_ppm"] == 500_000
        await app.running.sink.drain()
        metered = list(usage(app.running.engine))
        table = PriceTable.load(tmp_path / "prices")
        closing = close_period(
            app.running.engine, "2026-11", settings.billing, table, dry_run=False, now_us=NOW_US
        )
        totals = closing.totals
        assert totals.events == len(metered) == 2
        assert totals.price_grains == sum(event.price_grains or 0 for event in metered) > 0
        expected = sum((event.price_grains or 0) * 300_000 // 1_000_000 for event in metered)
        assert totals.charged_grains == expected
        owed = sum(statement.earned_grains for statement in closing.statements)
        assert owed == totals.creators_grains
        assert owed + sum(totals.common_grains.values()) == expected
        again = close_period(
            app.running.engine, "2026-11", settings.billing, table, dry_run=False, now_us=NOW_US + 1
        )
        assert again == closing
        assert sum(books.balances(app.running.engine, "liab:payee:").values()) == owed
        assert json.loads(json.dumps(closing.charged_by_app))


async def test_fifty_answers_at_once_leave_fifty_events_in_the_store(settings):
    async with live(settings) as app:
        app.answers("nobody owns these words", stream=True)
        headers = app.key()
        answers = await asyncio.gather(*(app.chat(headers, stream=True) for _ in range(50)))
        assert all(answer.content.rstrip().endswith(b"data: [DONE]") for answer in answers)
        await app.running.sink.drain()
        ids = [event.id for event in usage(app.running.engine)]
        assert sorted(ids) == sorted(answer.headers["x-attribution-id"] for answer in answers)
