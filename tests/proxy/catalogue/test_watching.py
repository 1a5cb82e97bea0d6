import subprocess
import sys

import anyio
import pytest

from proxy.catalogue import indexing
from proxy.catalogue.store import Catalogue
from proxy.catalogue.watching import IndexWatcher, SnapshotRefresher
from proxy.clock import RandomIds, SystemClock
from proxy.errors import Unavailable

pytestmark = pytest.mark.anyio

WITHDRAW = """
import sys
from proxy.catalogue.store import Catalogue
from proxy.clock import RandomIds, SystemClock
from proxy.database import open_engine
engine = open_engine(sys.argv[1])
Catalogue(engine, clock=SystemClock(), ids=RandomIds()).withdraw(sys.argv[2])
engine.dispose()
"""


@pytest.fixture
def lamp(catalogue, new_work):
    (outcome,) = catalogue.add_works([new_work("lamp")])
    return outcome.work_id


async def until(refresher, work_id, verdict):
    changed = anyio.Event()
    refresher.on_change.append(
        lambda snapshot: changed.set() if snapshot.credit(work_id).verdict == verdict else None
    )
    with anyio.fail_after(1):
        await changed.wait()


async def test_a_withdrawal_through_another_connection_acts_within_a_second(catalogue, second_engine, lamp):
    refresher = SnapshotRefresher(catalogue)
    other = Catalogue(second_engine, clock=SystemClock(), ids=RandomIds())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refresher.run)
        await until(refresher, lamp, "paid")
        await anyio.to_thread.run_sync(other.withdraw, lamp)
        await until(refresher, lamp, "prohibited")
        tasks.cancel_scope.cancel()


async def test_a_withdrawal_by_another_process_is_seen_by_the_next_look(catalogue, store_url, lamp):
    refresher = SnapshotRefresher(catalogue)
    assert await refresher.refresh()
    done = await anyio.run_process(
        [sys.executable, "-c", WITHDRAW, store_url, lamp], stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert await refresher.refresh()
    assert refresher.snapshot.credit(lamp).verdict == "prohibited"


async def test_nothing_is_told_when_nothing_changed(catalogue, lamp):
    refresher = SnapshotRefresher(catalogue)
    told = []
    refresher.on_change.append(told.append)
    assert await refresher.refresh()
    assert not await refresher.refresh()
    assert told == [refresher.snapshot]


async def test_an_empty_catalogue_is_loaded_too(catalogue):
    refresher = SnapshotRefresher(catalogue)
    assert await refresher.refresh()
    assert refresher.loaded
    assert not await refresher.refresh()


async def test_without_the_store_the_last_snapshot_is_kept_and_the_store_is_found_again(
    engine, catalogue, lamp, tmp_path
):
    refresher = SnapshotRefresher(catalogue)
    await refresher.refresh()
    engine.dispose()
    (tmp_path / "registry.db").rename(tmp_path / "gone.db")
    (tmp_path / "registry.db").mkdir()
    assert not await refresher.refresh()
    assert refresher.away
    assert refresher.snapshot.credit(lamp).verdict == "paid"
    (tmp_path / "registry.db").rmdir()
    (tmp_path / "gone.db").rename(tmp_path / "registry.db")
    catalogue.withdraw(lamp)
    assert await refresher.refresh()
    assert not refresher.away
    assert refresher.snapshot.credit(lamp).verdict == "prohibited"


async def test_an_error_nobody_expected_does_not_end_the_looking(tmp_path):
    class Stumbling:
        def __init__(self):
            self.left = 2
            self.reached = anyio.Event()

        def stumble(self):
            self.left -= 1
            if self.left >= 0:
                raise RuntimeError("a bug of ours")
            self.reached.set()

    source, index = Stumbling(), Stumbling()

    class Watcher(IndexWatcher):
        async def look(self):
            index.stumble()
            return False

    class Refresher(SnapshotRefresher):
        async def refresh(self):
            source.stumble()
            return False

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Refresher(source, refresh_ms=10).run)
        tasks.start_soon(Watcher(tmp_path, Taking(), refresh_ms=10).run)
        with anyio.fail_after(5):
            await source.reached.wait()
            await index.reached.wait()
        tasks.cancel_scope.cancel()


class Taking:
    def __init__(self):
        self.taken = []
        self.refuses = False

    async def __call__(self, path):
        if self.refuses:
            raise Unavailable("damaged")
        self.taken.append(path)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "index"


def swap(root, name):
    (root / name).mkdir(parents=True)
    indexing._point(root, name)
    return root / name


async def test_a_swap_is_told_once(root):
    taking = Taking()
    watcher = IndexWatcher(root, taking)
    assert not await watcher.look()
    first = swap(root, f"{1:020d}")
    assert await watcher.look()
    assert not await watcher.look()
    second = swap(root, f"{2:020d}")
    assert await watcher.look()
    assert taking.taken == [first, second]
    assert watcher.path == second


async def test_a_swap_while_serving_acts_within_a_second(root):
    swapped = anyio.Event()

    async def take(path):
        swapped.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(IndexWatcher(root, take).run)
        await anyio.to_thread.run_sync(swap, root, f"{1:020d}")
        with anyio.fail_after(1):
            await swapped.wait()
        tasks.cancel_scope.cancel()


async def test_an_index_that_cannot_be_taken_leaves_the_one_in_use(root):
    taking = Taking()
    watcher = IndexWatcher(root, taking)
    first = swap(root, f"{1:020d}")
    await watcher.look()
    taking.refuses = True
    swap(root, f"{2:020d}")
    assert not await watcher.look()
    (root / "current").write_text("nonsense")
    assert not await watcher.look()
    assert watcher.path == first
    taking.refuses = False
    third = swap(root, f"{3:020d}")
    assert await watcher.look()
    assert watcher.path == third
