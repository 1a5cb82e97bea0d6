import asyncio
import threading
from pathlib import Path

import pytest

from proxy import portal
from proxy.asking import Threads, of_store, on_disk
from proxy.errors import Unavailable

pytestmark = pytest.mark.anyio


async def test_what_is_asked_is_answered():
    assert await of_store(sorted, [2, 1], reverse=True) == [2, 1]
    assert await on_disk(len, "text") == 4


async def test_who_is_asked_and_says_nothing_is_waited_for_a_bounded_time():
    silent, threads = threading.Event(), Threads("store", 1, 0.05)
    try:
        for _ in range(2):  # the second finds the only thread taken
            with pytest.raises(Unavailable, match="has not answered") as refused:
                await threads(silent.wait)
            assert refused.value.code == "store_unavailable"
    finally:
        silent.set()
    assert await threads(len, "it is back") == 10


async def test_a_silent_store_keeps_nothing_from_the_disk():
    silent, store, disk = threading.Event(), Threads("store", 2, 30.0), Threads("disk", 1)
    asked = [asyncio.get_running_loop().create_task(store(silent.wait)) for _ in range(5)]
    try:
        assert await disk(len, "text") == 4
    finally:
        silent.set()
        await asyncio.gather(*asked)


async def test_a_time_out_of_the_call_is_its_own():
    def refuses() -> None:
        raise TimeoutError("of the network")

    with pytest.raises(TimeoutError, match="of the network"):
        await of_store(refuses)


def test_no_page_takes_the_threads_in_which_names_are_resolved():
    pages = Path(portal.__file__).parent.glob("*.py")
    assert [page.name for page in pages if "asyncio.to_thread" in page.read_text("utf-8")] == []
