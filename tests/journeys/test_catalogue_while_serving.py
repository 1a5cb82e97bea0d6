"""The catalogue changes under a running server with the real engine: no restart, no answer lost."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.commands import Commands
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio
SOON_S = 60  # a bound for a slow machine; the swap takes well under a second
POEM = (
    "Eleven copper bells hung in the harbour office, one for every boat that had come home late. "
    "On the night of the herring strike somebody rang all of them at once, and nobody would say who."
)


async def test_a_work_registered_while_serving_is_credited_without_a_restart(tmp_path):
    data = tmp_path / "data"
    ec = Commands(data)
    listed = tmp_path / "works.jsonl"
    listed.write_text(
        json.dumps({"work_id": "bells", "creator_id": "ada", "title": "Bells", "text": POEM}) + "\n"
    )
    async with live(settings_in(data), scorer=()) as app:
        headers = app.key()
        app.answers(POEM)
        before = (await app.chat(headers)).json()["attribution"]
        assert (before["status"], before["unattributed_ppm"]) == ("settled", 1_000_000)
        added = await asyncio.to_thread(ec.json, "works", "add", listed)
        assert added.status == 0, added.err
        async with asyncio.timeout(SOON_S):
            while not (credited := (await app.chat(headers)).json()["attribution"])["works"]:
                pass  # each round is a request: nothing spins
        assert credited["works"][0]["work"] == added.row["work_id"]
        assert credited["works"][0]["creators"] == ["ada"]
        assert credited["unattributed_ppm"] == 0


async def test_an_index_that_is_damaged_keeps_the_last_one_serving(tmp_path):
    data = tmp_path / "data"
    ec = Commands(data)
    listed = tmp_path / "works.jsonl"
    listed.write_text(
        json.dumps({"work_id": "bells", "creator_id": "ada", "title": "Bells", "text": POEM}) + "\n"
    )
    await asyncio.to_thread(ec, "works", "add", listed)
    async with live(settings_in(data), scorer=()) as app:
        headers = app.key()
        app.answers(POEM)
        (folder,) = (path for path in (data / "index").iterdir() if path.is_dir())
        broken = folder.with_name(f"{int(folder.name) + 1:020d}")
        broken.mkdir()
        (data / "index" / "current.new").write_text(f"{broken.name}\n")
        (data / "index" / "current.new").replace(data / "index" / "current")
        refused = asyncio.Event()
        reload = app.running.attributing.reload

        async def reloading() -> bool:
            taken = await reload()
            assert not taken
            refused.set()
            return taken

        app.running.attributing.reload = reloading  # to be told of the moment; it still does what it does
        async with asyncio.timeout(SOON_S):
            await refused.wait()
        answer = (await app.chat(headers)).json()["attribution"]
        assert (answer["status"], answer["unattributed_ppm"]) == ("settled", 0)
