"""Whether a text is a registered work's: yes or no, of what is long enough, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import BadRequest, Unavailable
from proxy.relay.recognising import AT_ONCE, CHARACTERS_MAX, WORDS_MIN, Recognising
from proxy.relay.scored import Evidence, Failed, Scored, ScoredWork
from tests import fakes

pytestmark = pytest.mark.anyio
TEXT = "the lamp burned all night " * 10


class Answering:
    """Credits so much of any text, in stretches of this kind."""

    def __init__(self, part: float = 1.0, kind: str = "verbatim", *, fails: bool = False) -> None:
        self.part, self.kind, self.fails = part, kind, fails
        self.texts: list[str] = []

    async def attribute(self, answer_id, texts):
        self.texts.append(texts[0])
        if self.fails:
            return Failed()
        end = int(len(texts[0]) * self.part)
        evidence = (Evidence(self.kind, 0, 0, end, 0.99, 0, end),)
        return Scored(unattributed_ppm=0, works=(ScoredWork(fakes.WORK, 1_000_000, evidence),))


@pytest.mark.parametrize(
    ("part", "kind", "is_registered"),
    [(1.0, "verbatim", True), (0.6, "verbatim", True), (0.4, "verbatim", False), (1.0, "restated", False)],
)
async def test_a_text_is_recognised_when_most_of_it_stands_in_one_work(part, kind, is_registered):
    assert await Recognising(Answering(part, kind))(TEXT) is is_registered


async def test_what_many_people_write_by_chance_is_not_told():
    answering = Answering()
    with pytest.raises(BadRequest, match="too short"):
        await Recognising(answering)("word " * (WORDS_MIN - 1))
    assert answering.texts == []


async def test_of_a_long_text_the_beginning_is_enough():
    answering = Answering()
    await Recognising(answering)("word " * CHARACTERS_MAX)
    assert len(answering.texts[0]) <= CHARACTERS_MAX


async def test_what_cannot_be_told_now_is_not_told_as_a_no():
    with pytest.raises(Unavailable):
        await Recognising(Answering(fails=True))(TEXT)

    class Silent(Answering):
        async def attribute(self, answer_id, texts):
            await asyncio.Event().wait()

    with pytest.raises(Unavailable):
        await Recognising(Silent(), within_s=0.01)(TEXT)


async def test_few_are_looked_at_together():
    gate, full, running, most = asyncio.Event(), asyncio.Event(), [0], [0]

    class Counting(Answering):
        async def attribute(self, answer_id, texts):
            running[0] += 1
            most[0] = max(most[0], running[0])
            if running[0] == AT_ONCE:
                full.set()
            await gate.wait()
            running[0] -= 1
            return await super().attribute(answer_id, texts)

    recognising = Recognising(Counting())
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(recognising(TEXT))
        await full.wait()
        gate.set()
    assert most[0] == AT_ONCE
