"""Long work has a process of its own, is done once at a time, and ends."""

from __future__ import annotations

import asyncio

import pytest

from proxy.portal.jobs import Job
from proxy.settings import Settings

pytestmark = pytest.mark.anyio


def job(tmp_path, module, *, longest_s=60.0, is_busy=False):
    """A job and the reasons for which it came to nothing."""
    failed = []

    def told(began_us, ended_us, why):
        assert 0 < began_us <= ended_us
        failed.append(why)

    settings = Settings(data_dir=tmp_path)
    return Job(settings, module, is_busy=lambda: is_busy, failed=told, longest_s=longest_s), failed


async def test_it_runs_once_at_a_time_and_again_when_it_is_over(tmp_path):
    made, failed = job(tmp_path, "this")  # a module that prints a poem
    assert not made.is_running()
    assert made.start()
    assert not made.start()
    assert made.is_running()
    await made.running
    assert not made.is_running()
    assert made.start()
    await made.running
    assert failed == []


async def test_what_another_process_does_is_not_done_twice(tmp_path):
    made, _ = job(tmp_path, "this", is_busy=True)
    assert made.is_running()
    assert not made.start()
    assert made.running is None


async def test_one_that_breaks_or_takes_too_long_says_so(tmp_path):
    made, failed = job(tmp_path, "no_such_module_at_all")
    assert made.start()
    await made.running
    assert failed == ["its process ended with 1"]
    made, failed = job(tmp_path, "http.server", longest_s=0)
    assert made.start()
    await made.running
    assert failed == ["its process ended with -9"]


async def test_a_server_that_stops_leaves_no_process_behind(tmp_path):
    made, failed = job(tmp_path, "asyncio")  # waits for words on its standard input, which never come
    assert made.start()
    await asyncio.sleep(0)
    made.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await made.running
    assert failed == []
