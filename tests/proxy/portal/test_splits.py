"""Splits proposed and countersigned, on pages and by scripts: shown to whom they concern, in words and in ppm."""

from __future__ import annotations

import httpx
import pytest

from proxy.catalogue.shelf_store import split_of
from tests.portal import HOST, portal

pytestmark = pytest.mark.anyio
NASTY = "<script>alert(1)</script>"


async def band(there):
    """Ada with a work, and Bo and Eve, each with a browser."""
    (work,) = there.register("a text of hers", title=NASTY)
    browsers = {"ada": await there.browser(there.key("creator", creator="ada")[1])}
    for who in ("bo", "eve"):
        there.catalogue.add_creator(who.title(), ref=who)
        browsers[who] = await there.browser(there.key("creator", creator=who)[1])
    return work, browsers


def shares(there, work):
    return [(name, ppm) for _, name, ppm in split_of(there.running.engine, work)]


async def test_a_split_is_proposed_by_a_form_and_holds_when_the_other_agrees(tmp_path):
    async with portal(tmp_path) as there:
        work, people = await band(there)
        form = (await people["ada"].get(f"/portal/works/{work}/splits")).text
        assert 'name="who" value="ada"' in form
        assert 'name="percent" value="100"' in form
        sent = {
            "who": ["ada", "bo", "nobody yet", ""],
            "percent": ["50", "33,3333", "16.6667", ""],
            "note": NASTY,
        }
        made = await people["ada"].post(f"/portal/works/{work}/splits", sent)
        place = made.headers["location"].partition("?")[0]
        assert "1 split waits for your word" in (await people["bo"].get("/portal/")).text
        assert "Waits for you" in (await people["bo"].get("/portal/splits")).text
        page = (await people["bo"].get(place)).text
        assert NASTY not in page
        assert "I agree" in page
        assert "33.3333%" in page
        assert "I agree" not in (await people["ada"].get(place)).text
        agreed = await people["bo"].post(f"{place}/answer", {"answer": "agree"})
        assert "Everybody has agreed" in (await people["bo"].get(agreed.headers["location"])).text
        assert shares(there, work) == [("ada", 500_000), ("Bo", 333_333), ("", 166_667)]
        assert "Version 1" in (await people["bo"].get(f"/portal/works/{work}/splits")).text


async def test_what_is_no_whole_split_comes_back_as_it_was_typed(tmp_path):
    async with portal(tmp_path) as there:
        work, people = await band(there)
        await people["ada"].get(f"/portal/works/{work}/splits")
        for who, percent, said in (
            (["ada", "bo"], ["60", "30"], "The parts make 90%, 10% missing."),
            (["ada", "dave"], ["60", "40"], "Nobody here goes by &#39;dave&#39;."),
            (["ada", NASTY], ["60", "x"], "is no part for"),
        ):
            page = await people["ada"].post(f"/portal/works/{work}/splits", {"who": who, "percent": percent})
            assert page.status_code == 400
            assert said in page.text
            assert f'value="{percent[0]}"' in page.text
            assert NASTY not in page.text
        assert shares(there, work) == []


async def test_who_refuses_says_why_and_who_proposed_takes_it_back(tmp_path):
    async with portal(tmp_path) as there:
        work, people = await band(there)
        await people["ada"].get(f"/portal/works/{work}/splits")
        sent = {"who": ["ada", "bo"], "percent": ["50", "50"]}
        made = await people["ada"].post(f"/portal/works/{work}/splits", sent)
        place = made.headers["location"].partition("?")[0]
        await people["bo"].get(place)
        assert (
            await people["bo"].post(f"{place}/answer", {"answer": "refuse", "reason": ""})
        ).status_code == 400
        await people["bo"].post(f"{place}/answer", {"answer": "refuse", "reason": f"I want more. {NASTY}"})
        page = (await people["ada"].get(place)).text
        assert "I want more." in page
        assert NASTY not in page
        again = await people["ada"].post(f"/portal/works/{work}/splits", sent)
        place = again.headers["location"].partition("?")[0]
        back = await people["ada"].post(f"{place}/withdraw")
        assert "You took your proposal back" in (await people["ada"].get(back.headers["location"])).text
        assert (await people["bo"].post(f"{place}/answer", {"answer": "agree"})).status_code == 409
        assert shares(there, work) == []


async def test_nobody_else_sees_a_proposal_or_how_a_work_is_shared(tmp_path):
    async with portal(tmp_path) as there:
        work, people = await band(there)
        await people["ada"].get(f"/portal/works/{work}/splits")
        made = await people["ada"].post(f"/portal/works/{work}/splits", {"who": ["bo"], "percent": ["100"]})
        place = made.headers["location"].partition("?")[0]
        await people["eve"].get("/portal/splits")
        for path in (place, f"/portal/works/{work}/splits"):
            assert (await people["eve"].get(path)).status_code == 404
        assert (await people["eve"].post(f"{place}/answer", {"answer": "agree"})).status_code == 404
        assert (await people["eve"].post(f"{place}/withdraw")).status_code == 404
        assert "Nobody has proposed a split yet" in (await people["eve"].get("/portal/splits")).text


async def test_a_script_does_what_the_pages_do(tmp_path):
    async with portal(tmp_path) as there:
        work, _ = await band(there)
        keys = {who: there.key("creator", creator=who)[1] for who in ("ada", "bo", "eve")}
        keys["ines"] = there.key("operator", name="Ines")[1]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as client:

            async def ask(who, method, path, **more):
                headers = {"authorization": f"Bearer {keys[who]}"}
                return await client.request(method, f"/api{path}", headers=headers, **more)

            parts = [{"party": "ada", "ppm": 600_000}, {"party": "bo", "ppm": 400_000, "role": "composer"}]
            made = (await ask("ada", "POST", f"/works/{work}/splits", json={"parts": parts})).json()
            assert (made["state"], len(made["waits_for"])) == ("open", 1)
            assert [one["ppm"] for one in made["replaces"]["parts"]] == [1_000_000]
            place = f"/splits/{made['id']}"
            assert (await ask("bo", "GET", place)).json() == made
            assert (await ask("eve", "GET", place)).status_code == 404
            assert (await ask("ines", "GET", place)).status_code == 400
            assert (await ask("eve", "POST", f"{place}/answer", json={"agree": True})).status_code == 404
            agreed = (await ask("bo", "POST", f"{place}/answer", json={"agree": True})).json()
            assert (agreed["state"], agreed["answers"][0]["said"]) == ("agreed", "agreed")
            now = (await ask("bo", "GET", f"/works/{work}/splits")).json()
            assert [(one["ppm"], one["role"]) for one in now["parts"]] == [
                (600_000, "author"),
                (400_000, "composer"),
            ]
            assert [one["version"] for one in now["versions"]] == [1]
            assert (await ask("ada", "GET", "/splits", params={"open_only": True})).json()["items"] == []
            over = await ask("ada", "POST", f"{place}/withdraw")
            assert (over.status_code, over.json()["code"]) == (409, "split_over")
            short = [{"party": "ada", "ppm": 600_000}]
            refused = await ask("ada", "POST", f"/works/{work}/splits", json={"parts": short})
            assert (refused.status_code, refused.json()["code"]) == (400, "split")
