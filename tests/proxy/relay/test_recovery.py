from __future__ import annotations

import os

import pytest

from proxy.metering.journal import Journal
from proxy.metering.pending import PendingTexts
from proxy.metering.usage import Attributed, Used
from proxy.relay.credits import credited, unscored
from proxy.relay.recovery import WaitingTexts, settle_left_over
from proxy.relay.scored import Failed
from proxy.settings import Metering
from tests.fakes import START_US, WORK, Credit, FrozenClock, scored

pytestmark = pytest.mark.anyio
HOURS_MAX = 24


class Scoring:
    """Attributes every text to one work, and remembers what it was given."""

    def __init__(self, result=None) -> None:
        self.result = result or scored()
        self.given: dict[str, dict[int, str]] = {}
        self.works: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}

    async def attribute(self, answer_id, texts, grounded=(), cited=()):
        self.given[answer_id] = dict(texts)
        self.works[answer_id] = (tuple(grounded), tuple(cited))
        return self.result


def credits_of(result):
    if isinstance(result, Failed):
        return unscored(result.reason, method="m", registry_seq=3)
    return credited(result, lambda _: Credit(WORK), registry_seq=3)


def used(answer_id: str, occurred_us: int = START_US) -> Used:
    return Used(
        id=answer_id, occurred_us=occurred_us, app="app_1", backend="b", model="m", endpoint="chat.completions",
        outcome="complete", input_tokens=1, output_tokens=1, estimated=False,
    )  # fmt: skip


def opened(tmp_path) -> tuple[Journal, PendingTexts]:
    journal = Journal.open(tmp_path / "journal", settings=Metering(), clock=FrozenClock())
    return journal, PendingTexts(tmp_path / "texts", tmp_path / "keys")


async def left_over(tmp_path, *answers: Used, texts: dict[str, dict[int, str]]) -> None:
    """What a process leaves that dies between an answer and its shares."""
    journal, pending = opened(tmp_path)
    for answer in answers:
        await journal.append(answer)
    for answer_id, by_choice in texts.items():
        WaitingTexts(pending).put(answer_id, "app_1", by_choice)
    await journal.close()


def aged(tmp_path, hours: int) -> None:
    """Let texts have been kept for so long."""
    at_s = START_US // 1_000_000 - hours * 3_600
    for path in (tmp_path / "texts").iterdir():
        os.utime(path, (at_s, at_s))


async def settle(tmp_path, scoring: Scoring) -> tuple[int, dict[str, Attributed], int]:
    journal, pending = opened(tmp_path)
    settled = await settle_left_over(journal, pending, scoring, credits_of, hours_max=HOURS_MAX)
    frames = journal.reader(0).read(below=journal.next_index, records_max=100)
    records = [frame.record() for frame in frames]
    found = {record.id: record for record in records if isinstance(record, Attributed)}
    assert len(found) == sum(isinstance(record, Attributed) for record in records), "one settlement each"
    assert journal.unsettled() == ()
    waiting = len(pending)
    await journal.close()
    return settled, found, waiting


async def test_texts_kept_together_go_when_the_last_of_them_is_settled(tmp_path):
    _, pending = opened(tmp_path)
    waiting = WaitingTexts(pending)
    waiting.put_together("app_1", {"rct_1": {0: "a"}, "rct_2": {0: "b"}})
    waiting.put("rct_3", "app_1", {0: "c"})
    counts = []
    for event_id in ("rct_1", "rct_1", "rct_3", "rct_2", "rct_4"):
        waiting.erase(event_id)
        counts.append(len(pending))
    assert counts == [2, 2, 1, 0, 0]


async def test_texts_kept_together_are_scored_each_for_its_own_answer(tmp_path):
    journal, pending = opened(tmp_path)
    for answer_id in ("rct_1", "rct_2"):
        await journal.append(used(answer_id))
    texts = {"rct_1": {0: "first"}, "rct_2": {0: "second"}, "rct_never": {0: "never recorded"}}
    WaitingTexts(pending).put_together("app_1", texts)
    await journal.close()
    scoring = Scoring()
    _, found, waiting = await settle(tmp_path, scoring)
    assert scoring.given == {"rct_1": {0: "first"}, "rct_2": {0: "second"}}
    assert (set(found), waiting) == ({"rct_1", "rct_2"}, 0)


async def test_a_text_that_waited_is_scored_as_it_would_have_been(tmp_path):
    await left_over(tmp_path, used("rct_1"), texts={"rct_1": {0: "first", 1: "second"}})
    scoring = Scoring()
    settled, found, waiting = await settle(tmp_path, scoring)
    assert settled == 1
    assert scoring.given == {"rct_1": {0: "first", 1: "second"}}
    assert [line.work for line in found["rct_1"].lines] == [WORK]
    assert waiting == 0


async def test_an_answer_whose_text_is_gone_is_nobodys_and_says_why(tmp_path):
    await left_over(tmp_path, used("rct_1"), texts={})
    _, found, _ = await settle(tmp_path, Scoring())
    assert (found["rct_1"].unattributed_ppm, found["rct_1"].reason) == (1_000_000, "not_attributed")


async def test_an_answer_that_waited_too_long_is_given_up_and_its_text_erased(tmp_path):
    await left_over(tmp_path, used("rct_1"), texts={"rct_1": {0: "text"}})
    aged(tmp_path, HOURS_MAX + 1)
    scoring = Scoring()
    _, found, waiting = await settle(tmp_path, scoring)
    assert scoring.given == {}
    assert found["rct_1"].reason == "not_attributed"
    assert waiting == 0


async def test_an_answer_given_long_ago_whose_text_waits_since_a_moment_is_scored(tmp_path):
    month_us = 30 * 86_400_000_000
    await left_over(tmp_path, used("rct_1", START_US - month_us), texts={"rct_1": {0: "of a batch"}})
    aged(tmp_path, HOURS_MAX - 1)
    scoring = Scoring()
    _, found, _ = await settle(tmp_path, scoring)
    assert scoring.given == {"rct_1": {0: "of a batch"}}
    assert [line.work for line in found["rct_1"].lines] == [WORK]


async def test_a_text_of_an_answer_that_was_never_recorded_is_erased_unread(tmp_path):
    await left_over(tmp_path, texts={"rct_9": {0: "text"}})
    scoring = Scoring()
    settled, found, waiting = await settle(tmp_path, scoring)
    assert (settled, found, waiting, scoring.given) == (0, {}, 0, {})


async def test_a_text_that_cannot_be_scored_settles_with_its_reason(tmp_path):
    await left_over(tmp_path, used("rct_1"), texts={"rct_1": {0: "text"}})
    _, found, _ = await settle(tmp_path, Scoring(Failed()))
    assert found["rct_1"].reason == "not_attributed"


async def test_settling_again_finds_nothing_left(tmp_path):
    await left_over(tmp_path, used("rct_1"), texts={"rct_1": {0: "text"}})
    await settle(tmp_path, Scoring())
    settled, _, _ = await settle(tmp_path, Scoring())
    assert settled == 0


async def test_the_works_of_the_request_and_those_cited_wait_with_the_text(tmp_path):
    journal, pending = opened(tmp_path)
    await journal.append(used("rct_" + "a" * 26))
    WaitingTexts(pending).put("rct_" + "a" * 26, "app_1", {0: "text"}, ["w_1", "w_2"], ["w_3"])
    await journal.close()
    scoring = Scoring()
    await settle(tmp_path, scoring)
    assert scoring.given == {"rct_" + "a" * 26: {0: "text"}}
    assert scoring.works == {"rct_" + "a" * 26: (("w_1", "w_2"), ("w_3",))}
