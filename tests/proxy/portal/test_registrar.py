"""What operators say of creators and works over HTTP."""

from __future__ import annotations

import httpx
import pytest

from proxy.catalogue.ownership import Held
from proxy.catalogue.ownership_store import Ownership
from proxy.clock import RandomIds, SystemClock
from tests.portal import HOST, portal

pytestmark = pytest.mark.anyio


async def test_an_operator_keeps_the_registry_and_what_is_said_again_is_done(tmp_path):
    async with portal(tmp_path) as there:
        (hers,), (his,) = there.register("a text of hers"), there.register("a text of his", creator="bo")
        desk = Ownership(there.running.engine, clock=SystemClock(), ids=RandomIds())
        desk.record_held([Held(hers, "copy", "Most of it is older.", his, 820_000)])
        keys = {"ines": there.key("operator", name="Ines")[1], "ada": there.key("creator", creator="ada")[1]}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as client:

            async def ask(who, method, path, body=None):
                headers = {"authorization": f"Bearer {keys[who]}"}
                return await client.request(method, f"/api/{path}", headers=headers, json=body)

            async def twice(method, path, body):
                return [(await ask("ines", method, path, body)).json() for _ in range(2)]

            cy = {"name": "Cy Berg", "country": "se"}
            first, again = await twice("POST", "creators", cy)
            assert (first["ref"], first["country"], first["added"], again["added"]) == (
                "cy-berg",
                "SE",
                True,
                False,
            )
            page = (await ask("ines", "GET", "creators?limit=2")).json()
            rest = (await ask("ines", "GET", f"creators?cursor={page['next_cursor']}")).json()
            assert {one["ref"] for one in page["items"] + rest["items"]} == {"ada", "bo", "cy-berg"}
            assert rest["next_cursor"] is None
            assert [one["name"] for one in (await ask("ines", "GET", "creators?ref=bo")).json()["items"]] == [
                "bo"
            ]
            isbn = {"identifier": "isbn:9780306406157", "reason": "It stands in the book."}
            said = await twice("POST", f"works/{hers}/identifiers", isbn)
            assert [one["changed"] for one in said] == [True, False]
            taken = await ask("ines", "POST", f"works/{his}/identifiers", isbn)
            assert taken.json()["code"] == "identifier_taken"
            wrong = isbn | {"identifier": "isbn:9780306406158"}
            assert (await ask("ines", "POST", f"works/{hers}/identifiers", wrong)).status_code == 400
            back = await twice("POST", f"works/{hers}/identifiers", isbn | {"verified": False})
            assert [one["changed"] for one in back] == [True, False]
            adapts = {"adapts": [{"work": his, "ppm": 250_000}]}
            made = await twice("PUT", f"works/{hers}/adapts", adapts)
            assert [(one["changed"], one["adapts"]) for one in made] == [
                (True, adapts["adapts"]),
                (False, adapts["adapts"]),
            ]
            assert (await ask("ada", "GET", f"works/{hers}")).json()["adapts"][0]["ppm"] == 250_000
            assert (await ask("ines", "PUT", f"works/{his}/adapts", {"adapts": []})).status_code == 400
            (held,) = (await ask("ines", "GET", "review")).json()["items"]
            assert (held["work"], held["copy_of"], held["state"], held["decided"]) == (
                hers,
                his,
                "held",
                None,
            )
            for decision in ("upheld", "released"):
                body = {"decision": decision, "reason": "Looked at."}
                assert [one["changed"] for one in await twice("POST", f"works/{hers}/review", body)] == [
                    True,
                    False,
                ]
            assert (await ask("ines", "GET", "review")).json()["items"] == []
            for method, path, body in (
                ("POST", "creators", cy),
                ("GET", "creators", None),
                ("POST", f"works/{hers}/identifiers", isbn),
                ("PUT", f"works/{hers}/adapts", adapts),
                ("GET", "review", None),
                ("POST", f"works/{hers}/review", {"decision": "released"}),
            ):
                assert (await ask("ada", method, path, body)).status_code == 403, path
            assert (
                await ask("ines", "POST", "works/w_none/review", {"decision": "released"})
            ).status_code == 404
