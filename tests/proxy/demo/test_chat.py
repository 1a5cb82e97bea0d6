"""The demonstration backend's shapes, as plain values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.answers import load_repertoire
from proxy.demo.chat import (
    CHOICES_MAX,
    FINGERPRINT,
    MODEL,
    Refusal,
    choices_for,
    chunks,
    completion,
    count_tokens,
    decode_request,
)

REPERTOIRE = load_repertoire()


def request(question="What do tides decide?", **fields):
    return decode_request(
        json.dumps({"messages": [{"role": "user", "content": question}], **fields}).encode()
    )


def streamed(asked):
    return list(chunks(asked, choices_for(asked, REPERTOIRE), "chatcmpl-demo-1", 7))


@given(st.text(max_size=80), st.integers(1, CHOICES_MAX), st.one_of(st.none(), st.integers(1, 60)))
def test_a_stream_carries_the_same_text_as_the_json_reply(question, n, limit) -> None:
    asked = request(question, n=n, max_tokens=limit, stream_options={"include_usage": True})
    whole = completion(asked, choices_for(asked, REPERTOIRE), "chatcmpl-demo-1", 7)
    texts, finished = [""] * n, [None] * n
    *parts, last = streamed(asked)
    for part in parts:
        [choice] = part["choices"]
        assert finished[choice["index"]] is None, "nothing follows the finish_reason chunk of a choice"
        texts[choice["index"]] += choice["delta"].get("content", "")
        finished[choice["index"]] = choice["finish_reason"]
    assert texts == [choice["message"]["content"] for choice in whole["choices"]]
    assert finished == [choice["finish_reason"] for choice in whole["choices"]]
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]


def test_a_stream_begins_with_the_role_of_each_choice() -> None:
    first, second = streamed(request(n=2))[:2]
    assert [first["choices"][0]["index"], second["choices"][0]["index"]] == [0, 1]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_usage_is_streamed_only_when_asked_for() -> None:
    assert all("usage" not in part for part in streamed(request()))
    *parts, last = streamed(request(stream_options={"include_usage": True}))
    assert all(part["usage"] is None for part in parts)
    assert (
        last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]
    )


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("ééé", 2)])
def test_a_token_is_four_bytes_of_utf8_and_a_rest_counts_as_one(text, tokens) -> None:
    assert count_tokens(text) == tokens


def test_an_answer_over_its_limit_is_cut_and_says_so() -> None:
    [choice] = choices_for(request(max_completion_tokens=9), REPERTOIRE)
    assert choice.finish_reason == "length"
    assert count_tokens(choice.text) == 9


def test_every_reply_says_that_it_is_a_demonstration() -> None:
    asked = request()
    for reply in (completion(asked, choices_for(asked, REPERTOIRE), "x", 7), *streamed(asked)):
        assert reply["model"] == MODEL
        assert reply["system_fingerprint"] == FINGERPRINT


def test_tools_are_ignored_until_a_call_is_demanded() -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    assert choices_for(request(tools=tools), REPERTOIRE)[0].text
    asked = request(tools=tools, tool_choice="required")
    message = completion(asked, choices_for(asked, REPERTOIRE), "x", 7)["choices"][0]
    assert message["finish_reason"] == "tool_calls"
    assert message["message"]["tool_calls"][0]["function"]["name"] == "look_up"
    calls = [part["choices"][0]["delta"].get("tool_calls") for part in streamed(asked)]
    assert [call[0]["function"]["name"] for call in calls if call] == ["look_up"]


def test_the_last_thing_the_user_said_chooses_the_answer() -> None:
    turns = [
        {"role": "user", "content": "bees"},
        {"role": "assistant", "content": "sourdough"},
        {"role": "user", "content": [{"type": "text", "text": "a glacier"}]},
        {"role": "system", "content": "chess"},
    ]
    assert decode_request(json.dumps({"messages": turns}).encode()).question == "a glacier"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"{}", 400),
        (b'{"messages": []}', 400),
        (b'{"messages": [{"role": "user"}], "n": 0}', 400),
        (b'{"messages": [{"role": "user"}], "n": 9}', 400),
        (b'{"messages": [{"role": "user"}], "model": "other-1"}', 404),
    ],
)
def test_what_cannot_be_answered_is_refused(body, status) -> None:
    with pytest.raises(Refusal) as refused:
        decode_request(body)
    assert refused.value.status == status
