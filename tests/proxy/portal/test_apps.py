from __future__ import annotations

import csv
import io

import pytest

from tests.live import live
from tests.proxy.portal.test_api import close, settings, two_creators

pytestmark = pytest.mark.anyio
__all__ = ["settings"]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def test_an_app_takes_its_own_invoice_and_usage_and_nobody_elses(settings):
    async with live(settings) as app:
        await two_creators(app)
        shop, rival = app.key(name="shop"), app.key(name="rival")
        await close(app, settings)
        for what in ("invoices", "usage"):
            mine = await app.client.get(f"/api/apps/me/{what}/2026-11.csv", headers=shop)
            assert mine.status_code == 200
            assert mine.headers["content-type"] == "text/csv; charset=utf-8"
            assert "attachment; filename=" in mine.headers["content-disposition"]
            rows = read(mine.text)
            shop_id = rows[0]["BillingAccountId"]
            assert sum(int(row["x_CostGrains"]) for row in rows) > 0
            assert {row["BillingAccountName"] for row in rows} == {"shop"}
            assert read((await app.client.get(f"/api/apps/me/{what}/2026-11.csv", headers=rival)).text) == []
            other = await app.client.get(f"/api/apps/{shop_id}/{what}/2026-11.csv", headers=rival)
            missing = await app.client.get(f"/api/apps/app_x/{what}/2026-11.csv", headers=rival)
            assert other.status_code == missing.status_code == 404
            operator = await app.client.get(
                f"/api/apps/{shop_id}/{what}/2026-11.csv", headers=app.key("operator")
            )
            assert operator.text == mine.text
            creator = await app.client.get(
                f"/api/apps/{shop_id}/{what}/2026-11.csv", headers=app.key("creator", creator="ada")
            )
            assert creator.status_code == 403


@pytest.mark.parametrize("name", ["1999-01.csv", "2026-11", "2026-11.exe", ".csv"])
async def test_a_document_that_is_not_there_is_not_found(settings, name):
    async with live(settings) as app:
        for what in ("invoices", "usage"):
            got = await app.client.get(f"/api/apps/me/{what}/{name}", headers=app.key(name="shop"))
            assert got.status_code == 404
