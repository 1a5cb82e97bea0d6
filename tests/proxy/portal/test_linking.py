"""What a work comes from, on its page."""

from __future__ import annotations

import pytest

from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.works import Adapted
from proxy.clock import RandomIds, SystemClock
from tests.portal import portal

pytestmark = pytest.mark.anyio
NASTY = "<script>alert(1)</script>"


async def test_what_a_licence_gives_to_an_original_is_read_by_both(tmp_path):
    async with portal(tmp_path) as there:
        (his,) = there.register("a text of his", creator="bo", title=NASTY)
        (hers,) = there.register("a text of hers", title="Song")
        desk = Ownership(there.running.engine, clock=SystemClock(), ids=RandomIds())
        desk.set_adapts(hers, [Adapted(his, 250_000)])
        ada = await there.browser(there.key("creator", creator="ada")[1])
        bo = await there.browser(there.key("creator", creator="bo")[1])
        page = (await ada.get(f"/portal/works/{hers}")).text
        assert NASTY not in page
        assert "which gets 25% of what it earns" in page
        page = (await bo.get(f"/portal/works/{his}")).text
        assert "was made from it, by a licence" in page


async def test_links_are_stated_shown_on_both_pages_and_ended_from_either(tmp_path):
    async with portal(tmp_path) as there:
        (his,) = there.register("a text of his", creator="bo", title=NASTY)
        (hers,) = there.register("a text of hers", title="Song")
        ada = await there.browser(there.key("creator", creator="ada")[1])
        bo = await there.browser(there.key("creator", creator="bo")[1])
        await ada.get(f"/portal/works/{hers}")
        said = {"kind": "translation_of", "of": f" {his} "}
        assert (await bo.post(f"/portal/works/{hers}/links", said)).status_code == 404
        assert (await ada.client.post(f"/portal/works/{hers}/links", data=said)).status_code == 403
        sent = await ada.post(f"/portal/works/{hers}/links", said)
        assert sent.headers["location"] == f"/portal/works/{hers}#links"
        page = (await ada.get(f"/portal/works/{hers}")).text
        assert NASTY not in page
        assert "A translation of" in page
        page = (await bo.get(f"/portal/works/{his}")).text
        assert "is said to be a translation of it" in page
        assert f'href="/portal/works/{hers}"' not in page  # it is not his to look at
        sent = await bo.post(f"/portal/works/{hers}/unlink", {"of": his, "at": his})
        assert sent.headers["location"] == f"/portal/works/{his}#links"
        assert "A translation of" not in (await ada.get(f"/portal/works/{hers}")).text
        refused = await ada.post(f"/portal/works/{hers}/links", said)
        assert refused.status_code == 409
        (whole,) = there.register("a text of hers, and more", creator="ada-too")
        for of, status in ((whole, 303), ("ada-0", 400), ("bo-0", 404)):
            sent = await ada.post(f"/portal/works/{hers}/links", {"kind": "excerpt_of", "of": of})
            assert sent.status_code == status
        await ada.get(f"/portal/works/{hers}")
        sent = await ada.post(f"/portal/works/{hers}/unlink", {"of": whole})
        assert sent.headers["location"] == f"/portal/works/{hers}#links"
