"""A period's files over HTTP: the manifest is anybody's, a place in it only its holder's."""

from __future__ import annotations

import anyio
import pytest

from proxy.billing.proving import Prover
from proxy.billing.run import close_period
from proxy.receipts.verify import Keys, check_file, check_uses
from proxy.settings import Billing, Receipts
from tests.books import PRICES
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio


async def test_each_party_is_shown_its_own_place_and_anybody_the_manifest(tmp_path):
    settings = settings_in(
        tmp_path / "data",
        receipts=Receipts(origin="credits.example/log", append_ms=10),
        billing=Billing(scheme="direct"),
    )
    async with live(settings) as app:
        (work,) = app.register("a text of hers")
        app.register("a text of his", creator="bo")
        await app.running.registry.refresh()
        shop, other, ada, bo, operator = (
            app.key(name="shop"), app.key(name="other"), app.key("creator", creator="ada"),
            app.key("creator", creator="bo"), app.key("operator"),
        )  # fmt: skip
        app.answers(f"{work} beside it")
        event_id = (await app.chat(shop)).headers["x-attribution-id"]
        with anyio.fail_after(20):
            while (reply := await app.client.get(f"/api/receipts/{event_id}/proof", headers=shop)).is_success:
                if reply.status_code == 200:
                    break
                await anyio.sleep(0.02)
        running = app.running
        prover = Prover(running.engine, running.issuer)
        now_us = running.clock.now_us()
        closing = await anyio.to_thread.run_sync(
            lambda: close_period(
                running.engine, "p", settings.billing, PRICES, dry_run=False, now_us=now_us, prover=prover
            )
        )
        (statement,) = closing.statements
        keys = Keys.parse((await app.client.get("/.well-known/endcredits.json")).content)

        async def asked(path, headers=None):
            return await app.client.get(f"/api/{path}", headers=headers or {})

        manifest = await asked("periods/p/manifest")
        assert check_file(manifest.content, keys)[0] == "signed: the period p, and its sums add up"
        hers = f"statements/{statement.id}/signed"
        assert statement.creator in check_file((await asked(hers, ada)).content, keys)[0]
        assert (await asked(hers, operator)).status_code == 200
        assert [(await asked(hers, who)).status_code for who in (bo, shop, None)] == [404, 403, 401]
        behind = f"statements/{statement.id}/uses"
        rows = (await asked(behind, ada)).content.splitlines(keepends=True)
        assert check_uses(rows, (await asked(hers, ada)).content, keys)[0].startswith(
            "uses: the receipts of 1 "
        )
        assert [(await asked(behind, who)).status_code for who in (bo, shop, None)] == [404, 403, 401]
        charge = await asked("periods/p/charge", shop)
        assert charge.headers["cache-control"] == "private, no-store"
        assert "was charged in p" in check_file(charge.content, keys)[0]
        assert [(await asked("periods/p/charge", who)).status_code for who in (other, ada, None)] == [
            404,
            403,
            401,
        ]
        assert (await asked("periods/p/charge", operator)).status_code == 400
        (charged,) = closing.charged_by_app
        assert (await asked(f"periods/p/charge?app={charged}", operator)).content == charge.content
        assert (await asked("periods/q/manifest")).json()["code"] == "not_signed"
        # What changed of her work is shown to her, and to nobody else but operators.
        (change,) = (await asked(f"works/{work}/changes", ada)).json()["changes"]
        assert change["kind"] == "work_registered"
        path = f"registry/{change['seq']}/proof"
        assert work in check_file((await asked(path, ada)).content, keys)[0]
        assert (await asked(path, operator)).status_code == 200
        assert [(await asked(path, who)).status_code for who in (bo, shop, None)] == [404, 403, 401]
        assert (await asked(f"works/{work}/changes", bo)).status_code == 404
        assert (await asked("registry/99999/proof", operator)).status_code == 404
