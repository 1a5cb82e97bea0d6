"""An answer that a page watches: the relay's own bytes, with events of ours between them."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.access.keys import Principal
from proxy.relay.needs import PRINCIPAL
from proxy.relay.scored import Evidence, Scored, ScoredWork
from proxy.relay.watched import Watching, inner_scope, outer_headers
from proxy.wire.sse import SseDecoder
from tests import fakes
from tests.builders import DONE, SSE, World, chat_reply, chat_request, chat_stream, chunk

pytestmark = pytest.mark.anyio

APP = Principal("app", "key_1", app_id="app_1", name="test")
SENTENCES = ["The lamp burned ", "all night. ", "Nobody ", "came. "]
ASKED = {"content-type": "application/json", "cookie": "session=secret", "origin": "http://evil.example"}


class Looking:
    """Credits WORK with all that it is shown; remembers what that was."""

    def __init__(self, *, is_full: bool = False, never: bool = False) -> None:
        self.looked: list[tuple[str, str]] = []
        self.grounds: list[tuple[str, ...]] = []
        self._is_full, self._never = is_full, never
        self.again = asyncio.Event()

    def backlog_is_full(self) -> bool:
        return self._is_full

    def grounded(self, _event_id: str) -> tuple[str, ...]:
        return ("w_asked",)

    async def attribute(self, answer_id, texts, grounded=()):
        self.looked.append((answer_id, texts[0]))
        self.grounds.append(tuple(grounded))
        self.again.set()
        if self._never:
            await asyncio.Event().wait()
        evidence = (Evidence("verbatim", 0, 0, len(texts[0]), 0.9, 4, 9),)
        return Scored(unattributed_ppm=0, works=(ScoredWork(fakes.WORK, 1_000_000, evidence),), words=3)


def watched(world: World, looks: Looking, principal: Principal = APP, **options):
    def passages(work, spans):
        return [f"{work[:3]} {start}-{end}" for start, end in spans]

    watching = Watching(world.relay, looks, credited=world.relay.credits, passages=passages, **options)

    async def app(scope, receive, send):
        await watching(principal, scope, receive, send)

    return fakes.AsgiClient(app)


async def asked(world: World, looks: Looking, headers=None, body: bytes | None = None, **more):
    client = watched(world, looks, **more)
    sent = chat_request(stream=True) if body is None else body
    await client.call("POST", "/portal/playground/answers", {**ASKED, **(headers or {})}, sent, key=None)
    return client


def ours_and_theirs(body: bytes):
    frames = SseDecoder().feed(body)
    ours = [json.loads(frame.data) for frame in frames if frame.raw.startswith(b"event: endcredits\n")]
    theirs = b"".join(frame.raw for frame in frames if not frame.raw.startswith(b"event: endcredits\n"))
    return ours, theirs


async def test_what_the_relay_sends_comes_through_byte_for_byte_and_ours_stands_between():
    bare = await World(fakes.FakeBackend(chat_stream(SENTENCES), headers=SSE)).ask(chat_request(stream=True))
    client = await asked(World(fakes.FakeBackend(chat_stream(SENTENCES), headers=SSE)), Looking())
    ours, theirs = ours_and_theirs(client.body)
    assert theirs == bare.body
    assert ours[-1]["final"] is True
    assert client.is_complete


async def test_the_answer_is_metered_as_its_apps_own_request():
    world = World(fakes.FakeBackend(chat_stream(SENTENCES), headers=SSE))
    client = await asked(world, Looking())
    assert [(used.app, used.outcome) for used in world.journal.used] == [("app_1", "complete")]
    assert client.headers["x-attribution-id"] == world.journal.used[0].id


async def test_a_passage_stands_beside_its_stretch_of_the_answer():
    client = await asked(World(fakes.FakeBackend(chat_stream(SENTENCES), headers=SSE)), Looking())
    (work,) = ours_and_theirs(client.body)[0][-1]["works"]
    assert work["work"] == fakes.WORK
    assert work["evidence"] == [{"kind": "verbatim", "output": [0, 40], "score": 0.9, "passage": "w_a 4-9"}]


async def test_sentences_are_looked_at_while_the_answer_is_still_written():
    looks = Looking()

    async def pieces():
        yield chunk("The lamp burned all night. Nob")
        while b"event: endcredits" not in (await client.sent.get()).get("body", b""):
            pass
        yield chunk("ody came.", finish="stop")
        yield DONE

    client = watched(World(fakes.FakeBackend(pieces, headers=SSE)), looks)
    body = chat_request(stream=True)
    await client.call("POST", "/portal/playground/answers", ASKED, body, key=None)
    assert looks.looked[0][1] == "The lamp burned all night. "
    assert looks.looked[-1][1] == "The lamp burned all night. Nobody came."
    ours, _ = ours_and_theirs(client.body)
    assert [("final" in one, one["characters"]) for one in ours] == [(False, 27), (True, 39)]
    assert set(looks.grounds) == {("w_asked",)}


async def test_an_event_of_ours_waits_for_the_end_of_theirs():
    looks = Looking()
    half = chunk("Nobody came. ")

    async def pieces():
        yield chunk("All night. ") + half[:20]
        await looks.again.wait()
        yield half[20:] + chunk(finish="stop")
        yield DONE

    client = await asked(World(fakes.FakeBackend(pieces, headers=SSE)), looks)
    _, theirs = ours_and_theirs(client.body)
    assert half in theirs


@pytest.mark.parametrize("view", ["off", "body"])
async def test_hidden_credits_are_not_shown_on_the_way_either(view):
    looks = Looking()
    world = World(fakes.FakeBackend(chat_stream(SENTENCES), headers=SSE))
    client = await asked(world, looks, {"x-attribution": view})
    ours, _ = ours_and_theirs(client.body)
    assert bool(ours) == bool(looks.looked) == (view != "off")
    assert len(world.journal.used) == 1


async def test_a_whole_reply_and_a_refusal_pass_as_they_are():
    client = await asked(World(fakes.FakeBackend([chat_reply()])), Looking(), body=chat_request())
    assert json.loads(client.body)["attribution"]["works"]
    refused = await asked(World(), Looking(), {"x-attribution": "all"})
    assert refused.status == 400
    assert b"x-attribution" in refused.body


async def test_who_may_not_use_v1_may_not_use_it_from_a_page():
    client = await asked(World(), Looking(), principal=Principal("operator", "key_9"))
    assert client.status == 403


async def test_neither_cookie_nor_origin_of_the_page_goes_up():
    world = World(fakes.FakeBackend(chat_stream(SENTENCES), headers=SSE))
    await asked(world, Looking())
    (request,) = world.backend.requests
    assert not {"cookie", "origin", "x-csrf-token"} & set(request.headers)


async def test_when_many_texts_wait_the_answer_is_looked_at_once_and_at_its_end():
    looks = Looking(is_full=True)
    await asked(World(fakes.FakeBackend(chat_stream(SENTENCES), headers=SSE)), looks)
    assert [text for _, text in looks.looked] == ["".join(SENTENCES)]


async def test_a_scorer_that_does_not_answer_holds_up_no_end():
    client = await asked(
        World(fakes.FakeBackend(chat_stream(SENTENCES), headers=SSE)), Looking(never=True), final_s=0.01
    )
    assert client.is_complete
    assert ours_and_theirs(client.body)[0] == []


def test_a_backend_sets_no_cookie_and_sends_no_markup_to_a_page_of_ours():
    told = dict(outer_headers([
        (b"Set-Cookie", b"session=theirs"), (b"Content-Type", b"text/html"), (b"x-attribution-id", b"rct_1"),
        (b"Location", b"http://evil.example"), (b"Retry-After", b"3"),
    ]))  # fmt: skip
    assert told[b"content-type"] == b"text/plain; charset=utf-8"
    assert {b"x-attribution-id", b"Retry-After"} < set(told)
    assert not {b"Set-Cookie", b"Location"} & set(told)


def test_a_scope_is_made_anew_and_says_who_asks():
    scope = {
        "type": "http",
        "headers": [(b"cookie", b"a=b"), (b"x-attribution-top", b"3"), (b"authorization", b"x")],
        "query_string": b"a=1",
    }
    made = inner_scope(APP, scope, "POST", b"/v1/chat/completions")
    assert made["headers"] == [(b"x-attribution-top", b"3")]
    assert (made[PRINCIPAL], made["raw_path"], made["query_string"]) == (APP, b"/v1/chat/completions", b"")


async def test_a_page_is_told_the_models_that_its_key_may_use():
    world = World(fakes.FakeBackend([b'{"object":"list","data":[{"id":"small-1"}]}'], headers=[
        (b"Content-Type", b"application/json"), (b"Set-Cookie", b"a=b"),
    ]))  # fmt: skip
    watching = Watching(
        world.relay, Looking(), credited=world.relay.credits, passages=lambda _work, _spans: []
    )

    async def app(scope, receive, send):
        await watching.models(APP, scope, receive, send)

    client = fakes.AsgiClient(app)
    await client.call("GET", "/portal/playground/models", ASKED, key=None)
    assert json.loads(client.body)["data"] == [{"id": "small-1"}]
    assert "set-cookie" not in client.headers
