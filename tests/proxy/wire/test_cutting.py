"""An answer ended in the backend's place: as a backend would, and with every other byte as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.cutting import cut_reply, ending
from tests.builders import chat_reply, chunk


def test_a_stream_ends_with_the_ids_of_its_last_event_and_a_reason_for_every_choice():
    last = chunk("said ")
    said, done = ending(chunk("before ") + last, 2).decode().removesuffix("\n\n").split("\n\n")
    event = json.loads(said.removeprefix("data: "))
    before = json.loads(last.decode().removeprefix("data: "))
    assert {name: event[name] for name in ("id", "object", "created", "model")} == {
        name: before[name] for name in ("id", "object", "created", "model")
    }
    assert [(one["index"], one["delta"], one["finish_reason"]) for one in event["choices"]] == [
        (0, {}, "content_filter"),
        (1, {}, "content_filter"),
    ]
    assert done == "data: [DONE]"


@pytest.mark.parametrize("piece", [b"", b": ping\n\n", b"data: {broken\n\n", b"data: [DONE]\n\n", b"\xff"])
def test_a_stream_that_cannot_be_read_goes_on(piece: bytes):
    assert ending(piece, 1) == b""


@given(st.text(max_size=60), st.integers(0, 60))
def test_a_text_is_ended_at_any_code_point_and_every_other_byte_stays(text: str, end: int):
    body = chat_reply(text)
    cut = cut_reply(body, {0: end})
    before, after = json.loads(body), json.loads(cut)
    assert after["choices"][0]["message"]["content"] == text[:end]
    assert after["choices"][0]["finish_reason"] == "content_filter"
    before["choices"][0]["message"]["content"] = text[:end]
    before["choices"][0]["finish_reason"] = "content_filter"
    assert before == after


def test_other_choices_and_what_cannot_be_read_stay():
    body = chat_reply("a b c")
    assert cut_reply(body, {1: 0}) == body
    for odd in (b"", b"[]", b'{"choices":[{"index":0,"message":{"content":[{"type":"text","text":"a"}]}}]}'):
        assert cut_reply(odd, {0: 0}) == odd
