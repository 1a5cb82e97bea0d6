"""Previews over HTTP: for operators, one at a time, by a process of its own that ends with its time."""

from __future__ import annotations

import httpx
import pytest

from proxy.errors import Unavailable
from proxy.portal import previews
from proxy.portal.previews import Asked, Previewer
from proxy.settings import Settings
from tests.portal import HOST, portal
from tests.stores import lay

pytestmark = pytest.mark.anyio
PATH = "/api/policies/settings/preview"


async def test_an_operator_is_told_and_nobody_else(tmp_path):
    async with (
        portal(tmp_path) as there,
        httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as client,
    ):
        there.register("a text of hers")
        for role, who, status in (
            ("operator", {"name": "Ines"}, 200),
            ("creator", {"creator": "ada"}, 403),
            ("app", {"name": "shop"}, 403),
        ):
            headers = {"authorization": f"Bearer {there.key(role, **who)[1]}"}
            reply = await client.post(PATH, json={}, headers=headers)
            assert reply.status_code == status, reply.text
            if status == 200:
                assert reply.json()["accounts"][0]["account"] == "charged"
                for wrong in ({"limit": 0}, {"limit": 501}, {"rows": 1}):
                    assert (await client.post(PATH, json=wrong, headers=headers)).status_code == 400


async def test_one_is_computed_at_a_time_and_ends_with_its_time(tmp_path, monkeypatch):
    settings = Settings(data_dir=tmp_path)
    lay(settings.store_url)
    previewer = Previewer(settings)
    async with previewer._one:
        with pytest.raises(Unavailable, match="already"):
            await previewer.preview(Asked(policy="settings"))
    monkeypatch.setattr(previews, "PREVIEW_S", 0.0)
    with pytest.raises(Unavailable, match="too long"):
        await previewer.preview(Asked(policy="settings"))
