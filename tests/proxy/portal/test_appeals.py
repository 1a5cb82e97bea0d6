"""Appeals on the work's page and over HTTP, and where they stand at the desk."""

from __future__ import annotations

import httpx
import pytest

from proxy.catalogue.ownership import Held
from proxy.catalogue.ownership_store import Ownership
from proxy.clock import RandomIds, SystemClock
from tests.portal import HOST, portal

pytestmark = pytest.mark.anyio
NASTY = "<script>alert(1)</script>"


async def test_a_creator_appeals_and_reads_what_was_decided_and_why(tmp_path):
    async with portal(tmp_path) as there:
        (hers,), (his,) = there.register("a text of hers"), there.register("a text of his", creator="bo")
        desk = Ownership(there.running.engine, clock=SystemClock(), ids=RandomIds())
        desk.record_held([Held(hers, "copy", "Most of it is older.", his, 820_000)])
        ada = await there.browser(there.key("creator", creator="ada")[1])
        bo = await there.browser(there.key("creator", creator="bo")[1])
        omar = await there.browser(there.key("operator", name="Omar")[1])
        assert "appeal against it" in (await ada.get(f"/portal/works/{hers}")).text
        await bo.get("/portal/works")
        assert (await bo.post(f"/portal/works/{hers}/appeal", {"text": "Mine."})).status_code == 404
        sent = await ada.post(f"/portal/works/{hers}/appeal", {"text": f"I sang it in 1999. {NASTY}"})
        page = (await ada.get(sent.headers["location"])).text
        assert NASTY not in page
        assert "You are answered by" in page
        assert "appeal against it" not in page
        review = (await omar.get("/portal/desk/review")).text
        assert NASTY not in review
        assert "I sang it in 1999." in review
        await omar.post(f"/portal/desk/review/{hers}", {"decision": "upheld", "reason": "It is from 1980."})
        page = (await ada.get(f"/portal/works/{hers}")).text
        assert "The work stays held up." in page
        assert "It is from 1980." in page


async def test_a_script_appeals_as_the_page_does(tmp_path):
    async with portal(tmp_path) as there:
        (hers,) = there.register("a text of hers")
        there.register("a text of his", creator="bo")
        keys = {who: there.key("creator", creator=who)[1] for who in ("ada", "bo")}
        keys["ines"] = there.key("operator", name="Ines")[1]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as client:

            async def ask(who, method, text=""):
                headers = {"authorization": f"Bearer {keys[who]}"}
                body = {"json": {"text": text}} if method == "POST" else {}
                return await client.request(method, f"/api/works/{hers}/appeal", headers=headers, **body)

            early = await ask("ada", "POST", "Why?")
            assert (early.status_code, early.json()["code"]) == (409, "not_held")
            desk = Ownership(there.running.engine, clock=SystemClock(), ids=RandomIds())
            desk.record_held([Held(hers, "copy", "Most of it is older.", "", 0)])
            assert (await ask("bo", "POST", "Mine.")).status_code == 404
            assert (await ask("ines", "POST", "Mine.")).status_code == 403
            assert (await ask("ada", "GET")).status_code == 404
            made = (await ask("ada", "POST", "I sang it in 1999.")).json()
            assert (made["outcome"], made["overdue"]) == ("", False)
            assert (await ask("ines", "GET")).json() == made
            assert (await ask("bo", "GET")).status_code == 404
