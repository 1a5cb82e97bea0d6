"""What anybody may see says what the books, the log and the card say, and a look-up says yes or no."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
from litestar.testing import create_test_client

from proxy.billing.transparency_store import Standing
from proxy.catalogue.works import NewWork
from proxy.portal.assets import Assets
from proxy.portal.pages import Pages
from proxy.portal.public import (
    LOOK_UPS_PER_MIN,
    MEASURED,
    LogState,
    PeriodSums,
    Transparency,
    public_pages,
)
from proxy.receipts.verify import VerifierKey, b64, open_checkpoint
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio
CARD = Path(__file__).parents[3] / "attribution" / "models" / "scorer" / "CARD.md"
HOME = "https://works.example/song"
LONG = " ".join(f"word{n}" for n in range(60))


async def at_its_address(app):
    list(app.catalogue.add_works([NewWork("song", "ada", "Song", "a text of hers", url=HOME)]))
    await app.running.registry.refresh()


def test_how_right_the_method_is_is_what_its_card_says():
    card = CARD.read_text(encoding="utf-8")
    overall = re.search(r"\*\*overall\*\*.*\*\*([\d.]+)\*\* \[([\d.]+), ([\d.]+)\]", card)
    assert [round(float(one) * 10) for one in overall.groups()] == [
        MEASURED.score_permille, MEASURED.from_permille, MEASURED.to_permille,
    ]  # fmt: skip
    rows = dict(re.findall(r"^\| (\w+) \(.*\| (\.\d+) \| \.\d+ \|$", card, re.MULTILINE))
    assert {name: round(float(skill) * 1000) for name, skill in rows.items()} == MEASURED.skill_permille
    assert f"Text that owes nothing: .{MEASURED.false_ppm // 1000:03d} of its words credited" in card
    assert f"{MEASURED.outputs} outputs over {MEASURED.works:,} works" in card


async def test_the_page_and_the_api_say_the_same_without_a_key(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        app.register("a text of hers", "another")
        told = (await app.client.get("/api/transparency")).json()
        assert (told["works"], told["creators"], told["periods"], told["standing"]) == (2, 1, [], [])
        assert told["method"] == app.running.attributing.method
        keys = [VerifierKey.parse(one["verifier"]) for one in app.running.issuer.about()["keys"]]
        checkpoint = open_checkpoint(told["log"]["checkpoint"], keys)
        assert (checkpoint.size, b64(checkpoint.root)) == (told["log"]["entries"], told["log"]["root"])
        page = await app.client.get("/portal/transparency")
        assert page.status_code == 200
        assert told["log"]["root"] in page.text.replace("&#43;", "+")
        assert "82.7 of 100" in page.text
        assert "Nothing yet" in page.text


def test_money_is_told_to_the_last_digit_and_by_why_it_waits():
    told = Transparency(
        as_of="2026-12-01T00:00:00Z", works=2, creators=1, method="m", measured=MEASURED,
        standing=[Standing(
            currency="USD", owed_grains=1_230_000_001, unclaimed_grains=70_000_000, claimed_grains=0,
            disputed_grains=0, common_grains={"unattributed": 450_000_000, "later": 1}, paid_out_grains=10_000_000,
        )],
        periods=[PeriodSums(
            period="2026-11", state="draft", currency="USD", closed="2026-12-01T00:00:00Z", answers=1_234,
            charged_grains=5, creators_grains=2, unclaimed_grains=1, claimed_grains=1, common_grains={}, platform_grains=1,
        )],
        log=LogState(origin="credits.example/log", entries=3, root="AA==", checkpoint="c"),
    )  # fmt: skip

    class Telling:
        async def transparency(self) -> Transparency:
            return told

    handlers = public_pages(Pages(Assets()), cast("Any", Telling()), lambda _request: "", cast("Any", None))
    with create_test_client(list(handlers)) as client:
        text = re.sub(r"<[^>]+>", "", client.get("/transparency").text)
    for words in (
        "$1.230000001",
        "$0.070000000",
        "$0.450000001",
        "Nobody’s words",
        "later",
        "November 2026",
        "1,234",
    ):
        assert words in text, words


async def test_a_look_up_says_yes_or_no_and_nothing_else(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        await at_its_address(app)
        for sought, is_registered in (
            ({"text": LONG}, False),
            ({"address": HOME}, True),
            ({"address": "HTTPS://Works.Example/song/"}, True),
            ({"address": "https://works.example/other"}, False),
        ):
            reply = await app.client.post("/api/look-up", json=sought)
            assert (reply.status_code, reply.json()) == (200, {"is_registered": is_registered})
        short = await app.client.post("/api/look-up", json={"text": "a text of hers"})
        assert (short.status_code, short.json()["code"]) == (400, "too_short")
        for nothing in ({}, {"text": LONG, "address": "https://a.example"}, {"title": "x"}):
            assert (await app.client.post("/api/look-up", json=nothing)).status_code == 400


async def test_the_form_is_answered_on_its_page_and_asked_only_so_often(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        await at_its_address(app)
        page = await app.client.get("/portal/look-up")
        (token,) = re.findall(r'name="token" value="([0-9a-f]+)"', page.text)
        unguarded = await app.client.post("/portal/look-up", data={"text": LONG})
        assert unguarded.status_code == 403
        reply = await app.client.post("/portal/look-up", data={"address": HOME, "token": token})
        assert reply.status_code == 200
        assert "Yes, it is registered here" in reply.text
        words = "<script>alert(1)</script> " * 60
        reply = await app.client.post("/portal/look-up", data={"text": words, "token": token})
        assert "No, it was not found here" in reply.text
        assert "<script>" not in reply.text
        statuses = [
            (await app.client.post("/portal/look-up", data={"text": LONG, "token": token})).status_code
            for _ in range(LOOK_UPS_PER_MIN - 1)
        ]
        assert statuses == [200] * (LOOK_UPS_PER_MIN - 2) + [429]
