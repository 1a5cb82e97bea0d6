"""A work's history on a page: every change in words, for its owner alone, with a file that anybody can check."""

from __future__ import annotations

import re

import anyio
import httpx
import pytest

from proxy.access.keys import Principal
from proxy.catalogue.ownership import Held
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.works import Consent, Use
from proxy.clock import RandomIds, SystemClock
from proxy.portal.history import CHANGES_SHOWN, by_of, words_of
from proxy.receipts.history import Change
from proxy.receipts.verify import Keys, check_file
from proxy.settings import Receipts
from tests.live import live, settings_in
from tests.portal import Browser, portal
from tests.proxy.portal.test_creators import NASTY

pytestmark = pytest.mark.anyio


async def test_changes_are_told_in_words_newest_first(tmp_path):
    async with portal(tmp_path) as there:
        (work,) = there.register("a text of hers", title=NASTY)
        there.catalogue.set_consent(work, Consent(Use.STYLE_IMITATION, "denied"))
        there.catalogue.set_consent(work, Consent(Use.SEARCH, "free"))
        ownership = Ownership(there.running.engine, clock=SystemClock(), ids=RandomIds())
        ownership.record_held([Held(work, "list", "A list.")])
        there.catalogue.withdraw(work)
        ada = await there.browser(there.key("creator", creator="ada")[1])
        page = (await ada.get(f"/portal/works/{work}/changes")).text
        told = re.findall(r'<th scope="row">([^<]+)', page)
        assert told == [
            "It was withdrawn",
            "It was held up, to be looked at",
            "It may be found in a search: yes, for nothing",
            "Your style may be imitated: no",
            "It was put in",
        ]
        assert NASTY not in page
        assert f"/portal/works/{work}/changes" in (await ada.get(f"/portal/works/{work}")).text


async def test_a_long_history_is_shown_a_page_at_a_time(tmp_path):
    async with portal(tmp_path) as there:
        (work,) = there.register("a text of hers")
        for number in range(CHANGES_SHOWN):
            there.catalogue.set_consent(work, Consent(Use.SEARCH, ("free", "denied")[number % 2]))
        ada = await there.browser(there.key("creator", creator="ada")[1])
        first = (await ada.get(f"/portal/works/{work}/changes")).text
        assert (first.count('<tr><th scope="row"'), "It was put in" in first) == (CHANGES_SHOWN, False)
        following = re.search(r'href="([^"]+before=\d+)"', first)[1]
        second = (await ada.get(following)).text
        assert (second.count('<tr><th scope="row"'), "It was put in" in second) == (1, True)


async def test_nobody_reads_the_history_of_anothers_work(tmp_path):
    async with portal(tmp_path) as there:
        (hers,) = there.register("a text of hers")
        (his,) = there.register("a text of his", creator="bo")
        bo = await there.browser(there.key("creator", creator="bo")[1])
        assert (await bo.get(f"/portal/works/{his}/changes")).status_code == 200
        for path in (f"{hers}/changes", f"{hers}/changes/1", f"{his}/changes/1", "w_nothing/changes"):
            assert (await bo.get(f"/portal/works/{path}")).status_code == 404, path
        for number in (2**70, -1, "one", "١"):
            assert (await bo.get(f"/portal/works/{his}/changes/{number}")).status_code == 404, number


async def test_a_changes_file_shows_it_to_anybody(tmp_path):
    settings = settings_in(tmp_path / "data", receipts=Receipts(origin="credits.example/log", append_ms=10))
    async with live(settings) as app:
        (work,) = app.register("a text of hers")
        app.catalogue.set_consent(work, Consent(Use.SEARCH, "free"))
        ada = Browser(None)
        ada.client = httpx.AsyncClient(base_url=app.base)
        await ada.sign_in(app.key("creator", creator="ada")["authorization"].split()[1])
        page = await ada.get(f"/portal/works/{work}/changes")
        path = re.search(rf"/portal/works/{work}/changes/(\d+)", page.text)[0]
        with anyio.fail_after(20):
            while (reply := await ada.get(path)).status_code != 200:
                assert reply.status_code == 404  # it is not in the log yet
                await anyio.sleep(0.02)
        assert reply.headers["content-disposition"].startswith('attachment; filename="change-')
        keys = Keys.parse((await app.client.get("/.well-known/endcredits.json")).content)
        said, *_ = check_file(reply.content, keys)
        assert work in said
        await ada.client.aclose()


def test_a_change_of_a_kind_that_has_no_words_is_told_by_its_name_and_who_is_not_named():
    ada = Principal("creator", "key_1", "", "c_ada", "Ada")

    def change(kind, actor="Ines"):
        return Change(1, kind, "w_1", "", actor, 0)

    assert words_of(change("something_else"), None, {}) == "Something else"
    assert words_of(change("consent_set"), None, {}) == "What is allowed was changed"
    linked = {"kind": "translation_of", "of": "w_2"}
    assert (
        words_of(change("link_stated"), linked, {"w_2": "Tides"})
        == "It was said to be a translation of Tides"
    )
    assert words_of(change("link_ended"), linked, {}) == "It is said no longer to be a translation of w_2"
    assert words_of(change("work_withdrawn"), {"work": "w_1"}, {}) == "It was withdrawn"
    assert [by_of(change("x", actor), ada) for actor in ("c_ada", "c_bo", "Ines")] == [
        "You", "Another creator", "Whoever runs this place",
    ]  # fmt: skip
