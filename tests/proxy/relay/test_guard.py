"""What may be repeated, decided; and a stream that a real client sees end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from openai import AsyncOpenAI

from proxy.catalogue.works import EXCERPT_WORDS
from proxy.relay.guard import ends, limits, replications
from proxy.relay.scored import Copied
from proxy.settings import Guard, Settings
from proxy.wire import endpoint_for
from tests import fakes
from tests.builders import DONE, SSE, World, chunk, frame
from tests.live import Live, live, settings_in
from tests.scripted import TEXTS, WIRES

pytestmark = pytest.mark.anyio
CUT = Guard(action="cut", excerpt_words=5, prohibited_words=2)


def copied(work: str = fakes.WORK, words: int = 9, choice: int = 0, crossed=(40, 12)) -> Copied:
    return Copied(work, choice, words, 3, 70, crossed)


def allowing(verdict: str):
    return {fakes.WORK: fakes.Credit(fakes.WORK, verdict=verdict)}.get


def test_a_work_that_denies_its_use_has_the_smaller_limit():
    assert [(one.limit, one.at) for one in replications([copied()], allowing("paid"), CUT)] == [(5, 40)]
    assert [(one.limit, one.at) for one in replications([copied()], allowing("prohibited"), CUT)] == [(2, 12)]


def test_within_the_limit_or_erased_or_off_nothing_is_said():
    assert not replications([copied(crossed=(-1, 12))], allowing("paid"), CUT)
    assert not replications([copied(work="w_gone")], allowing("paid"), CUT)
    assert not replications([copied()], allowing("paid"), Guard(action="off"))
    assert limits(Guard(action="off")) == ()
    assert limits(CUT) == (5, 2, *EXCERPT_WORDS)


def test_a_creators_own_limit_holds_for_their_work_and_a_denial_before_it():
    crossed = (40, 12, *range(101, 101 + len(EXCERPT_WORDS)))

    def told(words, verdict="paid"):
        credit = fakes.Credit(fakes.WORK, verdict=verdict, excerpt_words=words)
        return [
            (one.limit, one.at)
            for one in replications([copied(crossed=crossed)], {fakes.WORK: credit}.get, CUT)
        ]

    assert told(25) == [(25, 101)]
    assert told(1_000) == [(1_000, 100 + len(EXCERPT_WORDS))]
    assert told(None) == [(5, 40)]
    assert told(7) == [(5, 40)], "what is no limit of ours is the operator's"
    assert told(25, "prohibited") == [(2, 12)]


def test_a_choice_ends_at_the_first_limit_and_only_where_the_operator_says_so():
    two = [copied(crossed=(40, 30)), copied(crossed=(20, 10)), copied(choice=1, crossed=(50, 50))]
    assert ends(replications(two, allowing("paid"), CUT)) == {0: 20, 1: 50}
    assert ends(replications(two, allowing("paid"), Guard())) == {}


async def registered(app: Live) -> str:
    (work,) = app.register("The barge carried tar past the lock at dawn, and nobody paid the toll.")
    await app.running.registry.refresh()
    return work


WORDS_A_SENTENCE = 2  # of the work, in the backend's sentences below


async def paced(app: Live, words: list[str], seen: list[str], ahead: int):
    """A backend that writes a sentence only when the scorer has seen all but the last `ahead` before it."""
    attributing = app.running.attributing
    for word in words:
        seen.append(word)
        yield chunk(word)
        if word.endswith(". "):
            awaited = sum(one.startswith("w_") for one in seen) - ahead * WORDS_A_SENTENCE
            with anyio.fail_after(20):
                while awaited > CUT.prohibited_words and awaited > sum(
                    one.words for one in attributing.copied(next(iter(attributing._kept)))
                ):
                    await anyio.lowlevel.checkpoint()
    yield chunk(finish="stop")
    yield frame(b"[DONE]")


@pytest.mark.parametrize("ahead", [0, 2])
async def test_a_stream_ends_as_many_sentences_after_the_limit_as_the_scorer_is_behind_at_most(
    tmp_path: Path, ahead: int
):
    async with live(settings_in(tmp_path, guard=CUT)) as app:
        work = await registered(app)
        sentence = f"He reads {work} aloud and {work} again today. "
        words = re.findall(r"\S+\s*", sentence * 12)
        seen: list[str] = []
        app.backend.pieces = lambda: paced(app, words, seen, ahead)
        app.backend.headers = SSE
        key = app.key()["authorization"].removeprefix("Bearer ")
        client = AsyncOpenAI(base_url=f"{app.base}/v1", api_key=key)
        text, reasons, field = "", [], None
        async for event in await client.chat.completions.create(
            model="small-1", messages=[{"role": "user", "content": "read on"}], stream=True
        ):
            text += event.choices[0].delta.content or ""
            reasons.append(event.choices[0].finish_reason)
            field = (event.model_extra or {}).get("attribution") or field
        await client.close()
        assert reasons[-1] == "content_filter"
        # The limit is crossed by the sixth word of the work, in the third sentence.
        assert 3 <= text.count("today.") <= 3 + ahead
        assert text == sentence * text.count("today.") or ahead
        assert field is not None
        assert [(one["work"], one["limit"]) for one in field["replication"]] == [(work, 5)]
        assert app.running.metrics.guarded.labels("cut")._value.get() == 1
        assert len(seen) < len(words)


async def test_a_whole_reply_is_shortened_to_the_limit_and_every_other_byte_stays(tmp_path: Path):
    async with live(settings_in(tmp_path, guard=CUT)) as app:
        work = await registered(app)
        app.answers(f"So: {work} " * 8 + "end")
        reply = (await app.chat(app.key())).json()
        assert reply["choices"][0]["message"]["content"] == (f"So: {work} " * 5).rstrip()
        assert reply["choices"][0]["finish_reason"] == "content_filter"
        assert reply["attribution"]["replication"][0]["words"] == 8


async def test_where_the_operator_only_flags_nothing_is_left_out(tmp_path: Path):
    flag = Guard(action="flag", excerpt_words=5, prohibited_words=2)
    async with live(settings_in(tmp_path, guard=flag)) as app:
        work = await registered(app)
        for is_stream in (False, True):
            text = f"So: {work} " * 8 + "end"
            app.answers(text, stream=is_stream)
            reply = await app.chat(app.key(), stream=is_stream)
            assert "content_filter" not in reply.text
            assert f'"replication":[{{"work":"{work}","words":8,"limit":5' in reply.text
        assert app.running.metrics.guarded.labels("flagged")._value.get() == 2


# -- every wire that tells text
# -------------------------------------------------------------------------------------------


def guarded_world(path: str) -> World:
    """A relay whose scorer sees too much of a work once the first words of the text have passed."""
    events = [event for event in WIRES[path][1]({"model": "small-1"}) if event != DONE]

    async def pieces():
        for event in events:
            if TEXTS[1].encode() in event or rb"\u201cdark" in event:
                copied = (Copied(fakes.WORK, 0, 9, 0, 20, (0, 0)),)
                made.attributing.copies = copied
            yield event

    made = World(fakes.FakeBackend(pieces, headers=SSE), settings=Settings(guard=CUT))
    return made


async def asked_of(made: World, path: str, **more: Any) -> fakes.AsgiClient:
    client = fakes.AsgiClient(made.relay)
    body = {"model": "small-1", "prompt": "a", "input": "a", "messages": [], **more}
    await client.call("POST", path, {"content-type": "application/json"}, json.dumps(body).encode())
    return client


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/v1/chat/completions", b'"finish_reason":"content_filter"'),
        ("/v1/completions", b'"finish_reason":"content_filter"'),
        ("/v1/responses", b'"incomplete_details":{"reason":"content_filter"}'),
        ("/v1/messages", b'"stop_reason":"refusal"'),
    ],
)
async def test_a_stream_of_every_wire_is_ended_in_its_own_words(path: str, reason: bytes):
    made = guarded_world(path)
    client = await asked_of(made, path, stream=True)
    assert client.is_complete
    assert reason in client.body
    text = client.body.decode()
    assert "The keeper lit the lamp" in text
    assert "went round it" not in text
    assert text.count('"attribution"') == 1, "the last event carries the field"
    (used,) = made.journal.used
    # Counted by us: what the ending says is not what the backend reported.
    told = len(TEXTS[0].split())
    assert (used.outcome, used.estimated, used.output_tokens) == ("cut", True, told)
    assert made.metrics.guarded.labels("cut")._value.get() == 1


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/messages"])
async def test_a_whole_reply_of_every_wire_is_shortened(path: str):
    whole = WIRES[path][0]({"model": "small-1"})
    scored = msgspec.structs.replace(fakes.scored(), copied=(Copied(fakes.WORK, 0, 9, 0, 20, (11, 11)),))
    made = World(fakes.FakeBackend([json.dumps(whole).encode()]), settings=Settings(guard=CUT), result=scored)
    client = await asked_of(made, path)
    said = endpoint_for("POST", path).read_reply(client.body)
    assert [delta.text for delta in said.texts] == [TEXTS[0][:11]]
    assert json.loads(client.body)["attribution"]["replication"][0]["limit"] == 5
    assert b"content_filter" in client.body or b"refusal" in client.body


async def test_a_transcription_is_flagged_and_never_cut():
    scored = msgspec.structs.replace(fakes.scored(), copied=(Copied(fakes.WORK, 0, 9, 0, 20, (1, 1)),))
    made = World(fakes.FakeBackend([b'{"text":"a b c"}']), settings=Settings(guard=CUT), result=scored)
    client = await asked_of(made, "/v1/audio/transcriptions")
    assert json.loads(client.body)["text"] == "a b c"
    assert json.loads(client.body)["attribution"]["replication"][0]["words"] == 9
