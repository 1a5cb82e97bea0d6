from __future__ import annotations

import pytest

from proxy.settings import Attribution
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio


async def test_a_proxy_that_knows_no_work_is_ready_and_says_so_of_each_part(tmp_path):
    async with live(settings_in(tmp_path)) as app:
        ready = await app.client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]) == (
            200,
            {"model": "ok", "index": "ok", "journal": "ok", "database": "ok"},
        )


async def test_without_a_working_index_answers_wait_and_the_proxy_says_it_is_not_ready(tmp_path):
    broken = tmp_path / "index"
    broken.mkdir()
    (broken / "current").write_text("99999999999999999999\n")
    settings = settings_in(tmp_path, attribution=Attribution(deadline_ms=50))
    async with live(settings, scorer=()) as app:
        ready = await app.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["model"] != "ok"
        assert ready.json()["checks"]["index"] == "does not serve; see `endcredits index verify`"
        assert ready.json()["checks"]["database"] == "ok"
        app.answers("whose words are these")
        answer = await app.chat(app.key())
        assert answer.json()["attribution"]["status"] == "pending"
