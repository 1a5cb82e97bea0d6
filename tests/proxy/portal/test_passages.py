"""A creator's text with what answers drew on: hers alone, a part at a time, and honest where nothing is kept."""

from __future__ import annotations

import httpx
import pytest
import sqlalchemy as sa

from proxy.billing.passages import LEAF_CHARACTERS
from proxy.billing.passages_store import PassageUses
from proxy.portal.passages import levels
from tests.portal import HOST, portal
from tests.proxy.billing.conftest import make_event, meter

pytestmark = pytest.mark.anyio
NASTY = "<script>alert(1)</script>"
SONG = f"The ferry left at noon. {NASTY} nobody waved, and nobody wept at all.\n\nThe light went out at ten past one."
WHERE = SONG.index("The light")


def drew(there, *stretches: tuple[str, int, int]) -> None:
    """Meter an answer for each stretch (work, start, end) and count it; the second is in another month."""
    engine = there.running.engine
    events = [make_event(n, occurred_us=make_event(n).occurred_us + (n % 2) * 31 * 86_400_000_000)
              for n in range(len(stretches))]  # fmt: skip
    meter(engine, events)
    uses = PassageUses(engine)
    for event, (work, start, end) in zip(events, stretches, strict=True):
        uses.add(event.id, {work: [(start, end)]})
    assert uses.step() == len(stretches)


async def hers(there, *texts):
    works = there.register(*texts)
    return works, await there.browser(there.key("creator", creator="ada")[1])


async def test_a_creator_sees_what_was_drawn_on_marked_in_her_own_text(tmp_path):
    async with portal(tmp_path) as there:
        (work,), ada = await hers(there, SONG)
        drew(there, (work, WHERE, len(SONG)), (work, WHERE, len(SONG)), (work, 0, 20))
        page = (await ada.get(f"/portal/works/{work}/passages")).text
        assert NASTY not in page
        assert "&lt;script&gt;" in page
        assert '<mark class="l3" id="t2">The light went out at ten past one.</mark>' in page
        assert '<mark class="l2" id="t1">The ferry left at noon.</mark>' in page
        assert "December 2026" in page
        december = (await ada.get(f"/portal/works/{work}/passages?month=2026-12")).text
        assert december.count("<mark") == 1
        nothing = (await ada.get(f"/portal/works/{work}/passages?month=2020-01")).text
        assert "No answer drew on it in this month" in nothing
        assert (await ada.get(f"/portal/works/{work}/passages?month=soon")).status_code == 400
        uses = f'href="/portal/works/{work}/passages"'
        assert uses in (await ada.get(f"/portal/works/{work}")).text


async def test_nobody_else_sees_her_text_not_even_who_runs_the_place(tmp_path):
    async with portal(tmp_path) as there:
        (work,), _ = await hers(there, SONG)
        there.register("a text of his", creator="bo")
        bo = await there.browser(there.key("creator", creator="bo")[1])
        assert (await bo.get(f"/portal/works/{work}/passages")).status_code == 404
        for role, who, status in (("creator", {"creator": "bo"}, 404), ("operator", {"name": "Ines"}, 403)):
            headers = {"authorization": f"Bearer {there.key(role, **who)[1]}"}
            async with httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as client:
                reply = await client.get(f"/api/works/{work}/passages", headers=headers)
            assert reply.status_code == status
            assert "ferry" not in reply.text


async def test_a_long_book_is_shown_a_part_at_a_time_and_says_where_it_was_used_most(tmp_path):
    line = "It rained on the harbour and on the seven boats of Skagen all through that night. "
    async with portal(tmp_path) as there:
        (work,), ada = await hers(there, "\n\n".join(f"Chapter {n}. {line * 20}" for n in range(40)))
        drew(there, (work, 3 * LEAF_CHARACTERS, 3 * LEAF_CHARACTERS + 200))
        first = (await ada.get(f"/portal/works/{work}/passages")).text
        assert "Page 1 of 8" in first
        assert "No answer drew on this page" in first
        assert f"/portal/works/{work}/passages?page=4#text" in first
        assert len(first) < 4 * LEAF_CHARACTERS
        assert "<mark" in (await ada.get(f"/portal/works/{work}/passages?page=4")).text
        beyond = await ada.get(f"/portal/works/{work}/passages?page=99")
        assert "Page 8 of 8" in beyond.text
        key = there.key("creator", creator="ada")[1]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(there.app), base_url=HOST) as client:
            found, cursor = [], 0
            while cursor is not None:
                told = await client.get(
                    f"/api/works/{work}/passages",
                    params={"cursor": cursor},
                    headers={"authorization": f"Bearer {key}"},
                )
                found += told.json()["items"]
                cursor = told.json()["next_cursor"]
        assert sum(one["answers"] for one in found) >= 1
        assert all(one["by"][0]["model"] == "demo-writer" for one in found)


async def test_a_text_that_is_not_kept_is_said_to_be_so_and_its_sums_stay(tmp_path):
    async with portal(tmp_path) as there:
        (work,), ada = await hers(there, SONG)
        empty = (await ada.get(f"/portal/works/{work}/passages")).text
        assert "No answer has drawn on it yet" in empty
        assert "The ferry left at noon." in empty
        drew(there, (work, 0, 20))
        with there.running.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM work_text"))
        gone = (await ada.get(f"/portal/works/{work}/passages")).text
        assert "The text itself is not kept here" in gone
        assert "demo-writer" in gone


def test_the_most_used_has_the_deepest_shade_and_the_least_has_one():
    assert levels(None, 5) == {}
