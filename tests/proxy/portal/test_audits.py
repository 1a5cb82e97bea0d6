"""An operator has the books audited over HTTP; nobody else does, and one at a time."""

from __future__ import annotations

import pytest

from proxy.billing.invariants import INVARIANTS
from proxy.portal import auditor
from proxy.portal.audits import Audits
from proxy.settings import Settings
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio


async def test_an_operator_starts_an_audit_and_reads_what_it_found(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        ines, shop = app.key("operator", name="Ines"), app.key()
        assert (await app.client.get("/api/audits", headers=shop)).status_code == 403
        assert (await app.client.post("/api/audits", headers=shop)).status_code == 403
        before = (await app.client.get("/api/audits", headers=ines)).json()
        assert before == {"state": "never", "last": None}
        auditor.run(app.running.settings, app.running.clock)
        after = (await app.client.get("/api/audits", headers=ines)).json()
        assert (after["state"], after["last"]["sound"]) == ("done", True)
        assert [one["id"] for one in after["last"]["items"]] == list(INVARIANTS)
        with auditor._alone(app.running.settings.data_dir):  # another worker's
            again = await app.client.post("/api/audits", headers=ines)
        assert (again.status_code, again.json()["state"], again.json()["new"]) == (202, "running", False)


async def test_it_runs_in_a_process_of_its_own_and_once_at_a_time(tmp_path):
    audits = Audits(Settings(data_dir=tmp_path))  # a store without a table
    assert audits.job.start()
    assert not audits.job.start()
    assert audits.told()["state"] == "running"
    await audits.job.running
    told = audits.told()
    assert (told["state"], told["last"]["sound"]) == ("done", False)
    assert "went away" in told["last"]["problem"]


async def test_one_that_takes_too_long_is_ended_and_that_is_what_it_found(tmp_path):
    audits = Audits(Settings(data_dir=tmp_path), longest_s=0)
    assert audits.job.start()
    await audits.job.running
    assert audits.told()["last"]["problem"] == "its process ended with -9"
