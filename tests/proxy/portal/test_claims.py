"""Claims over HTTP: a creator's own, and an operator's word."""

from __future__ import annotations

import httpx
import pytest

from tests.portal import HOST, portal

pytestmark = pytest.mark.anyio


async def test_a_claim_is_opened_once_read_by_its_claimant_and_decided_by_an_operator(tmp_path):
    async with portal(tmp_path) as there:
        (hers,), (his,) = there.register("a text of hers"), there.register("a text of his", creator="bo")
        there.catalogue.add_creator("Eve", ref="eve")
        keys = {who: there.key("creator", creator=who)[1] for who in ("ada", "bo", "eve")}
        keys |= {"ines": there.key("operator", name="Ines")[1], "shop": there.key("app", name="shop")[1]}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as client:

            async def ask(who, method, path="", body=None):
                headers = {"authorization": f"Bearer {keys[who]}"}
                return await client.request(method, f"/api/claims{path}", headers=headers, json=body)

            said = {"work": hers, "basis": "I sang it in 1999.", "evidence": ["https://example.org/1999"]}
            first, again = [(await ask("bo", "POST", body=said)).json() for _ in range(2)]
            assert first == again
            assert (first["state"], first["evidence"], "opened_by" in first) == (
                "open",
                said["evidence"],
                False,
            )
            for who, body, status in (
                ("bo", said | {"basis": "Another reason."}, 409),
                ("ada", said, 409),
                ("bo", said | {"work": his}, 409),
                ("eve", said | {"claimant": "bo"}, 400),
                ("ines", said, 400),
                ("eve", said | {"basis": " "}, 400),
                ("eve", said | {"work": "w_none"}, 404),
                ("shop", said, 403),
            ):
                assert (await ask(who, "POST", body=body)).status_code == status, (who, body)
            for_eve = (await ask("ines", "POST", body=said | {"claimant": "eve"})).json()
            assert for_eve["opened_by"] == "Ines"
            place = f"/{first['id']}"
            assert (await ask("bo", "GET", place)).json() == first
            for who in ("ada", "eve"):
                assert (await ask(who, "GET", place)).status_code == 404
                assert (await ask(who, "POST", f"{place}/withdraw", {"reason": "No."})).status_code == 404
            assert [one["id"] for one in (await ask("bo", "GET")).json()["items"]] == [first["id"]]
            page = (await ask("ines", "GET", "?limit=1")).json()
            rest = (await ask("ines", "GET", f"?cursor={page['next_cursor']}&work={hers}")).json()
            assert [one["id"] for one in page["items"] + rest["items"]] == [first["id"], for_eve["id"]]
            decision = {"outcome": "upheld", "reason": "The record of 1999 shows it."}
            assert (await ask("bo", "POST", f"{place}/decide", decision)).status_code == 403
            taken = [
                await ask("eve", "POST", f"/{for_eve['id']}/withdraw", {"reason": "Not mine."}) for _ in "ab"
            ]
            assert [one.json()["state"] for one in taken] == ["withdrawn"] * 2
            decided = [(await ask("ines", "POST", f"{place}/decide", decision)).json() for _ in "ab"]
            assert [(one["state"], one["decided_by"]) for one in decided] == [("upheld", "Ines")] * 2
            other = decision | {"outcome": "rejected"}
            assert (await ask("ines", "POST", f"{place}/decide", other)).json()["code"] == "claim_decided"
            assert (await ask("ines", "GET", "?open_only=true")).json()["items"] == []
            assert there.catalogue.find_work(hers).creator_ref == "bo"
