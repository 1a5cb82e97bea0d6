import asyncio
import hashlib

import pytest

from proxy.errors import Unavailable
from proxy.metering.store import BUSY_TRIES, find_event
from proxy.receipts import store
from proxy.receipts.appending import Appender, append_some, drain, entry_of
from proxy.receipts.receipt import payload
from proxy.receipts.verify import receipt_entry
from tests.proxy.receipts.conftest import carry
from tests.proxy.receipts.making import SECRETS


def secrets_of(_us):
    return SECRETS


def test_what_was_carried_is_logged_once_each_in_the_order_of_its_shard(any_engine):
    carry(any_engine, range(5))
    carry(any_engine, range(5, 8), "shd_b")
    assert drain(any_engine, secrets_of) == 16
    assert append_some(any_engine, secrets_of) == 0
    carry(any_engine, [8])
    assert drain(any_engine, secrets_of) == 2
    assert [store.place_of(any_engine, f"rct_{number}") for number in range(9)] == list(range(9))


def test_an_entry_is_the_hash_of_what_the_receipt_signs(engine):
    carry(engine, [1])
    drain(engine, secrets_of)
    signed = payload(find_event(engine, "rct_1"), SECRETS)
    assert list(store.read_entries(engine, 0, 1)) == [receipt_entry(signed)]
    assert entry_of(find_event(engine, "rct_1"), secrets_of).digest == hashlib.sha256(signed).digest()


def test_in_parts_it_is_the_same_log(engine, postgres_engine, monkeypatch):
    for some in (engine, postgres_engine):
        carry(some, range(40))
    drain(engine, secrets_of)
    monkeypatch.setattr("proxy.receipts.appending.RECORDS_AT_ONCE", 7)
    drain(postgres_engine, secrets_of)
    assert store.read_state(engine) == store.read_state(postgres_engine)


def test_an_answer_whose_usage_is_still_to_come_is_waited_for(engine):
    carry(engine, [1], parts=(1,))
    with pytest.raises(Unavailable, match="not in the store yet"):
        append_some(engine, secrets_of)
    carry(engine, [1], "shd_b", parts=(0,))
    drain(engine, secrets_of)
    assert store.place_of(engine, "rct_1") == 0


@pytest.mark.anyio
async def test_the_appender_goes_on_after_the_store_was_away(engine):
    carry(engine, [1])
    asked, cleared = [], asyncio.Event()

    def once_away(us):
        asked.append(us)
        if len(asked) == 1:
            raise Unavailable("the store is away", remedy="wait", code="store_unavailable")
        asyncio.run_coroutine_threadsafe(set_cleared(), loop)
        return secrets_of(us)

    async def set_cleared():
        cleared.set()

    loop = asyncio.get_running_loop()
    appender = Appender(engine, once_away, pause_s=0.01)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(appender.run())
        await cleared.wait()
        running.cancel()
    assert len(asked) == 2
    drain(engine, secrets_of)
    assert store.place_of(engine, "rct_1") == 0


def test_waiting_for_a_long_close_is_a_fault_only_after_longer_than_any_takes(engine):
    carry(engine, [1])
    is_kept = True

    def busy(us):
        if is_kept:
            raise Unavailable("somebody else writes", remedy="wait", code="store_busy")
        return secrets_of(us)

    appender = Appender(engine, busy, pause_s=0.01)
    told = []
    for _ in range(BUSY_TRIES + 1):
        appender.look()
        told.append(appender.problem)
    assert told[:-1] == [None] * BUSY_TRIES
    assert told[-1].code == "store_busy"
    is_kept = False
    appender.look()
    assert appender.problem is None
    assert store.place_of(engine, "rct_1") == 0
