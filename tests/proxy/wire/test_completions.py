"""Legacy completions as backends write them."""

from __future__ import annotations

import json

import pytest

from proxy.wire.completions import Completions
from proxy.wire.errors import WireError
from proxy.wire.output import NOTHING, TextDelta, TokenCounts

COMPLETIONS = Completions()


def request(**more):
    return COMPLETIONS.read_request(json.dumps({"model": "m", **more}).encode())


@pytest.mark.parametrize(
    ("more", "choices"),
    [
        ({"prompt": "a"}, 1), ({}, 1), ({"prompt": None}, 1), ({"prompt": "a", "n": 3}, 3),
        ({"prompt": ["a", "b"]}, 2), ({"prompt": ["a", "b"], "n": 3, "best_of": 5}, 6), ({"prompt": []}, 1),
        ({"prompt": [1, 2, 3]}, 1), ({"prompt": [[1], [2, 3]], "n": 2}, 4), ({"prompt": ["a"]}, 1),
    ],
)  # fmt: skip
def test_every_prompt_has_its_own_choices(more, choices):
    assert request(**more).choices == choices


@pytest.mark.parametrize("more", [{"n": 0}, {"n": 2_000, "prompt": ["a", "b"]}, {"n": "two"}])
def test_choices_beyond_all_measure_are_refused(more):
    with pytest.raises(WireError) as caught:
        request(**more)
    assert caught.value.param == "n"


def test_a_stream_that_does_not_ask_for_usage_is_made_to():
    assert not request(stream=True).wants_usage
    assert request(stream=True, stream_options={"include_usage": True}).wants_usage
    assert b'"include_usage":true' in COMPLETIONS.asking_for_usage(b'{"model":"m","stream":true}')


def test_a_reply_says_the_text_of_each_choice_and_nothing_of_its_logprobs():
    said = COMPLETIONS.read_reply(
        b'{"model":"m2","choices":[{"index":1,"text":"b","logprobs":{"tokens":["b"]},"finish_reason":"stop"},'
        b'{"index":0,"text":"a","finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    )
    assert said is not None
    assert said.texts == (TextDelta(1, "b"), TextDelta(0, "a"))
    assert (said.finished, said.counts, said.model) == ((1, 0), TokenCounts(3, 2), "m2")


def test_a_chunk_says_its_text_its_end_or_the_usage():
    assert COMPLETIONS.read_chunk(b'{"choices":[{"text":"a","index":0,"finish_reason":null}]}').texts == (
        TextDelta(0, "a"),
    )
    assert COMPLETIONS.read_chunk(b'{"choices":[{"text":"","finish_reason":"stop"}]}').finished == (0,)
    usage = COMPLETIONS.read_chunk(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}')
    assert (usage.usage_only, usage.counts) == (True, TokenCounts(1, 2))
    assert COMPLETIONS.read_chunk(b"junk") == NOTHING


def test_usage_survives_choices_that_cannot_be_read():
    said = COMPLETIONS.read_reply(b'{"choices":"odd","usage":{"prompt_tokens":4,"completion_tokens":5}}')
    assert said is not None
    assert said.counts == TokenCounts(4, 5)
    assert COMPLETIONS.read_reply(b"<html>") is None


@pytest.mark.parametrize(
    "usage", [b'{"prompt_tokens":"12"}', b'"none"', b"[]", b"0", b'{"completion_tokens":[]}']
)
def test_choices_survive_usage_that_cannot_be_read(usage):
    said = COMPLETIONS.read_chunk(
        b'{"model":"m2","choices":[{"text":"a","finish_reason":"stop"}],"usage":' + usage + b"}"
    )
    assert (said.texts, said.finished, said.model, said.usage_only) == (
        (TextDelta(0, "a"),),
        (0,),
        "m2",
        False,
    )
    assert said.counts in (None, TokenCounts())


def test_an_empty_reason_ends_nothing():
    chunk = b'{"choices":[{"index":0,"text":"a","finish_reason":""}]}'
    assert COMPLETIONS.read_chunk(chunk).finished == ()
    assert COMPLETIONS.read_chunk(chunk).texts == (TextDelta(0, "a"),)


def test_a_choice_that_does_not_say_which_it_is_goes_by_its_place():
    said = COMPLETIONS.read_reply(
        b'{"choices":[{"text":"a"},{"index":null,"text":"b","finish_reason":"stop"}]}'
    )
    assert said is not None
    assert said.texts == (TextDelta(0, "a"), TextDelta(1, "b"))
    assert said.finished == (1,)


@pytest.mark.parametrize(
    ("prompt", "text"), [("a", "a"), (["a", "b"], "a\nb"), ([1, 2], ""), ([[1], [2]], ""), (None, "")]
)
def test_the_prompts_text_is_that_of_its_prompts(prompt, text):
    assert COMPLETIONS.prompt_text(request(prompt=prompt)) == text


def test_a_chunk_of_usage_has_no_choice_or_none_that_says_anything():
    usage = b'"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    for bare in (b"[]", b'[{"index":0}]', b'[{"index":0,"text":"","logprobs":null,"finish_reason":null}]'):
        assert COMPLETIONS.read_chunk(b'{"choices":' + bare + b"," + usage).usage_only
    for telling in (b'{"text":"a"}', b'{"text":"","finish_reason":"stop"}', b'{"text":"","logprobs":{}}'):
        assert not COMPLETIONS.read_chunk(b'{"choices":[' + telling + b"]," + usage).usage_only
