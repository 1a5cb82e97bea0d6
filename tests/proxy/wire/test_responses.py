"""Responses as backends write them: dozens of event types, of which four say something."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from openai.types.responses.response_stream_event import ResponseStreamEvent

from proxy.wire.errors import WireError
from proxy.wire.output import NOTHING, TextDelta, TokenCounts
from proxy.wire.responses import Responses

RESPONSES = Responses()
EVENTS = [
    get_args(member.model_fields["type"].annotation)[0]
    for member in get_args(get_args(ResponseStreamEvent)[0])
]
SPEAKING = {"response.output_text.delta", "response.completed", "response.incomplete", "response.failed",
            "response.created", "response.in_progress", "response.queued"}  # fmt: skip


def response(*texts: str, **more):
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {
        "id": "resp_1", "object": "response", "status": "completed", "model": "m2",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "name": "f", "arguments": "{}"},
            {"type": "message", "content": [*content, {"type": "refusal", "refusal": "no"}]},
        ],
        "usage": {"input_tokens": 3, "output_tokens": 5}, **more,
    }  # fmt: skip


def test_a_request_says_what_the_relay_needs():
    asked = RESPONSES.read_request(b'{"model":"m","input":"a","instructions":"be brief","background":true}')
    assert (asked.model, asked.is_streaming, asked.is_background) == ("m", False, True)
    assert RESPONSES.prompt_text(asked) == "be brief\na"
    items = (
        b'{"input":[{"role":"user","content":[{"type":"input_text","text":"b"}]},{"type":"function_call"}]}'
    )
    assert RESPONSES.prompt_text(RESPONSES.read_request(items)) == "b"
    assert RESPONSES.prompt_text(RESPONSES.read_request(b'{"input":5}')) == ""
    with pytest.raises(WireError):
        RESPONSES.read_request(b'{"model":5}')


def test_a_whole_response_says_its_output_text_and_usage():
    said = RESPONSES.read_reply(json.dumps(response("The sea", " is old.")).encode())
    assert said is not None
    assert (said.texts, said.counts, said.model) == (
        (TextDelta(0, "The sea is old."),),
        TokenCounts(3, 5),
        "m2",
    )
    assert not said.promised


@pytest.mark.parametrize(
    ("status", "answer_id", "promised"),
    [
        ("queued", "resp_1", "resp_1"),
        ("in_progress", "r-2", "r-2"),
        ("failed", "resp_1", ""),
        ("queued", "..", ""),
        ("queued", "a/b", ""),
        ("queued", "", ""),
    ],
)
def test_a_promise_is_told_from_an_answer(status, answer_id, promised):
    said = RESPONSES.read_reply(
        json.dumps({"id": answer_id, "status": status, "output": [], "usage": None}).encode()
    )
    assert said is not None
    assert (said.promised, said.counts) == (promised, None)


def test_output_that_cannot_be_read_leaves_usage_and_status():
    said = RESPONSES.read_reply(json.dumps(response(output="odd")).encode())
    assert said is not None
    assert (said.texts, said.counts) == ((), TokenCounts(3, 5))


def test_the_official_client_knows_59_kinds_of_events():
    assert len(EVENTS) == 59
    assert set(EVENTS) >= SPEAKING


@pytest.mark.parametrize("kind", [kind for kind in EVENTS if kind not in SPEAKING])
def test_every_other_event_says_nothing(kind):
    event = {"type": kind, "delta": "x", "text": "x", "response": response("x"), "sequence_number": 3}
    assert RESPONSES.read_chunk(json.dumps(event).encode()) == NOTHING


def test_a_delta_tells_its_text():
    said = RESPONSES.read_chunk(
        b'{"type":"response.output_text.delta","delta":"a","output_index":1,"logprobs":[]}'
    )
    assert said.texts == (TextDelta(0, "a"),)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_the_last_event_ends_everything_and_says_the_whole_again(kind):
    said = RESPONSES.read_chunk(json.dumps({"type": kind, "response": response("all")}).encode())
    assert (said.texts, said.whole) == ((), (TextDelta(0, "all"),))
    assert (said.finished, said.counts, said.is_end) == ((0,), TokenCounts(3, 5), True)


def test_the_first_event_names_the_model():
    said = RESPONSES.read_chunk(json.dumps({"type": "response.created", "response": response()}).encode())
    assert (said.model, said.counts, said.finished) == ("m2", None, ())
