"""An answer ended in the backend's place: as a backend would, and with every other byte as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.cutting import ChoicesCutter, Cutter, cut_chat, cut_completions, cut_message, cut_response
from proxy.wire.responses import Responses
from tests.builders import chat_reply, chunk


def ending(piece: bytes, choices: int) -> bytes:
    cutter = ChoicesCutter({"delta": {}})
    cutter.saw(piece)
    return cutter.ending(choices)


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
    cut = cut_chat(body, {0: end})
    before, after = json.loads(body), json.loads(cut)
    assert after["choices"][0]["message"]["content"] == text[:end]
    assert after["choices"][0]["finish_reason"] == "content_filter"
    before["choices"][0]["message"]["content"] = text[:end]
    before["choices"][0]["finish_reason"] = "content_filter"
    assert before == after


def test_other_choices_and_what_cannot_be_read_stay():
    body = chat_reply("a b c")
    assert cut_chat(body, {1: 0}) == body
    for odd in (b"", b"[]", b'{"choices":[{"index":0,"message":{"content":[{"type":"text","text":"a"}]}}]}'):
        assert cut_chat(odd, {0: 0}) == odd


def test_a_legacy_completion_ends_with_an_empty_text():
    cutter = ChoicesCutter({"text": ""})
    cutter.saw(b'data: {"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":"a"}]}\n\n')
    said = json.loads(cutter.ending(1).split(b"\n\n")[0].removeprefix(b"data: "))
    assert said["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "content_filter"}]


@pytest.mark.parametrize(
    ("piece", "is_between"),
    [(b"", False), (b"data: 1\n\n", True), (b"data: 1\r\n\r\n", True), (b"data: 1\n", False)],
)
def test_only_between_two_events_may_a_stream_be_ended(piece, is_between):
    cutter = Cutter()
    cutter.saw(piece)
    assert (cutter.is_between, cutter.ending(1)) == (is_between, b"")


def test_a_legacy_completions_choice_is_ended():
    body = json.dumps({"choices": [{"index": 0, "text": "a b c", "finish_reason": "stop"}]}).encode()
    (choice,) = json.loads(cut_completions(body, {0: 3}))["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("a b", "content_filter")
    assert cut_completions(body, {1: 0}) == body


PARTS = st.lists(st.text(max_size=8), min_size=1, max_size=4)


@given(PARTS, st.integers(0, 40))
def test_a_responses_joined_text_is_ended_at_any_code_point(texts, end):
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    whole = {"id": "resp_1", "status": "completed", "incomplete_details": None, "model": "m", "output": [
        {"type": "reasoning", "summary": []}, {"type": "message", "status": "completed", "content": content}], "usage": None}  # fmt: skip
    cut = cut_response(json.dumps(whole).encode(), {0: end})
    said = Responses().read_reply(cut)
    assert "".join(delta.text for delta in said.texts) == "".join(texts)[:end]
    read = json.loads(cut)
    is_cut = end < len("".join(texts))
    assert (read["status"], read["incomplete_details"]) == (
        ("incomplete", {"reason": "content_filter"}) if is_cut else ("completed", None)
    )
    assert read["output"][0] == whole["output"][0]
    assert read["output"][1]["status"] == read["status"]


@given(PARTS, st.integers(0, 40))
def test_a_messages_joined_text_is_ended_at_any_code_point(texts, end):
    blocks = [
        {"type": "tool_use", "id": "t", "input": {}},
        *({"type": "text", "text": text} for text in texts),
    ]
    body = json.dumps({"content": blocks, "stop_reason": "end_turn", "usage": {"output_tokens": 7}}).encode()
    read = json.loads(cut_message(body, {0: end}))
    assert "".join(block.get("text", "") for block in read["content"]) == "".join(texts)[:end]
    assert read["stop_reason"] == ("refusal" if end < len("".join(texts)) else "end_turn")
    assert read["content"][0] == blocks[0]


def test_a_response_that_says_no_details_is_given_them():
    body = b'{"output":[{"type":"message","content":[{"type":"output_text","text":"abc"}]}],"status":"completed"}'
    assert json.loads(cut_response(body, {0: 1}))["incomplete_details"] == {"reason": "content_filter"}


@given(st.binary(max_size=80))
def test_what_cannot_be_read_stays_as_it_was(junk):
    for cut in (cut_response, cut_message, cut_completions, cut_chat):
        assert cut(junk, {}) == junk
    for odd in (b"", b"[]", b'{"output":7}', b'{"content":"a"}'):
        assert cut_response(odd, {0: 0}) == cut_message(odd, {0: 0}) == odd
