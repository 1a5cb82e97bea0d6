"""Licences over HTTP: what a creator publishes about works of their own, and what an operator agreed."""

from __future__ import annotations

import httpx
import pytest

from tests.portal import HOST, portal

pytestmark = pytest.mark.anyio
DENIES = b"User-agent: *\nContent-Signal: ai-input=no\n"


async def test_a_creator_publishes_a_signal_and_an_operator_a_contract_that_holds_before_it(tmp_path):
    async with portal(tmp_path) as there:
        (hers,), (his,) = there.register("a text of hers"), there.register("a text of his", creator="bo")
        keys = {who: there.key("creator", creator=who)[1] for who in ("ada", "bo")}
        keys |= {"ines": there.key("operator", name="Ines")[1], "shop": there.key("app", name="shop")[1]}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as client:

            async def ask(who, method, path="", **more):
                headers = {"authorization": f"Bearer {keys[who]}"}
                return await client.request(method, f"/api/licences{path}", headers=headers, **more)

            async def take(who, raw=DENIES, **about):
                sent = {"file": ("robots.txt", raw, "text/plain")}
                return await ask(who, "POST", data=about, files=sent)

            for who, about, status in (
                ("bo", {"work": hers}, 404),
                ("bo", {"creator": "ada"}, 404),
                ("bo", {}, 400),
                ("bo", {"work": his, "creator": "me"}, 400),
                ("ines", {"creator": "nobody"}, 404),
                ("shop", {"creator": "me"}, 403),
            ):
                assert (await take(who, **about)).status_code == status, (who, about)
            assert (await take("ada", b"Disallow: nothing", work=hers)).status_code == 400
            assert (await ask("ada", "POST", data={"work": hers})).status_code == 400
            first, again = [
                (await take("ada", creator="me", origin="https://example.org/robots.txt")).json()
                for _ in "ab"
            ]
            assert (first["consents_changed"], again["added"]) == (2, [])
            assert there.catalogue.find_work(hers).verdict == "prohibited"
            (signal,) = first["added"]
            assert (signal["creator"], "by" in signal) == (there.catalogue.creator("ada").id, False)
            listed = (await ask("ada", "GET", params={"creator": "me"})).json()["items"]
            assert [one["id"] for one in listed] == [signal["id"]]
            place = f"/{signal['id']}"
            assert (await ask("ada", "GET", f"{place}/file")).content == DENIES
            said = {"work": hers, "effect": "allow", "why": "Letter of 3 May."}
            assert (await ask("ada", "POST", "/contracts", json=said)).status_code == 403
            agreed, known = [(await ask("ines", "POST", "/contracts", json=said)).json() for _ in "ab"]
            assert (agreed["added"][0]["by"], known["added"]) == ("Ines", [])
            assert there.catalogue.find_work(hers).verdict == "paid"
            contract = f"/{agreed['added'][0]['id']}"
            why = {"reason": "It ran out."}
            for who, path in (("bo", place), ("ada", contract), ("ada", "/lic_none")):
                assert (await ask(who, "POST", f"{path}/revoke", json=why)).status_code == 404
                assert (await ask(who, "GET", f"{path}/file")).status_code == 404
            ended = [
                (await ask("ines", "POST", f"{contract}/revoke", json=why)).json()["ended"] for _ in "ab"
            ]
            assert ended == [[contract[1:]], []]
            assert there.catalogue.find_work(hers).verdict == "prohibited"
            assert (await ask("ada", "POST", f"{place}/revoke", json=why)).json()["ended"] == [place[1:]]
            assert there.catalogue.find_work(hers).verdict == "paid"
            (told,) = (await ask("ines", "GET", params={"work": hers})).json()["items"]
            assert (told["source"], told["ended"]) == ("contract", "It ran out.")
