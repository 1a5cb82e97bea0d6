"""Chat completions as backends really write them."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.chat import ChatCompletions
from proxy.wire.errors import WireError
from proxy.wire.output import NOTHING, TextDelta, TokenCounts

CHAT = ChatCompletions()


def test_a_request_says_what_the_relay_needs():
    asked = CHAT.read_request(
        b'{"model":"m","stream":true,"n":2,"stream_options":{"include_usage":true},"x":[{}]}'
    )
    assert (asked.model, asked.is_streaming, asked.choices, asked.wants_usage) == ("m", True, 2, True)


@pytest.mark.parametrize(
    ("body", "says", "param"),
    [
        (b"{", "not JSON", None), (b"", "not JSON", None), (b"\xff\xfe{", "not JSON", None),
        (b"[]", "Expected `object`", None), (b"{}", "model", None), (b'{"model":5}', "'model'", "model"),
        (b'{"model":"m","stream":"yes"}', "'stream'", "stream"), (b'{"model":"m","n":0}', "'n' is 0", "n"),
        (b'{"model":"m","n":129}', "1 to 128", "n"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_read_is_refused_naming_where(body, says, param):
    with pytest.raises(WireError) as caught:
        CHAT.read_request(body)
    assert says in str(caught.value)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", '{"stream_options":{"include_usage":true},"model":"m"}'),
        (',"stream_options":null', '{"model":"m","stream_options":{"include_usage":true}}'),
        (',"stream_options": { }', '{"model":"m","stream_options": {"include_usage":true }}'),
        (',"stream_options":{"a":1}', '{"model":"m","stream_options":{"include_usage":true,"a":1}}'),
        (
            ',"stream_options":{"include_usage":false,"a":1}',
            '{"model":"m","stream_options":{"include_usage":true,"a":1}}',
        ),
        (',"stream_options":{"include_usage":null}', '{"model":"m","stream_options":{"include_usage":true}}'),
    ],
)
def test_asking_for_usage_changes_nothing_else(options, expected):
    assert CHAT.asking_for_usage(('{"model":"m"' + options + "}").encode()).decode() == expected


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda k: k not in {"model", "stream_options"}), st.text(max_size=9)
    )
)
def test_asking_for_usage_keeps_every_other_member(more):
    body = json.dumps({"model": "m", "messages": [{"content": '"stream_options"'}], **more}).encode()
    assert json.loads(CHAT.asking_for_usage(body)) == {
        **json.loads(body),
        "stream_options": {"include_usage": True},
    }


def test_text_is_content_as_a_string_or_as_text_parts_and_nothing_else():
    message = {
        "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}],
        "refusal": "no", "reasoning_content": "hm", "tool_calls": [{"function": {"arguments": "{}"}}],
    }  # fmt: skip
    said = CHAT.read_reply(json.dumps({"choices": [{"index": 3, "message": message}]}).encode())
    assert said is not None
    assert said.texts == (TextDelta(3, "ab"),)


USAGE = b'"usage":{"prompt_tokens":3,"completion_tokens":4}'


@pytest.mark.parametrize(
    "choices",
    [
        b"[]",
        b'[{"index":0,"delta":{}}]',
        b'[{"index":0,"delta":{"content":"","role":null,"tool_calls":[]},"logprobs":null,"finish_reason":null}]',
        b'[{"index":0,"delta":{}},{"index":1,"delta":{"content":null}}]',
    ],
)
def test_a_chunk_of_usage_has_no_choice_or_none_that_says_anything(choices):
    assert CHAT.read_chunk(b'{"choices":' + choices + b"," + USAGE + b"}").usage_only
    assert not CHAT.read_chunk(b'{"choices":' + choices + b"}").usage_only


@pytest.mark.parametrize(
    "choice",
    [
        b'{"delta":{"content":"a"}}',
        b'{"delta":{"role":"assistant","content":""}}',
        b'{"delta":{"tool_calls":[{"index":0}]}}',
        b'{"delta":{"reasoning_content":"a"}}',
        b'{"delta":{},"finish_reason":"stop"}',
        b'{"delta":{},"logprobs":{"content":[]}}',
        b'{"delta":{},"unheard_of":1}',
        b'{"message":{"content":""}}',
    ],
)
def test_usage_on_a_chunk_that_says_something_is_not_taken_from_anybody(choice):
    said = CHAT.read_chunk(b'{"choices":[' + choice + b"]," + USAGE + b"}")
    assert said.counts is not None
    assert not said.usage_only


def test_a_reply_says_text_ends_usage_and_model():
    said = CHAT.read_reply(
        b'{"model":"m2","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":0}}'
    )
    assert said is not None
    assert (said.texts, said.finished, said.counts) == ((TextDelta(0, "hi"),), (0,), TokenCounts(3, 0))
    assert (said.model, said.usage_only) == ("m2", False)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ('{"prompt_tokens":5.0,"completion_tokens":2}', TokenCounts(5, 2)), ('{"total_tokens":7}', TokenCounts()),
        ('{"prompt_tokens":-1,"completion_tokens":2.5}', TokenCounts()), ("null", None), ("{}", TokenCounts()),
    ],
)  # fmt: skip
def test_usage_that_is_no_count_is_not_reported(usage, counts):
    assert CHAT.read_chunk(f'{{"choices":[],"usage":{usage}}}'.encode()).counts == counts


def test_a_chunk_without_choices_and_with_usage_is_there_for_usage():
    assert CHAT.read_chunk(b'{"choices":[],"usage":{"prompt_tokens":1}}').usage_only
    assert not CHAT.read_chunk(b'{"choices":[],"prompt_filter_results":[]}').usage_only


@pytest.mark.parametrize("data", [b"garbage", b"[1]", b"", b'{"choices":5}', b'{"error":{"message":"x"}}'])
def test_a_chunk_that_cannot_be_read_says_nothing(data):
    assert CHAT.read_chunk(data).texts == ()
    assert CHAT.read_chunk(b"garbage") == NOTHING


def test_usage_survives_choices_that_cannot_be_read():
    said = CHAT.read_reply(b'{"choices":"odd","usage":{"prompt_tokens":4,"completion_tokens":5}}')
    assert said is not None
    assert said.counts == TokenCounts(4, 5)
    assert CHAT.read_reply(b"<html>") is None


@pytest.mark.parametrize(
    "usage", [b'{"prompt_tokens":"12"}', b'"none"', b"[]", b"0", b'{"completion_tokens":[]}']
)
def test_choices_survive_usage_that_cannot_be_read(usage):
    said = CHAT.read_chunk(
        b'{"model":"m2","choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],"usage":' + usage + b"}"
    )
    assert (said.texts, said.finished, said.model, said.usage_only) == (
        (TextDelta(0, "a"),),
        (0,),
        "m2",
        False,
    )
    assert said.counts in (None, TokenCounts())


def test_an_empty_reason_ends_nothing():
    chunk = b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":""}]}'
    assert CHAT.read_chunk(chunk).finished == ()
    assert CHAT.read_chunk(chunk).texts == (TextDelta(0, "a"),)


def test_a_choice_that_does_not_say_which_it_is_goes_by_its_place():
    said = CHAT.read_reply(
        b'{"choices":[{"message":{"content":"a"}},{"index":null,"message":{"content":"b"},"finish_reason":"stop"}]}'
    )
    assert said is not None
    assert said.texts == (TextDelta(0, "a"), TextDelta(1, "b"))
    assert said.finished == (1,)


def test_the_prompts_text_is_that_of_its_messages():
    asked = CHAT.read_request(
        b'{"model":"m","messages":[{"role":"user","content":"a"},{"content":[{"type":"text","text":"b"}]},{"content":null}]}'
    )
    assert CHAT.prompt_text(asked) == "a\nb"
    assert CHAT.prompt_text(CHAT.read_request(b'{"model":"m","messages":[5]}')) == ""


def test_half_a_surrogate_pair_is_read_or_says_nothing_but_never_raises():
    assert len(CHAT.read_chunk(b'{"choices":[{"delta":{"content":"\\ud83d"}}]}').texts) <= 1


def test_a_request_too_wide_to_walk_goes_up_as_it_came():
    body = b'{"model":"m","stream":true,"x":[' + b"[]," * 300_000 + b'0],"stream_options":{}}'
    assert CHAT.asking_for_usage(body) == body


CITING = '{"type":"url_citation","url_citation":{"start_index":0,"url":"https://a.example/x","title":"X"}}'


@pytest.mark.parametrize("place", ["message", "delta"])
def test_what_a_backend_cites_is_read_of_replies_and_of_chunks(place):
    reply = f'{{"citations":["https://b.example"],"choices":[{{"{place}":{{"annotations":[{CITING}]}}}}]}}'.encode()
    said = CHAT.read_reply(reply) if place == "message" else CHAT.read_chunk(reply)
    assert said is not None
    assert said.cited == ("https://b.example", "https://a.example/x")


def test_sources_may_be_objects():
    said = CHAT.read_chunk(
        b'{"choices":[],"citations":[{"url":"https://b.example","title":"B"},"https://c.example"]}'
    )
    assert said.cited == ("https://b.example", "https://c.example")


@pytest.mark.parametrize(
    "odd",
    ["5", "null", "{}", "[5]", '["https://a.example",5]', '[{"url_citation":5}]', '[{"url":5}]', "[null]"],
)
def test_citations_that_cannot_be_read_name_nothing_and_harm_nothing_else(odd):
    data = f'{{"citations":{odd},"choices":[{{"delta":{{"content":"a","annotations":{odd}}}}}]}}'.encode()
    said = CHAT.read_chunk(data)
    assert said.cited == ()
    assert said.texts == (TextDelta(0, "a"),)


PLAIN = [
    b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"a "}}],"model":"m-1","usage":null}',
    b'{"choices":[{"delta":{"content":"b","refusal":null},"finish_reason":null,"logprobs":null}],"citations":null}',
    b'{"choices":[{"index":1,"delta":{"content":"\\u00e4"}}],"model":"m-2"}',
    b'{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0}]}}]}',
    b'{"choices":[{"index":0,"delta":{"content":null,"annotations":null}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"c"},"finish_reason":""}]}',
    b'{"choices":[{"index":null,"delta":{"content":"d"}}]}',
]
OTHER = [
    b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    b'{"choices":[],"usage":{"prompt_tokens":1}}',
    b'{"choices":[{"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}',
    b'{"choices":[{"delta":{"content":[{"type":"text","text":"part"}]}}]}',
    b'{"choices":[{"message":{"content":"whole"}}]}',
    b'{"choices":[{"delta":{"content":"a"}}],"citations":["https://a.example/"]}',
    b'{"choices":[{"delta":{"annotations":[{"url_citation":{"url":"https://b.example/"}}]}}]}',
    b'{"choices":[{"delta":{"content":"\\ud83d"}}]}', b"[DONE]", b"", b"{", b"[" * 3000,
]  # fmt: skip


@given(st.lists(st.sampled_from(PLAIN + OTHER), min_size=1, max_size=12))
def test_a_run_of_chunks_says_what_its_chunks_say(data):
    heard = ChatCompletions().read_run(data)
    plain = next((place for place, chunk in enumerate(data) if chunk in OTHER), len(data))
    assert heard.count == plain
    said = [ChatCompletions().read_chunk(chunk) for chunk in data[:plain]]
    assert not any(one.finished or one.counts or one.usage_only or one.cited or one.is_end for one in said)
    assert heard.model == next((one.model for one in said if one.model), "")
    # A choice without text in between parts what could be one.
    assert joined(heard.texts) == joined(delta for one in said for delta in one.texts)


def joined(deltas) -> list[tuple[int, str]]:
    runs = itertools.groupby(deltas, lambda delta: delta.choice)
    return [(choice, "".join(delta.text for delta in run)) for choice, run in runs]
