"""Every family of the wire through the exchange and the relay: what is held, spliced, metered and untouched."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.relay.actions import Forward, Record, Send, Settle
from proxy.relay.credits import credited
from proxy.relay.exchange import Exchange
from proxy.wire import endpoint_for
from proxy.wire.headers import Wishes
from tests import fakes
from tests.builders import DONE, SSE, World, frame
from tests.proxy.wire.test_multipart import form

pytestmark = pytest.mark.anyio
CREDITS = credited(fakes.scored(), {fakes.WORK: fakes.Credit(fakes.WORK)}.get, registry_seq=5)
JSON = [(b"Content-Type", b"application/json")]
FORM = {"content-type": "multipart/form-data; boundary=xx"}


def named(kind: str, **more: Any) -> bytes:
    """One event with its name, as Responses, Messages, audio and pictures write them."""
    return f"event: {kind}\n".encode() + frame({"type": kind, **more})


def response(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "small-1-2026",
            "output": [{"type": "message", "content": [part]}],
            "usage": {"input_tokens": 11, "output_tokens": 7}, **more}  # fmt: skip


def message_delta(**delta: Any) -> bytes:
    return named("message_delta", delta=delta, usage={"output_tokens": 7})


@dataclass(frozen=True)
class Stream:
    """A recorded way to answer. held: the event that takes the field; text and counts: what must be heard."""

    path: str
    request: bytes
    events: list[bytes]
    held: bytes
    text: dict[int, str]
    counts: tuple[int | None, int | None]
    status: str = "settled"
    headers: dict[str, str] = field(default_factory=dict)


def completion(text: str, *, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    return frame(
        {
            "model": "small-1-2026",
            "choices": [{"index": index, "text": text, "finish_reason": finish}],
            **more,
        }
    )


USAGE = {"prompt_tokens": 11, "completion_tokens": 7}
ASKED = {"model": "small-1", "stream": True}
STREAMS = {
    "completions": Stream(
        "/v1/completions",
        json.dumps({**ASKED, "prompt": ["a", "b"], "stream_options": {"include_usage": True}}).encode(),
        [completion("The "), completion("Old", index=1), completion("sea", finish="stop"), completion(" oak", index=1, finish="length"),
         frame({"choices": [], "usage": USAGE}), DONE],
        completion(" oak", index=1, finish="length"), {0: "The sea", 1: "Old oak"}, (11, 7),
    ),
    "responses": Stream(
        "/v1/responses", json.dumps({**ASKED, "input": "a"}).encode(),
        [named("response.created", response=response("", status="in_progress", output=[], usage=None), sequence_number=0),
         named("response.reasoning_text.delta", delta="hm", sequence_number=1),
         named("response.output_text.delta", delta="The ", sequence_number=2),
         named("response.function_call_arguments.delta", delta="{}", sequence_number=3),
         named("response.unheard_of", thing=[1], sequence_number=4),
         named("response.output_text.delta", delta="sea", logprobs=[], sequence_number=5),
         named("response.output_text.done", text="The sea", sequence_number=6),
         named("response.completed", response=response("The sea"), sequence_number=7)],
        named("response.completed", response=response("The sea"), sequence_number=7), {0: "The sea"}, (11, 7),
    ),
    "responses taken up in the middle": Stream(
        "/v1/responses", json.dumps({**ASKED, "input": "a"}).encode(),
        [named("response.incomplete", response=response("The sea")), DONE],
        named("response.incomplete", response=response("The sea")), {0: "The sea"}, (11, 7),
    ),
    "messages": Stream(
        "/v1/messages", json.dumps({**ASKED, "messages": [{"role": "user", "content": "a"}]}).encode(),
        [named("message_start", message={"model": "small-1-2026", "usage": {"input_tokens": 4, "cache_read_input_tokens": 7, "output_tokens": 1}}),
         named("ping"),
         named("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
         named("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
         named("content_block_delta", index=1, delta={"type": "text_delta", "text": "The "}),
         named("content_block_delta", index=1, delta={"type": "text_delta", "text": "sea"}),
         named("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": "{}"}),
         message_delta(stop_reason="tool_use"), message_delta(stop_reason="end_turn"), named("message_stop")],
        message_delta(stop_reason="end_turn"), {0: "The sea"}, (11, 7),
    ),
    "transcriptions": Stream(
        "/v1/audio/transcriptions", form((b'name="model"', b"small-1"), (b'name="stream"', b"true")),
        [named("transcript.text.delta", delta="The "), named("transcript.text.delta", delta="sea"),
         named("transcript.text.done", text="The sea", usage={"input_tokens": 11, "output_tokens": 7})],
        named("transcript.text.done", text="The sea", usage={"input_tokens": 11, "output_tokens": 7}), {0: "The sea"}, (11, 7),
        headers=FORM,
    ),
    "speech": Stream(
        "/v1/audio/speech", json.dumps({"model": "small-1", "input": "The sea", "stream_format": "sse"}).encode(),
        [named("speech.audio.delta", audio="AAAA"), named("speech.audio.done", usage={"input_tokens": 11, "output_tokens": 7})],
        named("speech.audio.done", usage={"input_tokens": 11, "output_tokens": 7}), {0: "The sea"}, (11, 7),
    ),
    "pictures": Stream(
        "/v1/images/generations", json.dumps({**ASKED, "prompt": "a"}).encode(),
        [named("image_generation.partial_image", b64_json="AAAA" * 3000),
         named("image_generation.completed", b64_json="BBBB", usage={"input_tokens": 11, "output_tokens": 7})],
        named("image_generation.completed", b64_json="BBBB", usage={"input_tokens": 11, "output_tokens": 7}), {}, (11, 7), "off",
    ),
}  # fmt: skip


def play(
    stream: Stream, pieces, *, until: int | None = None, **wishes
) -> tuple[Exchange, bytes, bytes, list[Record]]:
    """Run a whole stream; return the exchange, what left before the end was recorded, all bytes, the records."""
    endpoint = endpoint_for("POST", stream.path)
    assert endpoint is not None
    exchange = Exchange("rct_a", endpoint, Wishes(**wishes), method="m")
    raw = [(name.encode(), value.encode()) for name, value in stream.headers.items()]
    (forward,) = exchange.client_asked(raw, stream.request)
    assert isinstance(forward, Forward)
    assert forward.body == stream.request
    sent: list[bytes] = []
    early: list[bytes] = []
    records: list[Record] = []

    def act(actions):
        for action in actions:
            match action:
                case Send(data):
                    sent.append(data)
                case Settle():
                    act(exchange.attributed(CREDITS))
                case Record():
                    records.append(action)
                    early.extend(sent)
                    act(exchange.recorded())

    act(exchange.upstream_began(200, SSE))
    for place, piece in enumerate(pieces):
        if place == until:
            exchange.client_gone()
        act(exchange.upstream_sent(piece))
    act(exchange.upstream_ended())
    assert exchange.is_over
    return exchange, b"".join(early), b"".join(sent), records


def without_field(data: bytes) -> tuple[bytes, dict[str, Any] | None]:
    place = data.find(b',"attribution":{"id":"rct_a"')
    if place < 0:
        return data, None
    value, length = json.JSONDecoder().raw_decode(data[place + 15 :].decode())
    return data[:place] + data[place + 15 + length :], value


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(min_value=0, max_value=20_000), max_size=20))
def test_every_byte_but_the_field_arrives_wherever_the_network_cuts(stream, cuts):
    whole = b"".join(stream.events)
    places = sorted({0, len(whole), *(cut % len(whole) for cut in cuts)})
    exchange, early, data, records = play(stream, [whole[a:b] for a, b in itertools.pairwise(places)])
    bare, value = without_field(data)
    assert bare == whole
    assert value is not None
    assert value["status"] == stream.status
    assert exchange.told.texts() == stream.text
    assert [(record.counts.input, record.counts.output, record.outcome) for record in records] == [
        (*stream.counts, "complete")
    ]
    assert len(early) <= whole.index(stream.held)  # the event with the field waited for the disk


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_only_the_end_waits_and_everything_before_it_is_sent_at_once(stream):
    _, early, data, _ = play(stream, stream.events)
    before = b"".join(stream.events[: stream.events.index(stream.held)])
    if stream.path == "/v1/messages":  # the first of two ends: which one is the last is known at the stop
        before = b"".join(stream.events[:-3])
    assert early == before
    assert b'"attribution"' in data[data.index(stream.held[:60], len(before)) :]


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("view", ["off", "headers"])
def test_without_the_field_a_stream_is_untouched_and_metered_all_the_same(stream, view):
    _, _, data, records = play(stream, stream.events, view=view)
    assert data == b"".join(stream.events)
    assert len(records) == 1


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_what_a_client_left_is_read_on_and_metered_as_cut(stream):
    exchange, _, _, records = play(stream, stream.events, until=0)
    assert [record.outcome for record in records] == ["cut"]
    assert (records[0].counts.input, records[0].counts.output) == stream.counts
    assert records[0].media.images == (stream.path == "/v1/images/generations")
    assert exchange.told.texts() == stream.text


# -- through the relay ------------------------------------------------------------------------------------------


async def ask(
    world: World, path: str, body: bytes, headers: dict[str, str] | None = None
) -> fakes.AsgiClient:
    client = fakes.AsgiClient(world.relay)
    await client.call("POST", path, headers or {"content-type": "application/json"}, body)
    return client


WHOLE = {
    "completions": ("/v1/completions", {"prompt": "a"},
                    {"choices": [{"index": 0, "text": "The sea", "logprobs": {"tokens": []}}], "usage": USAGE}),
    "responses": ("/v1/responses", {"input": "a", "previous_response_id": "resp_0"}, response("The sea")),
    "messages": ("/v1/messages", {"messages": []},
                 {"type": "message", "content": [{"type": "tool_use", "input": {}}, {"type": "text", "text": "The sea"}],
                  "usage": {"input_tokens": 11, "output_tokens": 7}}),
}  # fmt: skip


@pytest.mark.parametrize(("path", "more", "reply"), WHOLE.values(), ids=WHOLE)
async def test_a_whole_reply_carries_the_field_at_its_top_and_is_metered(path, more, reply):
    raw = json.dumps(reply, indent=1).encode()
    world = World(fakes.FakeBackend(pieces=[raw]))
    client = await ask(world, path, json.dumps({"model": "small-1", **more}).encode())
    bare, value = without_field(
        client.body.replace(b'"rct_' + client.headers["x-attribution-id"][4:].encode(), b'"rct_a')
    )
    assert bare == raw
    assert value is not None
    assert client.headers["x-attribution-status"] == "settled"
    assert client.headers["x-attribution"].startswith(fakes.WORK)
    (used,) = world.journal.used
    endpoint = endpoint_for("POST", path)
    assert endpoint is not None
    assert (used.endpoint, used.input_tokens, used.output_tokens, used.estimated) == (
        endpoint.name,
        11,
        7,
        False,
    )
    assert world.attributing.offered[used.id] == [(0, "The sea")]


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "text/vtt", "application/x-subrip"])
async def test_plain_transcriptions_carry_their_shares_in_headers_only(kind):
    raw = b"WEBVTT\n\n00:00.000 --> 00:02.000\nThe sea\n"
    world = World(fakes.FakeBackend(pieces=[raw[:9], raw[9:]], headers=[(b"content-type", kind.encode())]))
    body = form((b'name="model"', b"small-1"), (b'name="response_format"', b"vtt"),
                (b'name="file"; filename="a.mp3"', b"\xff\xfb" * 99))  # fmt: skip
    client = await ask(world, "/v1/audio/translations", body, FORM)
    assert client.body == raw
    assert client.headers["x-attribution-status"] == "settled"
    assert client.headers["x-attribution"].startswith(fakes.WORK)
    assert world.backend.bodies == [body]
    (used,) = world.journal.used
    assert (used.endpoint, used.model, used.estimated) == ("audio.translations", "small-1", True)
    assert world.attributing.offered[used.id] == [(0, "The sea")]


async def test_a_json_transcription_carries_the_field():
    world = World(
        fakes.FakeBackend(pieces=[b'{"text":"The sea","usage":{"input_tokens":11,"output_tokens":7}}'])
    )
    client = await ask(world, "/v1/audio/transcriptions", form((b'name="model"', b"small-1")), FORM)
    assert json.loads(client.body)["attribution"]["works"][0]["work"] == fakes.WORK
    assert (world.journal.used[0].input_tokens, world.journal.used[0].output_tokens) == (11, 7)


async def test_speech_is_sent_on_as_it_comes_and_its_text_is_attributed():
    pieces = [b"ID3" + bytes([number]) * 50 for number in range(4)]
    world = World(fakes.FakeBackend(pieces=pieces, headers=[(b"content-type", b"audio/mpeg")]))
    client = await ask(world, "/v1/audio/speech", b'{"model":"small-1","input":"The sea is old","voice":"a"}')
    assert client.body == b"".join(pieces)
    assert [message["body"] for message in client.messages[1:4]] == pieces[:3]
    assert client.headers["x-attribution-status"] == "pending"
    (used,) = world.journal.used
    assert world.attributing.offered[used.id] == [(0, "The sea is old")]
    assert (used.endpoint, used.input_tokens, used.output_tokens, used.estimated) == (
        "audio.speech",
        4,
        0,
        True,
    )
    assert world.attributing.deadlines_ms == [0]  # nobody waits: the shares are at the id
    assert world.pending.texts[used.id][1] == {0: "The sea is old"}


async def test_a_full_backlog_refuses_only_what_would_be_scored():
    world = World(fakes.FakeBackend(pieces=[b'{"data":[],"usage":{"prompt_tokens":3}}']))
    world.attributing.is_full = True
    assert (await ask(world, "/v1/embeddings", b'{"model":"small-1","input":"a"}')).status == 200
    assert (await ask(world, "/v1/completions", b'{"model":"small-1","prompt":"a"}')).status == 503


async def test_refused_speech_owes_nobody():
    world = World(fakes.FakeBackend(pieces=[b'{"error":{}}'], status=400))
    client = await ask(world, "/v1/audio/speech", b'{"model":"small-1","input":"The sea is old"}')
    assert (client.status, client.body) == (400, b'{"error":{}}')
    assert world.journal.records == []
    assert world.attributing.offered == {}


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/videos"])
async def test_pictures_are_metered_and_say_that_they_are_not_attributed(path):
    raw = b'{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":11,"output_tokens":7}}'
    world = World(fakes.FakeBackend(pieces=[raw]))
    client = await ask(world, path, b'{"model":"small-1","prompt":"a lighthouse"}')
    value = json.loads(client.body)["attribution"]
    assert (value["status"], value["reason"]) == ("off", "not_attributed")
    assert client.headers["x-attribution-status"] == "off"
    assert "x-attribution" not in client.headers
    assert (world.journal.used[0].input_tokens, world.journal.used[0].output_tokens) == (11, 7)
    (shares,) = world.journal.attributed
    assert (shares.unattributed_ppm, shares.reason) == (1_000_000, "not_attributed")


async def test_a_picture_without_usage_is_counted_by_its_prompt_and_marked():
    world = World(fakes.FakeBackend(pieces=[b'{"data":[{"url":"https://p.example"}]}']))
    body = form((b'name="model"', b"small-1"), (b'name="prompt"', b"an old lighthouse"),
                (b'name="image"; filename="a.png"', b"\x89PNG"))  # fmt: skip
    await ask(world, "/v1/images/edits", body, FORM)
    (used,) = world.journal.used
    assert (used.endpoint, used.input_tokens, used.output_tokens, used.estimated) == (
        "images.edits",
        3,
        0,
        True,
    )


# Grains: 10 and 20 a token, 1000 an image, 1 a millisecond.
PRICED = {
    "price_of": lambda _model, _at, i, o, images, ms: ("p1", 10 * i + 20 * o + 1000 * images + ms, "USD")
}
USED = {"input_tokens": 11, "output_tokens": 7}
DRAWN = [named("image_generation.partial_image", b64_json="AA", partial_image_index=0),
         named("image_generation.completed", b64_json="AAAA", usage=USED),
         named("image_generation.completed", b64_json="BBBB", usage=USED), DONE]  # fmt: skip
HEARD = form((b'name="model"', b"small-1"), (b'name="file"; filename="a.mp3"', b"\xff\xfb" * 99))
SPOKEN = [named("transcript.text.delta", delta="The sea"),
          named("transcript.text.done", text="The sea", usage={"type": "duration", "seconds": 9})]  # fmt: skip
OF_MEDIA = {
    "images": (
        "/v1/images/generations", b'{"model":"small-1","prompt":"a","n":2}', {},
        [json.dumps({"data": [{"b64_json": "AAAA"}, {"b64_json": "BBBB"}], "usage": USED}).encode()], (11, 7, 2, 0),
    ),
    "an image of which no tokens are told": (
        "/v1/images/edits", form((b'name="model"', b"small-1"), (b'name="prompt"', b"an old lighthouse")), FORM,
        [b'{"data":[{"url":"https://p.example"}]}'], (3, 0, 1, 0),
    ),
    "a stream of images": (
        "/v1/images/generations", b'{"model":"small-1","prompt":"a","n":2,"stream":true}', {}, DRAWN, (11, 7, 2, 0),
    ),
    "a transcription": (
        "/v1/audio/transcriptions", HEARD, FORM,
        [b'{"text":"The sea","usage":{"type":"duration","seconds":8.5}}'], (0, 2, 0, 8_500),
    ),
    "a translation in the verbose form": (
        "/v1/audio/translations", HEARD, FORM, [b'{"text":"The sea","duration":8.4700002,"segments":[]}'], (0, 2, 0, 8_471),
    ),
    "a streamed transcription": ("/v1/audio/transcriptions", HEARD, FORM, SPOKEN, (0, 2, 0, 9_000)),
    "a video": (
        "/v1/videos", b'{"model":"small-1","prompt":"the sea","seconds":"8"}', {},
        [b'{"id":"video_1","object":"video","status":"queued","progress":0,"model":"small-1","seconds":"8"}'],
        (2, 0, 0, 8_000),
    ),
    "a video that goes on from one of 8 seconds": (
        "/v1/videos/extensions", b'{"prompt":"the sea","seconds":"4","video":{"id":"video_1"}}', {},
        [b'{"id":"video_2","object":"video","status":"queued","seconds":"12"}'], (2, 0, 0, 4_000),
    ),
    "a video that could not be made": (
        "/v1/videos", b'{"model":"small-1","prompt":"the sea","seconds":"8"}', {},
        [b'{"id":"video_1","object":"video","status":"failed","seconds":"8"}'], (2, 0, 0, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("path", "body", "headers", "pieces", "expected"), OF_MEDIA.values(), ids=OF_MEDIA)
async def test_images_and_time_are_metered_beside_the_tokens_and_priced_with_them(
    path, body, headers, pieces, expected
):
    is_stream = len(pieces) > 1
    kind = {"headers": [(b"content-type", b"text/event-stream")]} if is_stream else {}
    world = World(fakes.FakeBackend(pieces=pieces, **kind), **PRICED)
    client = await ask(world, path, body, headers or None)
    assert client.status == 200
    (used,) = world.journal.used
    given, told, images, milliseconds = expected
    assert (used.input_tokens, used.output_tokens, used.images, used.milliseconds) == expected
    assert used.price_grains == 10 * given + 20 * told + 1000 * images + milliseconds
    assert (used.price_version, used.outcome) == ("p1", "complete")


async def test_a_stream_that_breaks_off_has_the_images_that_were_finished():
    async def broken():
        for piece in DRAWN[:2]:
            yield piece
        raise httpx.ReadError("gone")

    world = World(fakes.FakeBackend(broken, headers=[(b"content-type", b"text/event-stream")]), **PRICED)
    await ask(world, "/v1/images/generations", b'{"model":"small-1","prompt":"a","n":2,"stream":true}')
    (used,) = world.journal.used
    assert (used.outcome, used.images, used.price_grains) == ("cut", 1, 10 * 11 + 20 * 7 + 1000)


async def test_a_refusal_that_tells_of_images_has_made_none():
    refusal = json.dumps(
        {"error": {}, "data": [{"url": "u"}], "usage": {**USED, "output_tokens": 0}}
    ).encode()
    world = World(fakes.FakeBackend(pieces=[refusal], status=400), **PRICED)
    await ask(world, "/v1/images/generations", b'{"model":"small-1","prompt":"a"}')
    (used,) = world.journal.used
    assert (used.outcome, used.input_tokens, used.images, used.milliseconds) == ("failed", 11, 0, 0)


async def test_looking_at_a_video_and_fetching_it_meters_nothing_again():
    made = b'{"id":"video_1","object":"video","status":"completed","model":"small-1","seconds":"8"}'
    world = World(fakes.FakeBackend(pieces=[made]), **PRICED)
    await ask(world, "/v1/videos", b'{"model":"small-1","prompt":"a","seconds":"8"}')
    for path in ("/v1/videos/video_1", "/v1/videos/video_1/content", "/v1/videos"):
        client = fakes.AsgiClient(world.relay)
        await client.call("GET", path, {}, b"")
        assert client.status == 200
    assert [used.milliseconds for used in world.journal.used] == [8_000]


async def test_images_of_an_answer_that_the_disk_refused_are_booked_with_it_later():
    world = World(fakes.FakeBackend(pieces=[b'{"data":[{"url":"https://p.example"}]}']), **PRICED)
    world.journal.is_refusing = True
    client = await ask(world, "/v1/images/generations", b'{"model":"small-1","prompt":"a"}')
    assert client.status == 503
    assert [(used.images, used.outcome) for used in world.journal.used] == [(1, "cut")]


@pytest.mark.parametrize(
    ("path", "reply", "tokens"),
    [
        ("/v1/embeddings", b'{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":11,"total_tokens":11}}', (11, 0, False)),
        ("/v1/moderations", b'{"id":"modr-1","results":[{"flagged":false}]}', (2, 0, True)),
        (
            "/v1/responses/compact",
            b'{"output":[{"type":"compaction","encrypted_content":"x"}],"usage":{"input_tokens":90,"output_tokens":12}}',
            (90, 12, False),
        ),
    ],
)  # fmt: skip
async def test_measures_are_metered_and_their_bytes_are_untouched(path, reply, tokens):
    world = World(fakes.FakeBackend(pieces=[reply]))
    client = await ask(world, path, b'{"model":"small-1","input":["The","sea"]}')
    assert client.body == reply
    assert client.headers["x-attribution-status"] == "off"
    (used,) = world.journal.used
    assert (used.input_tokens, used.output_tokens, used.estimated) == tokens
    assert [shares.reason for shares in world.journal.attributed] == ["no_text"]


async def test_a_request_without_a_model_goes_up_as_it_is():
    world = World(fakes.FakeBackend(pieces=[json.dumps(response("The sea")).encode()]))
    body = b'{"prompt":{"id":"pmpt_1"}}'
    client = await ask(world, "/v1/responses", body)
    assert (client.status, world.backend.bodies) == (200, [body])
    assert world.journal.used[0].model == "small-1-2026"


# -- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_our_errors_on_messages_have_anthropics_shape(path):
    client = fakes.AsgiClient(World().relay)
    await client.call("POST", path, {}, b"{}", key=None)
    error = json.loads(client.body)
    assert client.status == 401
    assert (error["type"], error["error"]["type"]) == ("error", "authentication_error")


async def test_a_messages_request_that_cannot_be_read_is_refused_in_that_shape():
    client = await ask(World(), "/v1/messages", b'{"model":5}')
    error = json.loads(client.body)
    assert (client.status, error["type"], error["error"]["param"]) == (400, "error", "model")


async def test_a_backend_that_fails_is_told_in_that_shape():
    world = World(fakes.FakeBackend(error=httpx.ConnectError("no")))
    client = await ask(world, "/v1/messages", b'{"model":"small-1","messages":[]}')
    error = json.loads(client.body)
    assert (client.status, error["error"]["type"], error["error"]["code"]) == (
        502,
        "api_error",
        "backend_unreachable",
    )


async def test_anthropics_own_errors_pass():
    raw = b'{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"req_1"}'
    world = World(fakes.FakeBackend(pieces=[raw], status=529))
    client = await ask(world, "/v1/messages", b'{"model":"small-1","messages":[]}')
    assert (client.status, client.body) == (529, raw)
    assert world.journal.used == []
