"""The playground's routes: a session stands for its key, and nothing else opens them."""

from __future__ import annotations

import json
import re

import anyio
import pytest

from proxy.access.store import revoke
from proxy.clock import SystemClock
from tests.builders import chat_request
from tests.live import live, settings_in
from tests.proxy.relay.test_watched import ours_and_theirs

pytestmark = pytest.mark.anyio
ANSWERS = "/portal/playground/answers"


async def signed_in(app, role="app", **who):
    """Sign in as a browser would; return (key id, the token that scripts send)."""
    app.client.cookies.clear()
    asked = await app.client.get("/portal/sign-in")
    (token,) = re.findall(r'name="token" value="([0-9a-f]+)"', asked.text)
    secret = app.key(role, **who)["authorization"].removeprefix("Bearer ")
    form = {"token": token, "key": secret, "back": "/portal/playground"}
    reply = await app.client.post("/portal/sign-in", data=form)
    assert reply.status_code == 303, reply.text
    page = await app.client.get("/portal/playground")
    found = re.search(r'data-token="([0-9a-f]+)"', page.text)
    return found.group(1) if found else ""


async def asked(app, token, **headers):
    sent = {"x-csrf-token": token, "content-type": "application/json", **headers}
    return await app.client.post(ANSWERS, content=chat_request(stream=True), headers=sent)


async def test_an_app_asks_from_the_page_and_is_charged_as_for_any_answer(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        (work,) = app.register("a text of hers")
        await app.running.registry.refresh()
        token = await signed_in(app, name="shop")
        app.answers(f"{work} says this. And no more.", stream=True)
        reply = await asked(app, token, **{"x-attribution": "full"})
        assert reply.status_code == 200, reply.text
        ours, theirs = ours_and_theirs(reply.content)
        assert ours[-1]["works"][0]["title"] == "Work 0"
        assert b'"attribution":' in theirs
        assert reply.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        event_id = reply.headers["x-attribution-id"]
        receipt = await app.client.get(f"/portal/playground/receipts/{event_id}")
        assert (receipt.status_code, receipt.json()["works"][0]["work"]) == (200, work)
        usage = await app.client.get("/api/usage", headers=app.key("operator"))
        assert [(one["id"], one["app_name"]) for one in usage.json()["items"]] == [(event_id, "shop")]
        assert not {"cookie", "x-csrf-token"} & set(app.backend.requests[-1].headers)


async def test_a_forged_form_a_stranger_and_other_roles_get_nothing(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        app.answers("Nothing.", stream=True)
        page = await app.client.get("/portal/playground")
        assert (page.status_code, "data-token" in page.text) == (200, False)
        refused = await asked(app, "")
        assert refused.status_code == 403
        token = await signed_in(app, name="shop")
        assert (await asked(app, "0" * 64)).status_code == 403
        assert (await asked(app, token, **{"sec-fetch-site": "cross-site"})).status_code == 403
        for path in ("models", "receipts/rct_x"):
            app.client.cookies.clear()
            reply = await app.client.get(f"/portal/playground/{path}")
            assert (reply.status_code, reply.headers["content-type"]) == (401, "application/problem+json")
        assert await signed_in(app, "operator") == ""
        reply = await app.client.get("/portal/playground/models")
        assert reply.status_code == 403
        assert app.backend.requests == []


async def test_a_key_that_is_revoked_asks_no_more_and_another_apps_receipt_is_not_there(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        token = await signed_in(app, name="shop")
        app.answers("Nothing.", stream=True)
        event_id = (await asked(app, token)).headers["x-attribution-id"]
        await signed_in(app, name="rival")
        assert (await app.client.get(f"/portal/playground/receipts/{event_id}")).status_code == 404
        token = await signed_in(app, name="third")
        app.client.cookies.get("ec_session")
        held = next(who for who in app.running.keyring._known.values() if who.name == "third")
        revoke(app.running.engine, held.key_id, clock=SystemClock())
        with anyio.fail_after(10):
            await app.running.keyring.refresh()
        refused = await asked(app, token)
        assert refused.status_code in {401, 403}
        assert json.loads(refused.content)["status"] in {401, 403}
