"""A creator's own app, linked while the server runs, on both stores: credited and metered as ever, and not paid."""

from __future__ import annotations

import pytest

from proxy.access.links_store import app_links, link_app
from proxy.billing.prices import PriceTable
from proxy.billing.run import close_period, concentration_of
from proxy.catalogue.ownership_store import Ownership
from proxy.clock import RandomIds, SystemClock
from proxy.metering.store import usage
from proxy.settings import Billing, Concentration, Store
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


async def test_an_app_that_is_linked_while_serving_earns_its_creator_nothing_from_then_on(settings, tmp_path):
    async with live(settings) as app:
        engine = app.running.engine
        (adas,) = app.register("a text of hers")
        (bos,) = app.register("a text of his", creator="bo")
        await app.running.registry.refresh()
        ada, bo = (app.catalogue.creator(ref).id for ref in ("ada", "bo"))
        headers = app.key(name="shop")
        app.answers(f"{adas} and {bos} too")
        assert (await app.chat(headers)).status_code == 200
        link_app(engine, "shop", ada, clock=SystemClock())
        await app.running.registry.refresh()
        reply = await app.chat(headers)
        assert {work["work"] for work in reply.json()["attribution"]["works"]} == {adas, bos}
        await app.running.sink.drain()
        first, second = usage(engine)
        ((linked_at, _),) = app_links(engine).history[first.app_id]
        assert first.registry_seq < linked_at <= second.registry_seq
        table = PriceTable.load(tmp_path / "prices")
        closing = close_period(engine, "p", settings.billing, table, dry_run=False, now_us=NOW_US)
        report = concentration_of(engine, "p", Concentration(least_earned="0"))
    of = {statement.creator: statement for statement in closing.statements}
    assert {line.verdict: line.answers for line in of[ada].lines} == {"paid": 1, "own_app": 1}
    assert [line.answers for line in of[bo].lines] == [2]
    totals = closing.totals
    assert 0 < of[ada].earned_grains < of[bo].earned_grains
    assert abs(of[ada].earned_grains + totals.common_grains["own_app"] - of[bo].earned_grains) <= 2
    assert totals.charged_grains == totals.creators_grains + sum(totals.common_grains.values())
    assert report.own_app_grains == totals.common_grains["own_app"]


async def test_a_work_that_was_claimed_while_serving_is_credited_and_paid_to_the_claimant(settings, tmp_path):
    async with live(settings) as app:
        engine = app.running.engine
        (work,) = app.register("a text of somebody")
        app.catalogue.add_creator("Bo", ref="bo")
        await app.running.registry.refresh()
        headers = app.key(name="shop")
        app.answers(f"{work} alone")
        table = PriceTable.load(tmp_path / "prices")

        async def answered(label: str) -> dict[str, int]:
            credit = (await app.chat(headers)).json()["attribution"]["works"][0]
            await app.running.sink.drain()
            closing = close_period(engine, label, settings.billing, table, dry_run=False, now_us=NOW_US)
            told[label] = credit["creators"]
            return {statement.name: statement.earned_grains for statement in closing.statements}

        told: dict[str, list[str]] = {}
        before = await answered("before")
        ownership = Ownership(engine, clock=SystemClock(), ids=RandomIds())
        claim = ownership.open_claim(work, "bo", "Printed in 1999.")
        ownership.decide_claim(claim.id, "upheld", "The printed copy shows it.")
        await app.running.registry.refresh()
        after = await answered("after")
    assert told == {"before": ["ada"], "after": ["Bo"]}
    assert before.keys() == {"ada"}
    assert after == {"ada": 0, "Bo": before["ada"]}, "what was closed before stays hers"
