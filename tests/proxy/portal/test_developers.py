"""Who builds an app sees its own use, charges, keys and receipts, and nobody else's."""

from __future__ import annotations

import html
import json
import re
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from proxy.access.limits import month_of
from proxy.access.limits_store import Budgets, limit_app, limit_key
from proxy.access.store import revoke
from proxy.billing.daily_store import DailyUses
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.billing.subjects_store import app_named
from proxy.clock import SystemClock
from proxy.metering.usage import Line
from proxy.portal.developers import totals
from proxy.settings import Server
from tests.portal import HOST, portal
from tests.proxy.billing.conftest import make_event, meter

pytestmark = pytest.mark.anyio
NASTY = "<script>alert(1)</script>\"'"
DAY_US = 86_400_000_000


@asynccontextmanager
async def shops(tmp_path, **sections):
    """(pages, {app's name: its id}) of two apps, one of which has asked this month and last year."""
    async with portal(tmp_path, **sections) as there:
        for name in ("shop", "rival"):
            there.keys[name] = there.key("app", name=name)[1]
        ids = {}
        for name, key in there.keys.items():
            told = await (await there.browser()).client.get("/api/apps/me", headers=bearer(key))
            ids[name] = told.json()["id"]
        (work,) = there.register("a text of hers", title=NASTY)
        now_us = SystemClock().now_us()
        meter(there.running.engine, [
            make_event(1, (Line(work, 400_000),), app_id=ids["shop"], price_grains=10**9, occurred_us=now_us - 3),
            make_event(2, app_id=ids["shop"], outcome="cut", model=NASTY, price_grains=None, occurred_us=now_us - 2),
            make_event(3, app_id=ids["shop"], outcome="failed", price_grains=0, occurred_us=now_us - 1),
            make_event(4, app_id=ids["rival"], price_grains=7 * 10**9, occurred_us=now_us),
        ])  # fmt: skip
        while DailyUses(there.running.engine).step():
            pass
        yield there, ids


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_an_app_that_has_asked_for_nothing_is_told_how_to(tmp_path):
    async with portal(tmp_path) as there:
        browser = await there.browser(there.key("app", name="shop")[1])
        page = await browser.get("/portal/")
        assert page.status_code == 200
        text = html.unescape(page.text)
        assert f"curl {HOST}/v1/chat/completions" in text
        assert f'client = OpenAI(base_url="{HOST}/v1")' in text
        assert f'new OpenAI({{ baseURL: "{HOST}/v1" }})' in text
        assert "Nothing was asked this month" in text
        assert "Last answers" not in text
        assert "Nothing was asked in this month" in (await browser.get("/portal/app/days")).text


async def test_the_example_for_curl_is_a_request_that_can_be_read(tmp_path):
    async with shops(tmp_path) as (there, _):
        browser = await there.browser(there.keys["shop"])
        text = html.unescape((await browser.get("/portal/")).text)
        body = json.loads(re.search(r"-d '(\{.*\})'", text)[1])
        assert body["messages"] == [{"role": "user", "content": "Tell me about tides."}]
        assert (
            body["model"] == "demo-writer"
        )  # which this app has asked; the other name could not stand in quotes


async def test_the_first_page_says_what_was_used_this_month_and_what_it_came_to(tmp_path):
    async with shops(tmp_path) as (there, ids):
        browser = await there.browser(there.keys["shop"])
        page = await browser.get("/portal/")
        assert page.text.count("/portal/app/answers/") == 3
        assert "1 failed, 1 cut short" in page.text
        assert "1 more had no price" in page.text
        assert NASTY not in page.text
        days = await browser.get("/portal/app/days")
        assert days.text.count("data-y=") == 1
        assert NASTY not in days.text
        rival = await there.browser(there.keys["rival"])
        assert "1 failed" not in (await rival.get("/portal/")).text
        assert ids["shop"] not in (await rival.get("/portal/")).text


async def test_examples_name_a_model_though_answers_named_none(tmp_path):
    async with shops(tmp_path) as (there, ids):
        unnamed = make_event(
            5, app_id=ids["rival"], model="", price_grains=10**12, occurred_us=SystemClock().now_us()
        )
        meter(there.running.engine, [unnamed])
        while DailyUses(there.running.engine).step():
            pass
        page = await (await there.browser(there.keys["rival"])).get("/portal/")
        assert "1,007" in page.text
        assert '"model": ""' not in html.unescape(page.text)


async def test_an_answer_shows_whose_works_are_in_it_and_gives_its_receipt_to_its_own_app_only(tmp_path):
    async with shops(tmp_path) as (there, _):
        browser, rival = await there.browser(there.keys["shop"]), await there.browser(there.keys["rival"])
        mine = make_event(1).id
        page = await browser.get(f"/portal/app/answers/{mine}")
        assert page.status_code == 200
        assert NASTY not in page.text
        assert "40 %" in page.text or "40%" in page.text
        proof = await browser.get(f"/portal/app/answers/{mine}/proof.json")
        assert proof.headers["content-disposition"] == f'attachment; filename="{mine}.json"'
        said = proof.json()
        assert said["receipt"].count(".") == 2
        assert len(said["lines"]) == 1
        for path in (f"/portal/app/answers/{mine}", f"/portal/app/answers/{mine}/proof.json"):
            assert (await rival.get(path)).status_code == 404
            assert (await rival.get(path.replace(mine, "rct_nothing"))).status_code == 404


async def test_keys_limits_and_what_is_left_of_the_budget_are_told_and_no_secret(tmp_path):
    async with shops(tmp_path) as (there, ids):
        engine, clock = there.running.engine, SystemClock()
        ended, _ = there.key("app", name="shop")
        gone, _ = there.key("app", name="shop")
        limit_key(engine, ended, clock=clock, models=["gpt-*"], expires_us=clock.now_us())
        revoke(engine, gone, clock=clock)
        limit_app(engine, "shop", _limited, clock=clock)
        month = month_of(clock.now_us())
        Budgets(engine).reserve(
            "h1", ids["shop"], month=month, grains=3, budget_grains=10**10, now_us=clock.now_us()
        )
        told = (
            await (await there.browser()).client.get("/api/apps/me", headers=bearer(there.keys["shop"]))
        ).json()
        assert [key["state"] for key in told["keys"]] == ["living", "ended", "revoked"]
        assert told["keys"][1]["models"] == ["gpt-*"]
        assert told["budget"] == {
            "month": month, "currency": "USD", "budget_grains": 10**10, "spent_grains": 0, "held_grains": 3,
            "left_grains": 10**10 - 3,
        }  # fmt: skip
        assert (told["requests_per_min"], told["tokens_per_min"]) == (60, None)
        page = (await (await there.browser(there.keys["shop"])).get("/portal/")).text
        for secret in there.keys.values():
            assert secret not in page
            assert secret not in json.dumps(told)
        for said in ("signed in with it", "Revoked", "Ended", "Left of its budget", "Requests a minute"):
            assert said in page


def _limited(old):
    return replace(old, budget_grains=10**10, currency="USD", requests_per_min=60)


async def test_closed_months_are_taken_away_as_the_files_that_scripts_get(tmp_path):
    async with portal(tmp_path) as there:
        engine, billing = there.running.engine, there.running.settings.billing
        there.keys["shop"] = there.key("app", name="shop")[1]
        meter(engine, [make_event(9, app_id=app_named(engine, "shop"), price_grains=10**9)])
        close_period(engine, "2026-11", billing, load(), dry_run=False, now_us=SystemClock().now_us())
        browser = await there.browser(there.keys["shop"])
        page = await browser.get("/portal/")
        assert "/portal/app/invoices/2026-11.csv" in page.text
        for what in ("invoices", "usage"):
            mine = await browser.get(f"/portal/app/{what}/2026-11.csv")
            told = await browser.client.get(
                f"/api/apps/me/{what}/2026-11.csv", headers=bearer(there.keys["shop"])
            )
            assert (mine.status_code, mine.text) == (200, told.text)
            assert mine.headers["content-disposition"].startswith("attachment")
            assert (await browser.get(f"/portal/app/{what}/1999-01.csv")).status_code == 404
            assert (await browser.get(f"/portal/app/{what}/nothing")).status_code == 404


async def test_a_months_sums_are_told_to_scripts_of_the_app_and_to_operators(tmp_path):
    async with shops(tmp_path) as (there, ids):
        client = (await there.browser()).client
        operator, rival = there.key("operator", name="Ines")[1], there.keys["rival"]
        mine = await client.get("/api/apps/me/days", headers=bearer(there.keys["shop"]))
        told = mine.json()
        assert [one["model"] for one in told["models"]] == ["demo-writer", NASTY]
        assert told["days"][0] | {"day": ""} == {
            "day": "", "currency": "USD", "answers": 3, "cut": 1, "failed": 1,
            "tokens": {"input": 300, "output": 3_675}, "price_grains": 10**9, "unpriced": 1,
        }  # fmt: skip
        for app in (ids["shop"], "shop"):
            seen = await client.get(f"/api/apps/{app}/days", headers=bearer(operator))
            assert seen.json() == told
        for path in (f"/api/apps/{ids['shop']}/days", f"/api/apps/{ids['shop']}", "/api/apps/nothing"):
            assert (await client.get(path, headers=bearer(rival))).status_code == 404
        assert (await client.get("/api/apps/nothing/days", headers=bearer(operator))).status_code == 404
        assert (await client.get("/api/apps/me/days?month=1999-01", headers=bearer(rival))).json()[
            "days"
        ] == []
        for month in ("2026-13", "november", "2026-11-01", "2026-1"):
            refused = await client.get("/api/apps/me/days", params={"month": month}, headers=bearer(rival))
            assert refused.status_code == 400
            browser = await there.browser(rival)
            assert (await browser.get("/portal/app/days", params={"month": month})).status_code == 400


def test_currencies_are_never_added_up():
    row = {"answers": 1, "cut": 0, "failed": 0, "unpriced": 0, "tokens": {"input": 1, "output": 2}}
    days = [
        row | {"currency": currency, "price_grains": grains}
        for currency, grains in (("EUR", 5), ("USD", 7), ("EUR", 1))
    ]
    assert [(one["currency"], one["answers"], one["tokens"], one["price_grains"]) for one in totals({"days": days})] == [
        ("USD", 1, 3, 7), ("EUR", 2, 6, 6),
    ]  # fmt: skip


async def test_behind_a_trusted_proxy_the_address_is_the_one_that_browsers_use(tmp_path):
    async with portal(tmp_path, server=Server(trusted_proxies=("127.0.0.0/8",))) as there:
        browser = await there.browser(there.key("app", name="shop")[1])
        page = await browser.get("/portal/", headers={"x-forwarded-proto": "https"})
        assert f"{HOST.replace('http:', 'https:')}/v1" in page.text


async def test_images_and_time_are_told_of_an_answer_that_has_any_to_people_and_to_scripts(tmp_path):
    async with shops(tmp_path) as (there, ids):
        made = make_event(6, app_id=ids["shop"], images=1_002, milliseconds=8_471)
        meter(there.running.engine, [made])
        browser = await there.browser(there.keys["shop"])
        page = await browser.get(f"/portal/app/answers/{made.id}")
        assert "<dt>Images</dt><dd>1,002</dd>" in page.text
        assert "<dt>Sound or video</dt><dd>8,471 ms</dd>" in page.text
        bare = await browser.get(f"/portal/app/answers/{make_event(1).id}")
        assert "<dt>Images</dt>" not in bare.text
        assert "<dt>Sound or video</dt>" not in bare.text
        for path in (f"/api/receipts/{made.id}", f"/api/receipts/{make_event(1).id}"):
            told = (await browser.client.get(path, headers=bearer(there.keys["shop"]))).json()
            media = (1_002, 8_471) if told["id"] == made.id else (0, 0)
            assert (told["images"], told["milliseconds"]) == media
