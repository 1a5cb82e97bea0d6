from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.billing.prices import PriceTable
from proxy.billing.run import close_period
from proxy.settings import Billing
from tests.builders import chat_reply
from tests.live import Live, live, settings_in

pytestmark = pytest.mark.anyio
PRICES = """
version = "test"
currency = "USD"
effective_from = 2020-01-01
[[models]]
pattern = "small-*"
input_per_million = "1"
output_per_million = "2"
"""


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "test.toml").write_text(PRICES)
    return settings_in(tmp_path / "data", billing=Billing(prices_dir=str(tmp_path / "prices")))


async def two_creators(app: Live) -> tuple[str, str]:
    """Register a work of ada's and one of bo's, and answer once with each."""
    (adas,) = app.register("a text of hers")
    (bos,) = app.register("a text of his", creator="bo")
    await app.running.registry.refresh()
    headers = app.key(name="shop")
    for work in (adas, bos):
        app.answers(f"{work} beside it")
        assert (await app.chat(headers)).status_code == 200
    return adas, bos


async def close(app: Live, settings) -> None:
    await app.running.sink.drain()
    table = PriceTable.load(Path(settings.billing.prices_dir))
    close_period(
        app.running.engine, "2026-11", settings.billing, table, dry_run=False, now_us=1_800_000_000_000_000
    )


async def test_a_creator_reads_her_own_statement_and_nobody_elses(settings):
    async with live(settings) as app:
        await two_creators(app)
        await close(app, settings)
        ada, bo = app.key("creator", creator="ada"), app.key("creator", creator="bo")
        (hers,) = (await app.client.get("/api/statements", headers=ada)).json()["items"]
        (his,) = (await app.client.get("/api/statements", headers=bo)).json()["items"]
        assert hers["creator"] != his["creator"]
        mine = await app.client.get(f"/api/statements/{hers['id']}.json", headers=ada)
        assert mine.json()["earned_grains"] == hers["earned_grains"] > 0
        other = await app.client.get(f"/api/statements/{his['id']}.json", headers=ada)
        missing = await app.client.get("/api/statements/stm_nowhere.json", headers=ada)
        assert other.status_code == missing.status_code == 404
        assert other.json()["code"] == missing.json()["code"]


async def test_an_operator_reads_every_statement_in_every_form(settings):
    async with live(settings) as app:
        await two_creators(app)
        await close(app, settings)
        operator = app.key("operator")
        items = (await app.client.get("/api/statements?period=2026-11", headers=operator)).json()["items"]
        assert len(items) == 2
        first = (await app.client.get("/api/statements?limit=1", headers=operator)).json()
        cursor = {"limit": 1, "cursor": first["next_cursor"]}
        then = (await app.client.get("/api/statements", params=cursor, headers=operator)).json()
        assert (first["items"] + then["items"], then["next_cursor"]) == (items, None)
        ada = app.key("creator", creator="ada")
        of_others = {one["id"] for one in items} - {
            one["id"] for one in (await app.client.get("/api/statements", headers=ada)).json()["items"]
        }
        for wrong in ("stm_nowhere", *of_others):
            asked = await app.client.get("/api/statements", params={"cursor": wrong}, headers=ada)
            assert asked.status_code == 400
        for form, kind in (
            ("json", "application/json"), ("csv", "text/csv; charset=utf-8"), ("html", "text/html; charset=utf-8"),
            ("tsv", "text/tab-separated-values; charset=utf-8"), ("pdf", "application/pdf"),
            ("distributor.tsv", "text/tab-separated-values; charset=utf-8"),
        ):  # fmt: skip
            document = await app.client.get(f"/api/statements/{items[0]['id']}.{form}", headers=operator)
            assert document.headers["content-type"] == kind
            assert "default-src 'none'" in document.headers["content-security-policy"]
            assert document.headers["cache-control"] == "private, no-store"
            place = "inline" if form == "html" else "attachment"
            name = f"2026-11-{items[0]['id']}.{form}"
            assert document.headers["content-disposition"] == f'{place}; filename="{name}"'
        assert (
            await app.client.get(f"/api/statements/{items[0]['id']}.exe", headers=operator)
        ).status_code == 404


async def test_a_page_is_written_for_the_reader_who_asks(settings):
    async with live(settings) as app:
        await two_creators(app)
        await close(app, settings)
        ada = app.key("creator", creator="ada")
        (hers,) = (await app.client.get("/api/statements", headers=ada)).json()["items"]
        page = f"/api/statements/{hers['id']}.html"
        german = await app.client.get(page, headers=ada | {"accept-language": "de-DE,en;q=0.5"})
        assert "15. Januar 2027" in german.text
        assert german.headers["vary"] == "accept-language"
        swedish = await app.client.get(f"{page}?locale=sv-SE", headers=ada | {"accept-language": "de-DE"})
        assert "15 januari 2027" in swedish.text
        assert "15 January 2027" in (await app.client.get(page, headers=ada)).text
        nowhere = await app.client.get(f"{page}?locale=xx-XX", headers=ada)
        assert (nowhere.status_code, nowhere.json()["code"]) == (400, "locale")
        table = await app.client.get(
            f"/api/statements/{hers['id']}.csv", headers=ada | {"accept-language": "de"}
        )
        assert table.status_code == 200


async def test_an_app_sees_its_own_receipts_and_usage_only(settings):
    async with live(settings) as app:
        app.answers("nobody's words")
        shop, rival = app.key(name="shop"), app.key(name="rival")
        event_id = (await app.chat(shop)).headers["x-attribution-id"]
        assert (await app.client.get(f"/api/receipts/{event_id}", headers=shop)).status_code == 200
        assert (await app.client.get(f"/api/receipts/{event_id}", headers=rival)).status_code == 404
        assert [row["id"] for row in (await app.client.get("/api/usage", headers=shop)).json()["items"]] == [
            event_id
        ]
        assert (await app.client.get("/api/usage", headers=rival)).json()["items"] == []
        operator = app.key("operator")
        assert (await app.client.get(f"/api/receipts/{event_id}", headers=operator)).status_code == 200


async def test_a_creator_cannot_read_a_receipt_because_it_names_others(settings):
    async with live(settings) as app:
        adas, _ = await two_creators(app)
        await app.running.sink.drain()
        (event,) = [
            row
            for row in (await app.client.get("/api/usage", headers=app.key("operator"))).json()["items"]
            if row["works"][0]["work"] == adas
        ]
        ada = app.key("creator", creator="ada")
        assert (await app.client.get(f"/api/receipts/{event['id']}", headers=ada)).status_code == 404


async def test_usage_is_paged_without_gap_or_repeat(settings):
    async with live(settings) as app:
        app.answers("nobody's words")
        shop = app.key(name="shop")
        given = [(await app.chat(shop)).headers["x-attribution-id"] for _ in range(5)]
        await app.running.sink.drain()
        seen, cursor = [], ""
        while cursor is not None:
            page = (await app.client.get(f"/api/usage?limit=2&cursor={cursor}", headers=shop)).json()
            seen += [row["id"] for row in page["items"]]
            cursor = page["next_cursor"]
        assert seen == given


@pytest.mark.parametrize("query", ["cursor=rubbish", "since=yesterday", "limit=501"])
async def test_a_page_that_cannot_be_asked_for_is_a_bad_request(settings, query):
    async with live(settings) as app:
        answer = await app.client.get(f"/api/usage?{query}", headers=app.key("operator"))
        assert answer.status_code == 400


async def test_a_batchs_answers_have_receipts_by_file_and_name_and_are_metered_once(settings):
    async with live(settings) as app:
        (work,) = app.register("a text of hers")
        await app.running.registry.refresh()
        body = json.loads(chat_reply(f"{work} beside it"))
        lines = [{"custom_id": name, "response": {"status_code": 200, "body": body}} for name in ("a/1", "b")]
        app.backend.pieces = [json.dumps(one).encode() + b"\n" for one in lines]
        shop, rival = app.key(name="shop"), app.key(name="rival")
        for _ in range(2):
            fetched = await app.client.get("/v1/files/file-1/content", headers=shop)
            assert fetched.content == b"".join(app.backend.pieces)
            await app.running.sink.drain()
        (usage, _) = (await app.client.get("/api/usage", headers=shop)).json()["items"]
        where = {"file": "file-1", "custom_id": "a/1"}
        while (
            receipt := await app.client.get("/api/receipts", params=where, headers=shop)
        ).status_code == 202:
            assert receipt.headers["retry-after"] == "1"
            await app.running.sink.drain()
        assert receipt.status_code == 200
        assert receipt.json()["works"][0]["work"] == work
        assert (receipt.json()["endpoint"], usage["endpoint"]) == ("batch.chat.completions",) * 2
        for who, asked in (
            (rival, where),
            (shop, {**where, "custom_id": "c"}),
            (shop, {**where, "file": "file-2"}),
        ):
            assert (await app.client.get("/api/receipts", params=asked, headers=who)).status_code == 404


async def test_the_receipt_of_a_promised_answer_is_to_come_until_it_is_metered(settings):
    async with live(settings) as app:
        shop, rival = app.key(name="shop"), app.key(name="rival")
        queued = {"id": "resp_1", "object": "response", "status": "queued", "output": []}
        app.backend.pieces = [json.dumps(queued).encode()]
        asked = {"model": "small-1", "input": "a", "background": True}
        event_id = (await app.client.post("/v1/responses", json=asked, headers=shop)).headers[
            "x-attribution-id"
        ]
        await app.running.relay.makers.aclose()  # written now, and not within moments
        answer = await app.client.get(f"/api/receipts/{event_id}", headers=shop)
        assert (answer.status_code, answer.json()) == (202, {"id": event_id, "status": "pending"})
        assert answer.headers["retry-after"] == "5"
        assert (await app.client.get(f"/api/receipts/{event_id}", headers=rival)).status_code == 404
        assert (await app.client.get("/api/receipts/resp_1", headers=shop)).status_code == 404
