import asyncio
import threading

import pytest
import structlog

from proxy.billing import retaining, retention_store
from proxy.billing.periods import DAY_US
from proxy.billing.retaining import Retainer
from proxy.settings import Retention

pytestmark = pytest.mark.anyio
RULES = Retention(usage_days=30)


def of(books, folder, rules=RULES):
    return Retainer(books.engine, rules, folder, seal=lambda _: "sealed", clock=books.clock, first_s=0)


@pytest.fixture
def later(books):
    books.clock.advance(60 * DAY_US)
    return books


async def test_it_lets_go_by_itself_and_says_so(later, tmp_path):
    with structlog.testing.capture_logs() as logs:
        await asyncio.to_thread(_unhurried(of(later, tmp_path)).once)
    assert [(one["event"], one["period"], one["answers"]) for one in logs] == [
        ("answers_left", "2026-11", 7),
        ("answers_left", "2026-12", 2),
    ]


def _unhurried(retainer):
    retainer._rest = lambda _seconds: None
    return retainer


async def test_what_fails_is_told_and_ends_nothing(later, tmp_path):
    (tmp_path / "archive").write_text("in the way")
    with structlog.testing.capture_logs() as logs:
        of(later, tmp_path).once()
    assert [(one["event"], one["code"]) for one in logs] == [("answers_not_let_go", "archive_unwritable")]


async def test_a_server_that_stops_stops_it_at_its_next_rest(later, tmp_path):
    retainer, reached = of(later, tmp_path), threading.Event()
    rest = retainer._rest

    def reaching(seconds):
        reached.set()
        retainer._stopping.wait()
        rest(seconds)

    retainer._rest = reaching
    async with asyncio.TaskGroup() as group:
        task = group.create_task(retainer.run())
        await asyncio.to_thread(reached.wait)
        task.cancel()
    assert [one.state for one in retention_store.standings(later.engine, RULES, later.clock.now_us())] == [
        "due",
        "due",
    ]


async def test_a_policy_that_keeps_everything_has_nothing_to_look_for(later, tmp_path):
    await of(later, tmp_path, Retention(usage_days=0)).run()
    assert not (tmp_path / "archive").exists()


def test_it_looks_once_a_day():
    assert retaining.EVERY_S == DAY_US // 1_000_000
