from __future__ import annotations

import hashlib
import hmac

import anyio
import pytest

from proxy.receipts.issuing import SECRETS_DIR, Issuer
from proxy.receipts.tree import Tile, tiles_of
from proxy.receipts.verify import (
    Keys,
    check_consistency,
    check_file,
    from_b64,
    from_b64url,
    from_canonical,
    leaf_hash,
    open_checkpoint,
    open_jws,
)
from proxy.settings import Receipts
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio
ORIGIN = "credits.example/log"


@pytest.fixture
def settings(tmp_path):
    return settings_in(tmp_path / "data", receipts=Receipts(origin=ORIGIN, append_ms=10))


async def answered(app, headers, count=1):
    ids = []
    for _ in range(count):
        app.answers("a text of hers beside it")
        reply = await app.chat(headers)
        ids.append(reply.headers["x-attribution-id"])
    return ids


async def proven(app, event_id, headers):
    with anyio.fail_after(20):
        while (
            reply := await app.client.get(f"/api/receipts/{event_id}/proof", headers=headers)
        ).status_code == 202:
            assert reply.headers["retry-after"] == "1"
            await anyio.sleep(0.02)
    return reply


async def test_an_answer_is_proven_offline_by_keys_that_anybody_can_save(settings):
    async with live(settings) as app:
        (work,) = app.register("a text of hers")
        await app.running.registry.refresh()
        headers = app.key(name="shop")
        app.answers(f"{work} beside it")
        event_id = (await app.chat(headers)).headers["x-attribution-id"]
        shown = await proven(app, event_id, headers)
        saved = (await app.client.get("/.well-known/endcredits.json")).content
    said = check_file(shown.content, Keys.parse(saved))
    assert said[0].startswith(f"signed: {event_id}")
    assert said[1].endswith(f"entries of {ORIGIN}")
    assert said[2].startswith(f"drew on {work}")


async def test_the_log_is_public_and_what_a_receipt_says_is_not(settings):
    async with live(settings) as app:
        app.register("a text of hers")
        mine, other, operator = app.key(name="shop"), app.key(name="other"), app.key("operator")
        (event_id,) = await answered(app, mine)
        await proven(app, event_id, mine)
        assert (await proven(app, event_id, operator)).status_code == 200
        for headers, status in ((other, 404), ({}, 401), (app.key("creator", creator="ada"), 404)):
            assert (
                await app.client.get(f"/api/receipts/{event_id}/proof", headers=headers)
            ).status_code == status
        assert (await app.client.get("/api/receipts/rct_nowhere/proof", headers=mine)).status_code == 404
        assert (await app.client.get("/log/checkpoint")).status_code == 200
        entries = (await app.client.get("/log/tile/entries/000.p/1")).content
        assert len(entries) == 35
        assert event_id.encode() not in entries


async def test_tiles_lead_to_the_checkpoints_root_and_each_growth_is_shown(settings):
    async with live(settings) as app:
        headers = app.key(name="shop")
        keys = Keys.parse((await app.client.get("/.well-known/endcredits.json")).content)
        seen = []
        for _ in range(3):
            ids = await answered(app, headers, 2)
            await proven(app, ids[-1], headers)
            note = await app.client.get("/log/checkpoint")
            assert note.headers["content-type"] == "text/plain; charset=utf-8"
            assert note.headers["cache-control"] == "no-cache"
            seen.append(open_checkpoint(note.text, keys.notes, ORIGIN))
        last = seen[-1]
        for one in seen:
            path = (await app.client.get(f"/log/consistency/{one.size}/{last.size}")).json()["path"]
            check_consistency(
                one.size, one.root, last.size, last.root, [from_b64(hash_, "a hash") for hash_ in path]
            )
        for tile in tiles_of(0, last.size):
            reply = await app.client.get(f"/log/{tile.path()}")
            assert len(reply.content) == 32 * tile.width
            assert reply.headers["content-type"] == "application/octet-stream"
            assert "immutable" in reply.headers["cache-control"]
        bundle = (await app.client.get(f"/log/tile/entries/000.p/{last.size}")).content
        entries = [bundle[at + 2 : at + 35] for at in range(0, len(bundle), 35)]
        assert [entry[0] for entry in entries].count(1) == 6
        leaves = (await app.client.get(f"/log/{Tile(0, 0, last.size).path()}")).content
        assert b"".join(map(leaf_hash, entries)) == leaves


NOWHERE = [
    "tile/0/000", "tile/0/000.p/99", "tile/0/001.p/1", "tile/1/000.p/1", "tile/0/0", "tile/entries/000.p/99", "tile/x",
    "tile/0/..%2f..%2fcheckpoint", "tile/63/x999/x999/x999/x999/x999/x999/999", "consistency/1/99", "consistency/2/1",
    "consistency/99999999999999999999/1",
]  # fmt: skip


async def test_what_the_log_does_not_have_is_not_found(settings):
    async with live(settings) as app:
        headers = app.key(name="shop")
        (event_id,) = await answered(app, headers)
        await proven(app, event_id, headers)
        replies = {path: (await app.client.get(f"/log/{path}")).status_code for path in NOWHERE}
        assert replies == dict.fromkeys(NOWHERE, 404)


async def test_nothing_is_shown_that_the_log_would_contradict(settings):
    async with live(settings) as app:
        (work,) = app.register("a text of hers")
        await app.running.registry.refresh()
        headers = app.key(name="shop")
        app.answers(f"{work} beside it")
        event_id = (await app.chat(headers)).headers["x-attribution-id"]
        assert (await proven(app, event_id, headers)).status_code == 200
        for path in (settings.data_dir / SECRETS_DIR).iterdir():
            path.unlink()
        asked = f"/api/receipts/{event_id}/proof"
        gone = await app.client.get(asked, headers=headers)
        assert (gone.status_code, gone.json()["code"]) == (404, "secret_destroyed")
        assert list((settings.data_dir / SECRETS_DIR).iterdir()) == []
        # Somebody puts another in its place.
        Issuer(settings.data_dir, ORIGIN, app.running.clock)
        other = await app.client.get(asked, headers=headers)
        assert (other.status_code, other.json()["code"]) == (503, "log_contradicted")


async def test_a_reply_carries_the_receipt_that_the_log_then_holds(settings):
    async with live(settings) as app:
        (work,) = app.register("a text of hers")
        await app.running.registry.refresh()
        headers = app.key(name="shop")
        text = f"{work} beside it"
        app.answers(text)
        reply = (await app.chat(headers)).json()["attribution"]
        shown = (await proven(app, reply["id"], headers)).json()
        saved = (await app.client.get("/.well-known/endcredits.json")).content
        app.answers(text)
        quiet = await app.chat({**headers, "x-attribution": "headers"})
    assert reply["receipt"] == shown["receipt"]
    assert "attribution" not in quiet.json()
    payload = open_jws(reply["receipt"], Keys.parse(saved).kids)
    # What the app was told is what was attributed: docs/receipts.md says how the digest is made.
    told = b"output\0" + (0).to_bytes(4, "big") + hashlib.sha256(text.encode()).digest()
    nonce = from_b64url(shown["nonce"], "the nonce")
    assert from_canonical(payload, "it")["oc"] == hmac.new(nonce, told, hashlib.sha256).hexdigest()
