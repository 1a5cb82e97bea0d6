"""Streams that are trees, ended anywhere: what was opened is closed, and clients can read the whole."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseIncompleteEvent, ResponseOutputItemDoneEvent, ResponseTextDoneEvent

from proxy.wire.ending import KEPT_BYTES_MAX, MessagesCutter, ResponsesCutter
from proxy.wire.sse import SseDecoder
from tests.builders import frame
from tests.scripted import TEXTS, WIRES

ASKED = {"model": "small-1", "stream": True}
RESPONSE = WIRES["/v1/responses"][1](ASKED)
MESSAGE = WIRES["/v1/messages"][1](ASKED)
FRAME_BYTES_MAX = 1 << 20


def events_in(data: bytes) -> list[dict]:
    return [json.loads(one.data) for one in SseDecoder().feed(data)]


def ended(made, events: list[bytes]) -> list[dict]:
    cutter = made(FRAME_BYTES_MAX)
    for event in events:
        cutter.saw(event)
    return events_in(cutter.ending(1))


@pytest.mark.parametrize("told", range(1, len(RESPONSE) - 1))
def test_a_response_can_be_ended_after_every_event_and_numbers_go_on(told):
    before, after = events_in(b"".join(RESPONSE[:told])), ended(ResponsesCutter, RESPONSE[:told])
    assert [event["sequence_number"] for event in after] == list(range(told, told + len(after)))
    last = ResponseIncompleteEvent.model_validate(after[-1])
    assert (last.response.status, last.response.incomplete_details.reason) == ("incomplete", "content_filter")
    assert last.response.output_text == "".join(
        event["delta"] for event in before if event["type"] == "response.output_text.delta"
    )
    opened, closed = (
        [
            event["output_index"]
            for event in [*before, *after]
            if event["type"] == f"response.output_item.{kind}"
        ]
        for kind in ("added", "done")
    )
    assert opened == closed
    for event in after[:-1]:
        kind = {
            "response.output_text.done": ResponseTextDoneEvent,
            "response.output_item.done": ResponseOutputItemDoneEvent,
        }
        if event["type"] in kind:
            kind[event["type"]].model_validate(event)


def test_what_came_before_the_text_stays_in_the_response():
    tools = WIRES["/v1/responses"][1]({**ASKED, "tools": [{"name": "look"}]})[:-1]
    call = events_in(tools[-1])[0]["item"]
    (last,) = ended(ResponsesCutter, tools)
    assert last["response"]["output"] == [call]


@pytest.mark.parametrize("told", range(1, len(MESSAGE) - 1))
def test_a_message_can_be_ended_after_every_event(told):
    before, after = events_in(b"".join(MESSAGE[:told])), ended(MessagesCutter, MESSAGE[:told])
    kinds = [event["type"] for event in [*before, *after]]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop")
    assert [event["type"] for event in after[-2:]] == ["message_delta", "message_stop"]
    assert after[-2]["delta"] == {"stop_reason": "refusal", "stop_sequence": None}
    assert isinstance(after[-2]["usage"]["output_tokens"], int)


@pytest.mark.parametrize("made", [ResponsesCutter, MessagesCutter])
@pytest.mark.parametrize(
    "events",
    [[], [b": ping\n\n"], [frame({"type": "response.output_text.delta"})], [frame([1])], [b"data: {broken\n\n"],
     [*RESPONSE[:2], frame({"type": "response.content_part.done", "output_index": 9})], [*MESSAGE[:1], frame({"type": "content_block_start"})]],
)  # fmt: skip
def test_what_is_not_understood_goes_on(made, events):
    if (made is MessagesCutter) == (events[:1] == MESSAGE[:1]) or not events[1:]:
        assert ended(made, events) == []


def test_more_than_is_kept_goes_on():
    long = frame(
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "x" * 500_000}
    )
    assert ended(ResponsesCutter, [*RESPONSE[:4], *[long] * (KEPT_BYTES_MAX // 500_000 + 1)]) == []


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(1, 2_000), max_size=8))
def test_an_ending_does_not_depend_on_where_the_network_cut(cuts):
    data = b"".join(RESPONSE[: 4 + len(TEXTS)])
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert ended(ResponsesCutter, pieces) == ended(ResponsesCutter, [data])
