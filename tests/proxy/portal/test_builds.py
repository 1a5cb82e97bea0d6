"""An operator builds the index from a page or a script; nobody else does, and one at a time."""

from __future__ import annotations

import fcntl

import pytest

from proxy.catalogue import indexing
from proxy.catalogue.ownership import Held
from proxy.catalogue.ownership_store import Ownership
from proxy.clock import RandomIds, SystemClock
from proxy.portal.builds import Builds
from proxy.portal.indexer import Built, HeldUp, keep
from tests.portal import portal

pytestmark = pytest.mark.anyio
NASTY = "<script>alert(1)</script>\"'"


def bearer(there, role, **who):
    return {"authorization": f"Bearer {there.key(role, **who)[1]}"}


async def test_an_operator_builds_the_index_in_a_process_of_its_own(tmp_path):
    async with portal(tmp_path) as there:
        (work,) = there.register("The ferry left at noon, and nobody on the pier waved or wept.")
        builds = Builds(there.running.engine, there.running.settings)
        told = builds.told()
        assert (told["built"], told["waiting"], told["state"]) == (None, 1, "never")
        assert builds.job.start()
        assert builds.told()["state"] == "running"
        await builds.job.running
        told = builds.told()
        assert (told["state"], told["waiting"], told["last"]["problem"]) == ("done", 0, "")
        path = indexing.current(there.running.settings.index_dir)
        assert told["last"]["index"] == path.name
        assert work.encode() in b"".join(file.read_bytes() for file in path.iterdir())


async def test_the_page_of_works_says_how_old_it_is_and_what_waits(tmp_path):
    async with portal(tmp_path) as there:
        ines = await there.browser(there.key("operator", name="Ines")[1])
        folder = there.running.settings.index_dir
        assert "There is none yet" in (await ines.get("/portal/desk/works")).text
        one, two = there.register("a text of hers", "another of hers")
        assert "2 works wait for the next one" in (await ines.get("/portal/desk/works")).text
        name = f"{SystemClock().now_us():020d}"
        (folder / name).mkdir(parents=True)
        (folder / "current").write_text(f"{name}\n")
        page = (await ines.get("/portal/desk/works")).text
        assert "Built on" in page
        assert "Nothing waits for another" in page
        # What was released waits for the next one as well.
        ownership = Ownership(there.running.engine, clock=SystemClock(), ids=RandomIds())
        ownership.record_held([Held(one, "copy", "", two, 900_000)])
        ownership.review(one, "released", "It is hers.")
        assert "1 work waits for the next one" in (await ines.get("/portal/desk/works")).text
        (folder / "current").write_text("elsewhere\n")
        assert "It cannot be read" in (await ines.get("/portal/desk/works")).text


async def test_a_build_is_shown_while_it_runs_and_what_it_found(tmp_path):
    async with portal(tmp_path) as there:
        ines = await there.browser(there.key("operator", name="Ines")[1])
        folder = there.running.settings.index_dir
        keep(folder, Built(began_us=1, done=3, total=8))
        with (folder / "building").open("w") as lock:  # as another worker, or the command, holds it
            fcntl.flock(lock, fcntl.LOCK_EX)
            page = (await ines.get("/portal/desk/works")).text
            assert 'value="37"' in page
            assert "Build the index" not in page
            reply = await ines.client.post(
                "/api/index/builds", headers=bearer(there, "operator", name="Ines")
            )
            assert (reply.status_code, reply.json()["state"], reply.json()["new"]) == (202, "running", False)
        assert "was stopped before its end" in (await ines.get("/portal/desk/works")).text
        keep(folder, Built(began_us=1, ended_us=2, index="x", held=(HeldUp("w_1", NASTY),), held_all=1))
        page = (await ines.get("/portal/desk/works")).text
        assert "1 work is newly held up" in page
        assert NASTY not in page
        keep(folder, Built(began_us=1, ended_us=2, problem="the disk is full", remedy="make room"))
        page = (await ines.get("/portal/desk/works")).text
        assert "The disk is full. Make room." in page


async def test_one_that_takes_too_long_is_ended_and_says_how_to_go_on(tmp_path):
    async with portal(tmp_path) as there:
        builds = Builds(there.running.engine, there.running.settings, longest_s=0)
        assert builds.job.start()
        await builds.job.running
        last = builds.told()["last"]
        assert (last["problem"], last["remedy"][:14]) == ("its process ended with -9", "build it again")


async def test_only_operators_ask_and_build(tmp_path):
    async with portal(tmp_path) as there:
        there.register("a text of hers")
        client = (await there.browser()).client
        for headers, status in (
            ({}, 401),
            (bearer(there, "app", name="shop"), 403),
            (bearer(there, "creator", creator="ada"), 403),
        ):
            assert (await client.get("/api/index", headers=headers)).status_code == status
            assert (await client.post("/api/index/builds", headers=headers)).status_code == status
        told = (await client.get("/api/index", headers=bearer(there, "operator", name="Ines"))).json()
        assert told == {
            "built": None, "problem": "", "waiting": 1, "waiting_more": False, "state": "never", "last": None,
        }  # fmt: skip
