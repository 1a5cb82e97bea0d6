"""Anthropic's messages as backends write them."""

from __future__ import annotations

import json

import pytest

from proxy.wire.errors import WireError
from proxy.wire.messages import Messages
from proxy.wire.output import NOTHING, TextDelta, TokenCounts

MESSAGES = Messages()


def chunk(value):
    return MESSAGES.read_chunk(json.dumps(value).encode())


def test_a_request_says_what_the_relay_needs():
    asked = MESSAGES.read_request(
        b'{"model":"m","max_tokens":9,"stream":true,"system":[{"type":"text","text":"be brief"}],'
        b'"messages":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"text","text":"b"}]}]}'
    )
    assert (asked.model, asked.is_streaming, asked.choices, asked.wants_usage) == ("m", True, 1, True)
    assert MESSAGES.prompt_text(asked) == "be brief\na\nb"
    assert MESSAGES.prompt_text(MESSAGES.read_request(b'{"messages":5}')) == ""
    with pytest.raises(WireError):
        MESSAGES.read_request(b"[]")


def test_only_text_blocks_are_told_and_caches_count_as_input():
    said = MESSAGES.read_reply(
        json.dumps(
            {
                "type": "message", "model": "m2", "stop_reason": "tool_use",
                "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "A"},
                            {"type": "tool_use", "id": "t", "input": {"text": "no"}}, {"type": "text", "text": "b."}],
                "usage": {"input_tokens": 1, "output_tokens": 5, "cache_creation_input_tokens": 10,
                          "cache_read_input_tokens": 100},
            }
        ).encode()
    )  # fmt: skip
    assert said is not None
    assert (said.texts, said.counts, said.model) == ((TextDelta(0, "Ab."),), TokenCounts(111, 5), "m2")


def test_a_stream_tells_text_deltas_and_nothing_else():
    assert chunk({"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "a"}}).texts == (
        TextDelta(0, "a"),
    )  # fmt: skip
    for delta in ({"type": "thinking_delta", "thinking": "x"}, {"type": "input_json_delta", "partial_json": "{"},
                  {"type": "signature_delta", "signature": "s"}, {"type": "citations_delta", "citation": {}},
                  {"type": "text_delta", "text": ""}):  # fmt: skip
        assert chunk({"type": "content_block_delta", "delta": delta}) == NOTHING
    assert chunk({"type": "content_block_start", "content_block": {"type": "text", "text": "a"}}).texts == (
        TextDelta(0, "a"),
    )
    for event in ({"type": "ping"}, {"type": "content_block_stop"}, {"type": "error", "error": {"message": "x"}},
                  {"type": "content_block_start", "content_block": {"type": "tool_use"}}, {"type": "new"}):  # fmt: skip
        assert chunk(event) == NOTHING


def test_the_beginning_says_model_and_input_and_its_output_is_not_believed():
    said = chunk(
        {
            "type": "message_start",
            "message": {"model": "m2", "usage": {"input_tokens": 7, "output_tokens": 1}},
        }
    )
    assert (said.model, said.counts) == ("m2", TokenCounts(7, None))


def test_the_last_delta_ends_the_message_and_carries_the_usage():
    said = chunk(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}}
    )
    assert (said.finished, said.counts) == ((0,), TokenCounts(None, 15))
    assert chunk({"type": "message_delta", "delta": {}}).finished == ()
    assert chunk({"type": "message_stop"}).is_end
