"""A statement is the same document for a script and for a person."""

from __future__ import annotations

import httpx
import pytest

from proxy.errors import NotFound
from proxy.portal.papers import PAGE_POLICY, own_statement
from tests.portal import HOST, portal
from tests.proxy.portal.test_creators import statement_of, two

pytestmark = pytest.mark.anyio


async def test_a_page_and_a_script_get_the_same_bytes(tmp_path):
    async with portal(tmp_path) as there:
        _, _, ada, bo = await two(there)
        name = statement_of(await ada.get("/portal/"))
        key = {"authorization": f"Bearer {there.key('creator', creator='ada')[1]}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as script:
            for suffix in ("json", "csv", "html"):
                told = await script.get(f"/api/statements/{name}.{suffix}", headers=key)
                shown = await ada.get(f"/portal/statements/{name}.{suffix}")
                assert told.content == shown.content
                assert shown.headers["content-security-policy"] == PAGE_POLICY
                assert "no-store" in shown.headers["cache-control"]
        assert (await bo.get(f"/portal/statements/{name}.html")).status_code == 404
        assert (await ada.get(f"/portal/statements/{name}.exe")).status_code == 404


async def test_a_statement_is_its_creators(tmp_path):
    from proxy.access.keys import Principal

    async with portal(tmp_path) as there:
        _, _, ada, _ = await two(there)
        name = statement_of(await ada.get("/portal/"))
        whole = own_statement(there.running.engine, Principal("operator", "k"), name)
        assert (
            own_statement(there.running.engine, Principal("creator", "k", "", whole.creator), name) == whole
        )
        with pytest.raises(NotFound):
            own_statement(there.running.engine, Principal("creator", "k", "", "c_else"), name)
