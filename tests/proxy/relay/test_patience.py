from __future__ import annotations

import asyncio

import pytest

from proxy.relay.patience import Patience

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request):
    return ("asyncio", {"use_uvloop": request.param == "uvloop"})


def now() -> float:
    return asyncio.get_running_loop().time()


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_wait_ends_at_its_limit():
    patience = Patience()
    with pytest.raises(TimeoutError), patience.until(now() + 0.01):
        await for_ever()
    assert not patience.is_waiting


async def test_what_comes_in_time_is_no_failure_and_the_limit_is_forgotten():
    patience = Patience()
    for _ in range(3):
        with patience.until(now() + 0.01):
            await asyncio.sleep(0)
    is_over = asyncio.Event()
    asyncio.get_running_loop().call_later(0.03, is_over.set)
    await is_over.wait()  # the timer has rung, and nobody was waiting under a limit
    patience.close()


async def test_a_later_wait_may_take_longer_than_the_one_before_it():
    patience = Patience()
    with patience.until(now() + 0.01):
        await asyncio.sleep(0)
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.03, done.set)
    with patience.until(now() + 60):
        await done.wait()
    with pytest.raises(TimeoutError), patience.until(now() + 0.01):
        await for_ever()


async def test_a_wait_without_a_limit_may_be_given_one():
    patience = Patience()
    asyncio.get_running_loop().call_soon(patience.reschedule, 0)
    with pytest.raises(TimeoutError), patience.until(None):
        await for_ever()


async def test_a_limit_that_is_moved_away_does_not_end_the_wait():
    patience = Patience()
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.03, done.set)
    asyncio.get_running_loop().call_soon(patience.reschedule, now() + 60)
    with patience.until(now() + 0.01):
        await done.wait()
    patience.close()


async def test_who_is_cancelled_by_others_hears_of_that_and_of_no_limit():
    patiences: list[Patience] = []

    async def wait() -> None:
        patiences.append(Patience())
        with patiences[0].until(now() + 60):
            await for_ever()

    task = asyncio.get_running_loop().create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    patiences[0].reschedule(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    patiences[0].close()


async def test_an_error_of_the_waits_own_goes_on():
    patience = Patience()
    with pytest.raises(LookupError), patience.until(None):
        raise LookupError
    assert not patience.is_waiting
