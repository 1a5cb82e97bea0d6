"""What a realtime session's messages and address say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.errors import WireError
from proxy.wire.output import TokenCounts
from proxy.wire.realtime import (
    NOTHING,
    RealtimeEvent,
    key_in,
    model_asked,
    models_chosen,
    read_message,
    renamed_query,
    without_key,
)


def test_a_pages_key_is_a_subprotocol_and_goes_no_further():
    protocols = ["realtime", "openai-insecure-api-key.ec_app_x", "openai-beta.realtime-v1"]
    assert key_in(protocols) == "ec_app_x"
    assert without_key(protocols) == ["realtime", "openai-beta.realtime-v1"]
    assert key_in(["realtime"]) == ""


@pytest.mark.parametrize(
    ("query", "model"),
    [(b"model=gpt-realtime", "gpt-realtime"), (b"a=1&model=a%2Fb", "a/b"), (b"", None), (b"call_id=x", None)],
)
def test_the_address_names_the_model(query, model):
    assert model_asked(query) == model


@pytest.mark.parametrize("query", [b"model=a&model=b", b"model=a&Model=b", b"&".join([b"a=1"] * 200)])
def test_an_address_that_could_name_two_models_is_refused(query):
    with pytest.raises(WireError):
        model_asked(query)


def test_only_the_models_name_changes_in_an_address():
    assert renamed_query(b"a=%2f&model=small&b=", "big/1") == b"a=%2f&model=big%2F1&b="


def test_a_client_that_turns_to_another_model_is_heard():
    assert models_chosen('{"type":"session.update","session":{"model":"big"}}') == ["big"]
    assert models_chosen('{"type":"response.create","response":{"model":"big"}}') == ["big"]
    assert models_chosen('{"type":"session.update","session":{"voice":"x"}}') == []
    assert models_chosen('{"text":"a \\"model\\" of one"}') == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"type": "response.created", "response": {"id": "resp_1"}}, RealtimeEvent("opened", "resp_1")),
        ({"type": "response.done", "response": {"id": "resp_1", "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 4}}},
         RealtimeEvent("done", "resp_1", TokenCounts(3, 4))),
        ({"type": "response.done", "response": {"id": "resp_1", "status": "cancelled"}}, RealtimeEvent("done", "resp_1", is_cancelled=True)),
        ({"type": "response.output_text.delta", "response_id": "resp_1", "delta": "abc"}, RealtimeEvent("told", "resp_1", characters=3)),
        ({"type": "response.output_audio_transcript.delta", "response_id": "r", "delta": "ab"}, RealtimeEvent("told", "r", characters=2)),
        ({"type": "response.output_audio.delta", "delta": "AAAA"}, NOTHING),
        ({"type": "session.updated", "session": {"instructions": 'say "response.done"'}}, NOTHING),
    ],
)  # fmt: skip
def test_a_message_says_what_was_used(message, said):
    assert read_message(json.dumps(message, separators=(",", ":"))) == said


@given(st.text(max_size=80))
def test_no_text_makes_it_fail(junk):
    read_message(junk)
    read_message('{"type":"response.done","response":' + junk)
    models_chosen('{"model"' + junk)
    model_asked(junk.encode()[:100] if junk.casefold().count("model") < 2 else b"")
