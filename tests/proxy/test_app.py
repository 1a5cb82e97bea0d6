from __future__ import annotations

import asyncio
import os

import pytest

from proxy.billing.policies import read_policy
from proxy.billing.policies_store import Policies
from proxy.clock import SystemClock
from proxy.errors import Unavailable
from proxy.metering.store import usage
from proxy.settings import Attribution, Receipts
from tests.live import Live, live, settings_in

pytestmark = pytest.mark.anyio
SOON_S = 20  # a bound for a slow machine; what is waited for usually takes milliseconds


async def settled(app: Live, event_id: str, headers: dict[str, str]) -> dict[str, object]:
    """Fetch a receipt until it is settled, as Retry-After asks."""
    async with asyncio.timeout(SOON_S):
        while True:
            answer = await app.client.get(f"/api/receipts/{event_id}", headers=headers)
            assert answer.status_code in {200, 202}, answer.text
            if answer.status_code == 200:
                return answer.json()
            assert answer.headers["retry-after"] == "1"
            await asyncio.sleep(0.05)


async def test_an_answer_carries_its_credits_and_its_receipt_says_the_same(tmp_path):
    async with live(settings_in(tmp_path)) as app:
        (work,) = app.register("The lamp burned all night above the harbour.")
        await app.running.registry.refresh()
        headers = app.key()
        app.answers(f"{work} and three more")
        answer = await app.chat(headers)
        field = answer.json()["attribution"]
        assert (field["status"], field["unattributed_ppm"]) == ("settled", 750_000)
        assert [(credit["work"], credit["share_ppm"]) for credit in field["works"]] == [(work, 250_000)]
        assert field["works"][0]["creators"] == ["ada"]
        receipt = await settled(app, answer.headers["x-attribution-id"], headers)
        assert receipt["unattributed_ppm"] == 750_000
        assert [(credit["work"], credit["share_ppm"]) for credit in receipt["works"]] == [(work, 250_000)]


async def test_a_policy_that_is_put_in_force_is_quoted_by_the_answers_that_follow(tmp_path):
    async with live(settings_in(tmp_path)) as app:
        headers, engine = app.key(), app.running.engine
        await app.chat(headers)
        policies = Policies(engine, clock=SystemClock(), by="ada", currency="USD")
        policy = read_policy(b'name = "half"\nroyalty_ppm = 500_000')
        policies.add(policy)
        policies.activate(policy.id)
        await app.running.users.refresh()
        await app.chat(headers)
        await app.running.sink.drain()
        assert [event.policy_seq for event in usage(engine)] == [0, 1]


async def test_late_shares_leave_a_pending_answer_that_settles_behind(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with live(settings_in(tmp_path / "data", attribution=Attribution(deadline_ms=50))) as app:
        (work,) = app.register("a text")
        await app.running.registry.refresh()
        headers = app.key()
        app.answers(f"{work} GATE:{gate}")
        answer = await app.chat(headers)
        field = answer.json()["attribution"]
        assert (field["status"], field["works"], field["unattributed_ppm"]) == ("pending", [], None)
        waiting = await app.client.get(f"/api/receipts/{field['id']}", headers=headers)
        assert (waiting.status_code, waiting.json()["unattributed_ppm"]) == (202, None)
        gate.write_text("go on")
        receipt = await settled(app, field["id"], headers)
        assert [credit["work"] for credit in receipt["works"]] == [work]
        assert not list((tmp_path / "data" / "pending-keys").rglob("rct_*")), "the text's key is gone"


async def test_an_answer_that_was_late_at_a_stop_is_settled_at_the_next_start(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    settings = settings_in(tmp_path / "data", attribution=Attribution(deadline_ms=50))
    async with live(settings) as app:
        (work,) = app.register("a text")
        await app.running.registry.refresh()
        headers = app.key()
        app.answers(f"{work} GATE:{gate}")
        event_id = (await app.chat(headers)).headers["x-attribution-id"]
    gate.unlink()
    gate.write_text("open from now on")
    async with live(settings) as app:
        receipt = await settled(app, event_id, headers)
        assert [credit["work"] for credit in receipt["works"]] == [work]
        assert [event.id for event in usage(app.running.engine)] == [event_id]


async def test_a_withdrawal_made_elsewhere_acts_within_a_second(tmp_path):
    async with live(settings_in(tmp_path)) as app:
        (work,) = app.register("a text")
        await app.running.registry.refresh()
        headers = app.key()
        app.answers(f"{work} word")
        before = (await app.chat(headers)).json()["attribution"]["works"]
        assert "verdict" not in before[0] or before[0]["verdict"] == "paid"
        app.catalogue.withdraw(work)
        async with asyncio.timeout(1):
            while (await app.chat(headers)).json()["attribution"]["works"][0].get("verdict") != "prohibited":
                pass  # each round is a request: nothing spins


async def test_a_key_made_elsewhere_works_at_once_and_a_revoked_one_stops_within_a_second(tmp_path):
    from proxy.access.store import list_keys, revoke
    from proxy.clock import SystemClock

    async with live(settings_in(tmp_path)) as app:
        app.answers("nothing of anybody")
        headers = app.key()
        assert (await app.chat(headers)).status_code == 200
        revoke(app.running.engine, list_keys(app.running.engine)[0].id, clock=SystemClock())
        async with asyncio.timeout(1):
            while (await app.chat(headers)).status_code != 401:
                pass  # each round is a request: nothing spins


async def test_no_word_of_a_prompt_or_an_answer_is_on_disk_once_it_is_settled(tmp_path):
    async with live(settings_in(tmp_path)) as app:
        headers = app.key()
        for stream in (False, True):
            app.answers("zanzibarine perambulations", stream=stream)
            prompt = [{"role": "user", "content": "quixotically whispered"}]
            assert (await app.chat(headers, stream=stream, messages=prompt)).status_code == 200
        await app.running.sink.drain()
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"rct_" in content
    for secret in (b"zanzibarine", b"perambulations", b"quixotically", headers["authorization"][7:].encode()):
        assert secret not in content


async def test_errors_of_the_api_are_problems_with_a_remedy(tmp_path):
    async with live(settings_in(tmp_path)) as app:
        for path, status, code in (
            ("/api/statements", 401, "no_api_key"),
            ("/nowhere", 404, "not_found"),
            ("/api/usage?limit=0", 400, "bad_request"),
        ):
            answer = await app.client.get(path, headers={} if status == 401 else app.key())
            assert answer.headers["content-type"] == "application/problem+json"
            assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (
                status,
                status,
                code,
            )
        wrong_role = await app.client.get("/api/statements", headers=app.key())
        assert (wrong_role.status_code, wrong_role.json()["code"]) == (403, "forbidden")


async def test_the_api_describes_itself_without_other_hosts(tmp_path):
    async with live(settings_in(tmp_path)) as app:
        described = await app.client.get("/schema/openapi.json")
        assert described.status_code == 200
        assert "/api/receipts/{event_id}" in described.json()["paths"]
        assert (await app.client.get("/schema/redoc")).status_code == 404


class Elsewhere:
    """A process that appends to the log, as the server sees it, and that ends when told to."""

    def __init__(self):
        self.problem, self.ended = None, asyncio.Event()

    async def run(self):
        await self.ended.wait()
        self.problem = None


async def test_the_log_is_somebody_elses_work_as_long_as_he_lives_and_then_our_own(tmp_path):
    elsewhere = Elsewhere()
    settings = settings_in(tmp_path, receipts=Receipts(append_ms=10))
    async with live(settings, apart=elsewhere) as app:
        headers = app.key()
        app.answers("somebody's words")
        event_id = (await app.chat(headers)).headers["x-attribution-id"]
        await settled(app, event_id, headers)
        assert (await app.client.get("/log/checkpoint")).text.splitlines()[1] == "0"
        elsewhere.problem = Unavailable("it waits", remedy="wait", code="log_silent")
        ready = await app.client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["log"]) == (503, "it waits")
        elsewhere.ended.set()
        async with asyncio.timeout(SOON_S):
            while (await app.client.get("/log/checkpoint")).text.splitlines()[1] != "1":
                pass
        assert (await app.client.get("/readyz")).status_code == 200
