"""Each role has a first page of its own, and no page of another's."""

from __future__ import annotations

import pytest

from tests.portal import portal

pytestmark = pytest.mark.anyio


async def test_each_role_begins_where_its_work_is(tmp_path):
    async with portal(tmp_path) as there:
        there.catalogue.add_creator("Ada", ref="ada")
        ada = await there.browser(there.key("creator", creator="ada")[1])
        ines = await there.browser(there.key("operator", name="Ines")[1])
        stranger = await there.browser()
        assert "Put your first work in" in (await ada.get("/portal/")).text
        assert "Where the time goes" in (await ines.get("/portal/")).text
        assert "Every answer rolls its" in (await stranger.get("/portal/")).text
        assert (await ada.get("/portal/desk/people")).status_code == 403
        assert (await ines.get("/portal/works")).status_code == 403
