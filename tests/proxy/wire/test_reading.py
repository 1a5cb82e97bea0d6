"""Requests are refused by name, answers are tolerated."""

from __future__ import annotations

import contextlib
import json
import math
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire import ENDPOINTS
from proxy.wire.errors import WireError
from proxy.wire.output import TokenCounts
from proxy.wire.reading import (
    INTEGER_MAX,
    Part,
    counts_of,
    decoded,
    milliseconds_of,
    natural,
    plain,
    tolerated,
)

DECODER = msgspec.json.Decoder(dict[str, int])
DEEP = b'{"a":' + b"[" * 50_000


def test_a_request_that_cannot_be_read_names_its_place_and_the_remedy():
    with pytest.raises(WireError, match="send a list as a JSON object"):
        decoded(DECODER, b"[]", "a list")
    for body in (b"{", b"\xff", DEEP):
        with pytest.raises(WireError) as caught:
            decoded(msgspec.json.Decoder(dict), body, "a list")
        assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"a":"b"}', b"\xff\xfe", DEEP])
def test_an_answer_that_cannot_be_read_is_none(data):
    assert tolerated(DECODER, data) is None


@pytest.mark.parametrize(
    ("number", "count"), [(None, None), (0, 0), (5.0, 5), (2.5, None), (-1, None), (2**53, None)]
)
def test_only_a_count_is_a_count(number, count):
    assert natural(number) == count
    assert counts_of(number, 1) == TokenCounts(count, 1)


def test_a_contents_text_is_its_text_parts():
    assert plain("a") == "a"
    assert plain(None) == ""
    assert plain([Part("text", "a"), Part("image_url"), Part("input_text", "b"), Part("text")]) == "ab"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "delta", "text", "type", "content", "usage", "input_tokens", "index", "response",
             "output", "message", "model", "status", "finish_reason", "stop_reason", "prompt_tokens"]
        )
        | st.text(max_size=4),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip
TYPES = st.sampled_from(
    ["response.output_text.delta", "response.completed", "response.created", "message_start", "message_delta",
     "content_block_delta", "content_block_start", "transcript.text.delta", "transcript.text.done",
     "speech.audio.done", "image_generation.completed"]
)  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
@settings(max_examples=30)
@given(value=VALUES, kind=TYPES, junk=st.binary(max_size=40))
def test_nothing_a_backend_sends_makes_reading_fail(endpoint, value, kind, junk):
    typed = {**value, "type": kind} if isinstance(value, dict) else value
    for data in (json.dumps(value).encode(), json.dumps(typed).encode(), junk, DEEP):
        said = endpoint.read_chunk(data)
        assert all(isinstance(delta.text, str) and delta.text for delta in (*said.texts, *said.whole))
        endpoint.read_reply(data)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
@settings(max_examples=30)
@given(value=VALUES, junk=st.binary(max_size=40), boundary=st.binary(max_size=6))
def test_a_request_is_read_or_refused_whatever_it_is(endpoint, value, junk, boundary):
    form = b"multipart/form-data; boundary=" + boundary
    for body, kind in ((json.dumps(value).encode(), b""), (junk, b""), (junk, form), (DEEP, form)):
        with contextlib.suppress(WireError):
            asked = endpoint.read_request(body, kind)
            assert asked.choices >= 1
            assert isinstance(endpoint.prompt_text(asked), str)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_an_error_of_a_backend_reports_no_usage(endpoint):
    said = endpoint.read_reply(b'{"error":{"message":"no","type":"invalid_request_error"}}')
    assert said is None or said.counts is None


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (b"8", 8_000), (b'"8"', 8_000), (b"8.5", 8_500), (b'"8.5"', 8_500), (b"0", 0), (b"0.0001", 1), (b"1e-9", 1),
        (b"8.470000267028809", 8_471), (b"0.1", 100), (b"2.5e1", 25_000), (b"1E2", 100_000),
        (b"", None), (b"null", None), (b"true", None), (b"-1", None), (b'"-1"', None), (b'"8', None), (b'8"', None),
        (b'"8 s"', None), (b'" 8"', None), (b'""', None), (b"[8]", None), (b"NaN", None), (b'"Infinity"', None),
        (b"1e99", None), (b"9007199254740", 9_007_199_254_740_000), (b"9007199254741", None),
        (rb'"\u0038"', None), ('"\u0668"'.encode(), None), (b"8" * 17, None), (b"8\n", None),
    ],
)  # fmt: skip
def test_seconds_are_read_as_they_were_written_and_a_part_of_a_millisecond_is_one(seconds, milliseconds):
    assert milliseconds_of(seconds) == milliseconds
    assert milliseconds_of(msgspec.Raw(seconds)) == milliseconds


@given(
    st.one_of(
        st.decimals(min_value=0, max_value=10**12, allow_nan=False, places=9).map(lambda one: f"{one:f}"),
        st.floats(min_value=1e-9, max_value=1e12).map(repr),
        st.integers(min_value=0, max_value=10**12).map(str),
    ),
    st.booleans(),
)
def test_milliseconds_are_exact_to_the_last_digit_of_any_number(number, is_text):
    written = (json.dumps(number) if is_text else number).encode()
    assert milliseconds_of(written) == math.ceil(Fraction(number) * 1000)


@given(
    st.one_of(
        st.binary(max_size=40), st.from_regex(r'\A"?[0-9.eE+-]{0,80}"?\Z').map(lambda text: text.encode())
    )
)
def test_whatever_stands_there_is_a_duration_or_none(data):
    found = milliseconds_of(data)
    assert found is None or 0 <= found < INTEGER_MAX
