"""What operators see and decide: health, what is held up, people, and who did what."""

from __future__ import annotations

import re

import pytest

from proxy.catalogue.ownership import Held
from proxy.catalogue.ownership_store import Ownership
from proxy.clock import RandomIds, SystemClock
from proxy.observability import Metrics
from proxy.portal.operators import figures
from tests.portal import portal

pytestmark = pytest.mark.anyio
NASTY = "<script>alert(1)</script>\"'"


def test_figures_are_sums_and_means_a_person_understands():
    metrics = Metrics()
    metrics.requests.labels(endpoint="chat", outcome="complete").inc(3)
    metrics.attributions.labels(status="settled").inc(2)
    for seconds in (0.1, 0.3):
        metrics.settle_seconds.observe(seconds)
    found = figures(metrics.exposed().decode())
    assert (found["requests"], found["attributions"], found["settle_ms"]) == (3, {"settled": 2}, 200)
    assert figures(Metrics().exposed().decode())["whole_ms"] is None


async def test_an_empty_desk_teaches(tmp_path):
    async with portal(tmp_path) as there:
        ines = await there.browser(there.key("operator", name="Ines")[1])
        for path, said in {
            "/portal/": "Where the time goes",
            "/portal/desk/works": "No works",
            "/portal/desk/review": "Nothing is held up",
            "/portal/desk/people": "No creators yet",
            "/portal/desk/log": "Key created",
            "/portal/desk/rules": "No policy is kept yet",
            "/portal/desk/periods": "No period is closed yet",
            "/portal/desk/payouts": "Nothing was paid out yet",
            "/portal/desk/matters": "No dispute",
        }.items():
            page = await ines.get(path)
            assert page.status_code == 200, path
            assert said in page.text, path


async def test_a_held_work_is_released_or_stays_held_with_a_reason_that_its_creator_reads(tmp_path):
    async with portal(tmp_path) as there:
        one, two = there.register("a text of hers", "another of hers", title=NASTY)
        ownership = Ownership(there.running.engine, clock=SystemClock(), ids=RandomIds())
        ownership.record_held([Held(one, "copy", NASTY, two, 900_000), Held(two, "list", "A list.")])
        ines = await there.browser(there.key("operator", name="Ines")[1])
        page = await ines.get("/portal/desk/review")
        assert "<script>alert" not in page.text
        assert "90%" in page.text
        for work, decision in ((one, "upheld"), (two, "released")):
            done = await ines.post(
                f"/portal/desk/review/{work}", {"decision": decision, "reason": "We looked."}
            )
            assert done.status_code == 303
        assert (await ines.post(f"/portal/desk/review/{one}", {"decision": "maybe"})).status_code == 400
        ada = await there.browser(there.key("creator", creator="ada")[1])
        assert "We looked." in (await ada.get(f"/portal/works/{one}")).text
        assert "held up" not in (await ada.get(f"/portal/works/{two}")).text
        log = await ines.get("/portal/desk/log")
        assert re.search(r"Hold upheld.*?Ines", log.text, re.DOTALL)


async def test_a_claim_is_decided_once(tmp_path):
    async with portal(tmp_path) as there:
        (hers,) = there.register("a text of hers")
        there.catalogue.add_creator("Bo", ref="bo")
        bo = await there.browser(there.key("creator", creator="bo")[1])
        await bo.get("/portal/matters")
        await bo.post("/portal/claims", {"work": hers, "basis": NASTY})
        ines = await there.browser(there.key("operator", name="Ines")[1])
        page = await ines.get("/portal/desk/review")
        assert "<script>alert" not in page.text
        place = re.search(r'action="(/portal/desk/claims/[^"]+)"', page.text).group(1)
        for decision, status in (
            ("upheld", 303),
            ("upheld", 303),
            ("rejected", 409),
        ):  # a button pressed twice
            done = await ines.post(place, {"decision": decision, "reason": "It is his."})
            assert done.status_code == status
        assert there.catalogue.find_work(hers).creator_ref == "bo"


async def test_people_are_invited_by_a_link_that_is_shown_once_and_sent_out_again(tmp_path):
    async with portal(tmp_path) as there:
        key_id, key = there.key("operator", name="Ines")
        ines = await there.browser(key)
        await ines.get("/portal/desk/people")
        assert (await ines.post("/portal/desk/people/creators", {"name": NASTY})).status_code == 303
        page = await ines.get("/portal/desk/people")
        assert "<script>alert" not in page.text
        creator = there.catalogue.creators()[0]
        page = await ines.post("/portal/desk/people/links", {"creator": creator.id})
        link = re.search(r"http://[^<]*?(/portal/enter/[\w-]+)", page.text).group(1)
        assert link not in (await ines.get("/portal/desk/people")).text
        guest = await there.browser()
        await guest.get(link)
        assert (await guest.post(link)).status_code == 303
        assert (await guest.get("/portal/works")).status_code == 200
        reply = await ines.post(f"/portal/desk/people/{creator.id}/sign-out")
        assert "linked accounts still sign them in" in (await ines.get(reply.headers["location"])).text
        assert (await guest.get("/portal/works")).status_code == 303
        page = await ines.post("/portal/desk/people/links", {"name": "Omar"})
        assert "A link for Omar" in page.text
        assert (await ines.post("/portal/desk/people/links", {"creator": "nobody"})).status_code == 404
        assert (await ines.post(f"/portal/desk/keys/{key_id}/revoke")).status_code == 303
        assert (await ines.get("/portal/desk/people")).status_code == 303
