"""Comments, corrections and disputes over HTTP: a creator reaches what is hers, and nothing else."""

from __future__ import annotations

import pytest

from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.clock import SystemClock
from proxy.metering.usage import Line
from proxy.settings import Billing, Store
from tests.live import live, settings_in
from tests.proxy.billing.conftest import make_event, meter

pytestmark = pytest.mark.anyio
PRICE = 200 * 10**9


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return settings_in(tmp_path / "data", store=Store(url=url), billing=Billing())


class People:
    """The keys of two operators, two creators and an app, and a way to ask with each."""

    def __init__(self, app, settings):
        self.app = app
        works = [*app.register("a text of hers"), *app.register("a text of his", creator="bo")]
        self.keys = {
            "ines": app.key("operator", name="Ines"), "omar": app.key("operator", name="Omar"),
            "ada": app.key("creator", creator="ada"), "bo": app.key("creator", creator="bo"), "shop": app.key(),
        }  # fmt: skip
        engine = app.running.engine
        meter(engine, [make_event(1, tuple(Line(work, 400_000) for work in works), price_grains=PRICE)])
        now_us = SystemClock().now_us()
        close_period(engine, "2026-11", settings.billing, load(), dry_run=False, now_us=now_us)

    async def __call__(self, who, method, path, body=None):
        return await self.app.client.request(method, f"/api/{path}", json=body, headers=self.keys[who])

    async def statement(self, who):
        (found,) = (await self(who, "GET", "statements")).json()["items"]
        return found


async def test_a_creator_comments_on_her_statement_and_an_operator_answers(settings):
    async with live(settings) as app:
        people = People(app, settings)
        hers = (await people.statement("ada"))["id"]
        path = f"statements/{hers}/comments"
        said = [await people("ada", "POST", path, {"text": "A day is missing."}) for _ in range(2)]
        assert [one.status_code for one in said] == [201, 200]
        assert [one["text"] for one in (await people("ines", "GET", "comments")).json()["items"]] == [
            "A day is missing."
        ]
        assert (await people("ines", "POST", path, {"text": "It was a Sunday."})).status_code == 201
        read = (await people("ada", "GET", path)).json()["items"]
        assert [(one["side"], one["by"]) for one in read] == [("creator",) * 2, ("operator",) * 2]
        for who, code in (("bo", 404), ("shop", 403)):
            assert (await people(who, "GET", path)).status_code == code
            assert (await people(who, "POST", path, {"text": "?"})).status_code == code
        assert (await people("ada", "GET", "comments")).status_code == 403


@pytest.mark.parametrize("kind", ["disputes", "adjustments", "comments"])
async def test_lists_are_paged(settings, kind):
    async with live(settings) as app:
        people = People(app, settings)
        for who in ("ada", "bo"):
            hers = await people.statement(who)
            if kind == "disputes":
                await people(who, "POST", kind, {"statement": hers["id"], "reason": "Another edition."})
            elif kind == "comments":
                await people(who, "POST", f"statements/{hers['id']}/comments", {"text": "Why?"})
            else:
                asked = {"corrects": hers["id"], "creator": hers["creator"], "currency": "USD"}
                asked |= {"amount_grains": 5, "other": "platform", "reason": "A late answer."}
                await people("ines", "POST", kind, asked)
        listed = (await people("ines", "GET", kind)).json()
        page = (await people("ines", "GET", f"{kind}?limit=1")).json()
        rest = (await people("ines", "GET", f"{kind}?limit=1&cursor={page['next_cursor']}")).json()
        assert page["items"] + rest["items"] == listed["items"]
        assert (len(listed["items"]), listed["next_cursor"], rest["next_cursor"]) == (2, None, None)
        for wrong in ("cursor=rubbish", "limit=0", "limit=101"):
            assert (await people("ines", "GET", f"{kind}?{wrong}")).status_code == 400


async def test_a_dispute_goes_from_a_creator_to_two_operators(settings):
    async with live(settings) as app:
        people = People(app, settings)
        hers = await people.statement("ada")
        asked = {"statement": hers["id"], "reason": "It was another edition."}
        opened = [await people("ada", "POST", "disputes", asked) for _ in range(2)]
        assert [one.status_code for one in opened] == [201, 200]
        case = opened[0].json()
        assert case["held_grains"] == hers["earned_grains"]
        path = f"disputes/{case['id']}"
        for step, body in (("", None), ("/answer", {"text": "No."}), ("/withdraw", {"reason": "No."})):
            there = await people("bo", "POST" if body else "GET", path + step, body)
            assert there.status_code == 404
        assert (await people("bo", "GET", "disputes")).json()["items"] == []
        assert (await people("bo", "POST", "disputes", asked)).status_code == 404
        assert (await people("shop", "GET", "disputes")).status_code == 403
        away = {"parts": [{"to": "common", "ppm": 1_000_000}], "reason": "Nobody's."}
        assert (await people("ada", "POST", f"{path}/settle", away)).status_code == 403
        assert (await people("ines", "POST", f"{path}/settle", away)).json()["code"] == "dispute_unanswered"
        assert (await people("ines", "POST", f"{path}/answer", {"text": "We looked."})).json()["new"]
        assert (await people("ines", "POST", f"{path}/settle", away)).json()[
            "code"
        ] == "dispute_second_person"
        settled = [(await people("omar", "POST", f"{path}/settle", away)).json() for _ in range(2)]
        assert [one["changed"] for one in settled] == [True, False]
        seen = (await people("ada", "GET", path)).json()
        assert seen["state"] == "settled"
        assert {event["by"] for event in seen["events"] if event["side"] == "operator"} == {"operator"}
        assert (await people("ines", "GET", "disputes?open_only=true")).json()["items"] == []
        assert [one["id"] for one in (await people("ada", "GET", "disputes")).json()["items"]] == [case["id"]]


async def test_a_creator_takes_back_what_she_disputed_and_holds_nobody_elses_money(settings):
    async with live(settings) as app:
        people = People(app, settings)
        asked = {"statement": (await people.statement("ada"))["id"], "reason": "Hm."}
        assert (await people("ada", "POST", "disputes", asked | {"hold": "all"})).status_code == 403
        assert (await people("ada", "POST", "disputes", asked | {"lines": [99]})).json()[
            "code"
        ] == "dispute_lines"
        case = (await people("ada", "POST", "disputes", asked)).json()["id"]
        back = await people("ada", "POST", f"disputes/{case}/withdraw", {"reason": "It is right."})
        assert (back.json()["state"], back.json()["changed"]) == ("withdrawn", True)


async def test_corrections_are_the_operators_and_a_creator_reads_her_own(settings):
    async with live(settings) as app:
        people = People(app, settings)
        hers = await people.statement("ada")
        asked = {
            "corrects": hers["id"], "creator": hers["creator"], "currency": "USD", "amount_grains": -5,
            "other": "platform", "reason": "Counted twice.",
        }  # fmt: skip
        assert (await people("ada", "POST", "adjustments", asked)).status_code == 403
        proposed = (await people("ines", "POST", "adjustments", asked)).json()
        path = f"adjustments/{proposed['id']}"
        assert proposed["state"] == "proposed"
        assert (await people("ines", "POST", f"{path}/approve")).json()["code"] == "adjustment_second_person"
        assert (await people("omar", "POST", f"{path}/approve")).json()["state"] == "booked"
        refused = await people("omar", "POST", f"{path}/reject", {"reason": "Late."})
        assert refused.json()["code"] == "adjustment_booked"
        seen = (await people("ada", "GET", path)).json()
        assert (seen["reason"], seen["proposed_by"]) == ("Counted twice.", "operator")
        assert (await people("bo", "GET", path)).status_code == 404
        assert (await people("bo", "GET", "adjustments")).json()["items"] == []
        assert len((await people("ada", "GET", "adjustments")).json()["items"]) == 1
        assert len((await people("omar", "GET", "adjustments")).json()["items"]) == 1
