from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from attribution import Attributor, SourceWork, build_index
from proxy.clock import SystemClock
from proxy.observability import Metrics
from proxy.relay.attributing import BYTES_A_TOKEN, Attributing
from proxy.relay.scored import PPM, Failed, Scored
from proxy.settings import Attribution, Settings
from tests.processes import children

pytestmark = pytest.mark.anyio
TOY = (sys.executable, "-P", str(Path(__file__).with_name("toy_scorer.py")))
SOON_MS = 20_000  # a bound for a slow machine, not a wait


class Heard:
    """Events and late results as they come, and a way to wait for the next."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.late: dict[str, Scored | Failed] = {}
        self.something = asyncio.Event()

    def info(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))
        self.something.set()

    warning = info

    async def on_late(self, answer_id: str, result: Scored | Failed) -> None:
        self.late[answer_id] = result
        self.something.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON_MS / 1000):
            while not is_so():
                self.something.clear()
                await self.something.wait()

    def named(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.events if name == event]


@asynccontextmanager
async def attributing(
    heard: Heard,
    index: Callable[[], Path | None] = lambda: None,
    command: tuple[str, ...] = TOY,
    **changes: object,
) -> AsyncIterator[Attributing]:
    settings = Settings(attribution=msgspec.structs.replace(Attribution(), **changes))
    made = Attributing(
        settings, index=index, metrics=Metrics(), clock=SystemClock(), log=heard, command=command
    )
    made.on_late = heard.on_late
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


async def open_gate(gate: Path) -> None:
    await asyncio.to_thread(gate.write_text, "go")


def shares(result: Scored | Failed | None) -> dict[str, int]:
    assert isinstance(result, Scored)
    return {work.work: work.ppm for work in result.works}


async def test_an_answer_offered_in_pieces_is_scored_whole(heard: Heard):
    async with attributing(heard) as made:
        assert (made.healthy, made.method) == (True, "toy/empty")
        for piece in ("one w", "_a thr", "ee fo", "ur"):
            made.offer("rct_1", 0, piece)
        result = await made.settle("rct_1", deadline_ms=SOON_MS)
        assert shares(result) == {"w_a": 250_000}
        assert isinstance(result, Scored)
        assert (result.words, result.method, result.truncated) == (4, "toy/empty", False)
        assert not made.backlog_is_full()


async def test_choices_weigh_by_their_words(heard: Heard):
    async with attributing(heard) as made:
        made.offer("rct_1", 0, "w_a w_a w_a ")
        made.offer("rct_1", 1, "w_b")
        result = await made.settle("rct_1", deadline_ms=SOON_MS)
        assert shares(result) == {"w_a": 750_000, "w_b": 250_000}
        assert isinstance(result, Scored)
        assert [work.evidence[0].choice for work in result.works] == [0, 1]


async def test_an_answer_without_text_is_unattributed_at_once(heard: Heard):
    async with attributing(heard) as made:
        result = await made.settle("rct_1", deadline_ms=0)
        assert result == Scored(unattributed_ppm=PPM, method="toy/empty")


async def test_late_shares_arrive_later_and_are_never_guessed(heard: Heard, gate: Path):
    async with attributing(heard) as made:
        made.offer("rct_1", 0, f"w_a GATE:{gate}")
        assert await made.settle("rct_1", deadline_ms=1) is None
        assert heard.late == {}
        await open_gate(gate)
        await heard.until(lambda: "rct_1" in heard.late)
        assert shares(heard.late["rct_1"]) == {"w_a": 500_000}


async def test_a_caller_who_is_cancelled_counts_as_late(heard: Heard, gate: Path):
    async with attributing(heard) as made:
        made.offer("rct_1", 0, f"w_a GATE:{gate}")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(made.settle("rct_1", deadline_ms=SOON_MS))
            await asyncio.sleep(0)
            task.cancel()
        await open_gate(gate)
        await heard.until(lambda: "rct_1" in heard.late)


async def test_late_shares_that_cannot_be_recorded_are_offered_again(
    heard: Heard, gate: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("proxy.relay.attributing.LATE_RETRY_S", 0.0)
    refusals = iter([OSError("disk full")])

    async def once_refused(answer_id: str, result: Scored | Failed) -> None:
        for refusal in refusals:
            raise refusal
        await heard.on_late(answer_id, result)

    async with attributing(heard) as made:
        made.on_late = once_refused
        made.offer("rct_1", 0, f"w_a GATE:{gate}")
        assert await made.settle("rct_1", deadline_ms=1) is None
        await open_gate(gate)
        await heard.until(lambda: "rct_1" in heard.late)
        assert heard.named("late_shares_refused") == [{"id": "rct_1", "error": "OSError"}]


async def test_a_scorer_that_is_killed_takes_no_text_with_it(heard: Heard, gate: Path):
    async with attributing(heard) as made:
        made.offer("rct_1", 0, f"w_a GATE:{gate} and w_b")
        assert await made.settle("rct_1", deadline_ms=100) is None
        made.offer("rct_2", 0, "half of w_c ")
        kill_the_scorer()
        await heard.until(lambda: bool(heard.named("scorer_died")))
        assert not made.healthy
        await heard.until(lambda: len(heard.named("index_opened")) == 2)
        await open_gate(gate)
        await heard.until(lambda: "rct_1" in heard.late)
        assert shares(heard.late["rct_1"]) == {"w_a": 250_000, "w_b": 250_000}
        made.offer("rct_2", 0, "it")
        assert shares(await made.settle("rct_2", deadline_ms=SOON_MS)) == {"w_c": 250_000}


async def test_a_text_that_kills_three_scorers_fails_and_others_are_served(heard: Heard):
    async with attributing(heard) as made:
        made.offer("rct_bad", 0, "w_a DIE")
        made.offer("rct_good", 0, "w_b")
        async with asyncio.TaskGroup() as group:
            bad = group.create_task(made.settle("rct_bad", deadline_ms=SOON_MS))
            good = group.create_task(made.settle("rct_good", deadline_ms=SOON_MS))
        assert bad.result() == Failed(detail="the scorer died on it")
        assert shares(good.result()) == {"w_b": PPM}
        died = heard.named("scorer_died")
        assert [fields["while_scoring"] for fields in died] == ["rct_bad"] * 3
        assert {fields["status"] for fields in died} == {-signal.SIGKILL}


async def test_a_text_that_the_engine_refuses_fails_without_being_quoted(heard: Heard):
    async with attributing(heard) as made:
        made.offer("rct_1", 0, "secret RAISE")
        result = await made.settle("rct_1", deadline_ms=SOON_MS)
        assert result == Failed(reason="not_attributed", detail="LookupError")
        assert "secret" not in repr(heard.events)
        made.offer("rct_2", 0, "w_a")
        assert shares(await made.settle("rct_2", deadline_ms=SOON_MS)) == {"w_a": PPM}


async def test_a_new_index_serves_new_answers_and_old_ones_finish_on_theirs(
    heard: Heard, tmp_path: Path, gate: Path
):
    now = [tmp_path / "first"]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    async with attributing(heard, lambda: now[0]) as made:
        made.offer("rct_old", 0, f"w_a PUSHGATE:{gate}")
        await open_gate(gate)  # returns once the engine has opened the other end: it has begun
        now[0] = tmp_path / "second"
        assert await made.reload()
        made.offer("rct_new", 0, "w_b")
        new = await made.settle("rct_new", deadline_ms=SOON_MS)
        old = await made.settle("rct_old", deadline_ms=SOON_MS)
        assert isinstance(new, Scored)
        assert isinstance(old, Scored)
        assert (old.method, new.method, made.method) == ("toy/first", "toy/second", "toy/second")


async def test_a_broken_new_index_leaves_the_old_one_serving_even_in_the_next_scorer(
    heard: Heard, tmp_path: Path
):
    now = [tmp_path / "first"]
    now[0].mkdir()
    async with attributing(heard, lambda: now[0]) as made:
        now[0] = tmp_path / "absent"
        assert not await made.reload()
        assert heard.named("index_refused") == [
            {"cause": "absent is broken", "remedy": "build it again", "serving": True}
        ]
        assert (made.healthy, made.method) == (True, "toy/first")
        kill_the_scorer()
        await heard.until(lambda: len(heard.named("index_opened")) == 2)
        assert heard.named("index_opened")[1]["index"] == "first"
        made.offer("rct_1", 0, "w_a")
        assert shares(await made.settle("rct_1", deadline_ms=SOON_MS)) == {"w_a": PPM}


async def test_with_an_empty_catalogue_nothing_is_owed_and_no_text_is_kept(heard: Heard, tmp_path: Path):
    now = [tmp_path / "nobody"]
    now[0].mkdir()
    async with attributing(heard, lambda: now[0], backlog_bytes=1) as made:
        made.asked("rct_1", "w_a")
        made.offer("rct_1", 0, "w_a w_b")
        made.offer("rct_gone", 0, "w_a")
        made.forget("rct_gone")
        assert not made.backlog_is_full()
        assert (made.grounded("rct_1"), made.copied("rct_1")) == ((), ())
        nothing = Scored(unattributed_ppm=PPM, method="toy/nobody")
        assert await made.settle("rct_1", deadline_ms=1) == nothing
        assert await made.attribute("rct_2", {0: "w_a"}) == nothing


async def test_an_answer_owed_to_nobody_is_pending_where_nobody_waits_for_its_shares(
    heard: Heard, tmp_path: Path
):
    (tmp_path / "nobody").mkdir()
    async with attributing(heard, lambda: tmp_path / "nobody") as made:
        made.offer("rct_1", 0, "w_a")
        assert await made.settle("rct_1", deadline_ms=0) is None
        await heard.until(lambda: "rct_1" in heard.late)
        assert heard.late["rct_1"] == Scored(unattributed_ppm=PPM, method="toy/nobody")


async def test_an_answer_begun_before_the_first_work_was_registered_stays_nobody_s(
    heard: Heard, tmp_path: Path
):
    now = [tmp_path / "nobody"]
    for name in ("nobody", "first"):
        (tmp_path / name).mkdir()
    async with attributing(heard, lambda: now[0]) as made:
        made.offer("rct_old", 0, "w_a ")
        now[0] = tmp_path / "first"
        assert await made.reload()
        made.offer("rct_old", 0, "w_a")
        made.offer("rct_new", 0, "w_a")
        assert shares(await made.settle("rct_old", deadline_ms=SOON_MS)) == {}
        assert shares(await made.settle("rct_new", deadline_ms=SOON_MS)) == {"w_a": PPM}


async def test_without_an_engine_answers_are_pending_until_there_is_one(heard: Heard, tmp_path: Path):
    index = tmp_path / "index"
    async with attributing(heard, lambda: index) as made:
        assert (made.healthy, made.method) == (False, "")
        made.offer("rct_1", 0, "w_a")
        assert await made.settle("rct_1", deadline_ms=1) is None
        index.mkdir()
        assert await made.reload()
        await heard.until(lambda: "rct_1" in heard.late)
        assert shares(heard.late["rct_1"]) == {"w_a": PPM}


async def test_a_scorer_that_cannot_start_leaves_the_proxy_running(heard: Heard):
    async with attributing(heard, command=("/nonexistent/scorer",)) as made:
        assert not made.healthy
        assert await made.count_tokens("four score and seven") == -(-20 // BYTES_A_TOKEN)
    assert heard.named("scorer_not_started")


async def test_only_the_first_bytes_of_a_very_long_answer_are_scored_and_it_says_so(heard: Heard):
    async with attributing(heard, text_bytes_max=9) as made:
        made.offer("rct_1", 0, "w_a ü w_b w_c")
        made.offer("rct_1", 0, "w_d")
        result = await made.settle("rct_1", deadline_ms=SOON_MS)
        assert isinstance(result, Scored)
        assert result.truncated
        assert [work.work for work in result.works] == ["w_", "w_a"]


async def test_waiting_texts_fill_the_backlog_until_they_are_settled_or_forgotten(heard: Heard):
    async with attributing(heard, backlog_bytes=10) as made:
        made.offer("rct_1", 0, "12345")
        assert not made.backlog_is_full()
        made.offer("rct_2", 0, "ünf_")
        assert made.backlog_is_full()
        made.forget("rct_1")
        assert not made.backlog_is_full()
        made.offer("rct_3", 0, "12345")
        assert made.backlog_is_full()
        await made.settle("rct_3", deadline_ms=SOON_MS)
        assert not made.backlog_is_full()


async def test_half_a_surrogate_pair_keeps_its_place(heard: Heard):
    async with attributing(heard) as made:
        made.offer("rct_1", 0, "\ud83d w_a")
        result = await made.settle("rct_1", deadline_ms=SOON_MS)
        assert isinstance(result, Scored)
        assert result.works[0].evidence[0].start == 2


async def test_texts_that_were_pending_before_a_restart_are_attributed(heard: Heard):
    async with attributing(heard) as made:
        assert shares(await made.attribute("rct_1", {0: "w_a", 1: "w_b"})) == {"w_a": 500_000, "w_b": 500_000}
        assert await made.attribute("rct_2", {}) == Scored(unattributed_ppm=PPM, method="toy/empty")
        assert heard.late == {}


async def test_tokens_are_counted_beyond_the_length_of_one_message(heard: Heard):
    async with attributing(heard) as made:
        assert await made.count_tokens("") == 0
        assert await made.count_tokens("word " * 10_000) == 10_000


async def test_the_real_engine_gives_the_same_shares_here_as_in_process(heard: Heard, tmp_path: Path):
    poem = (
        "The lamplighter's heron counted eleven copper bells before the harbour froze. Nobody paid the toll."
    )
    index = tmp_path / "index"
    build_index(
        [SourceWork("w_poem", poem, 1), SourceWork("w_other", "A manual for lifts.", 2)], index, threads=1
    )
    answer = f"As the poem says: {poem} And then the boats went home, one after another, without their names."
    alone = Attributor.open(index).attribute(answer)
    async with attributing(heard, lambda: index, command=()) as made:
        assert made.method == alone.method
        for at in range(0, len(answer), 7):
            made.offer("rct_1", 0, answer[at : at + 7])
        result = await made.settle("rct_1", deadline_ms=SOON_MS)
        assert isinstance(result, Scored)
        assert shares(result) == {share.work_id: share.ppm for share in alone.shares}
        assert shares(result)["w_poem"] > 0
        assert (result.unattributed_ppm, result.words) == (alone.unattributed_ppm, alone.words)
        (poems,) = (share for share in alone.shares if share.work_id == "w_poem")
        found = [(one.kind, one.start, one.end, one.score) for one in result.works[0].evidence]
        assert found == [(one.kind, one.start, one.end, one.score) for one in poems.matches]
        assert any(answer[one.start : one.end] in poem for one in poems.matches)
        assert await made.count_tokens(answer) == Attributor.open(None).count_tokens(answer) > 0


async def test_the_scorer_is_gone_after_stop(heard: Heard):
    async with attributing(heard):
        (scorer,) = children(b"toy_scorer")
    assert scorer not in children(b"toy_scorer")


def kill_the_scorer() -> None:
    (scorer,) = children(b"toy_scorer")
    os.kill(scorer, signal.SIGKILL)
