"""Embeddings and moderations: input only."""

from __future__ import annotations

import json

import pytest

from proxy.wire.measures import Measures
from proxy.wire.output import TokenCounts

EMBEDDINGS = Measures("embeddings")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"), (["a", "b"], "a\nb"), ([1, 2], ""), ([[1], [2]], ""), (None, ""),
        ([{"type": "text", "text": "a"}, {"type": "image_url"}], "a\n"),
    ],
)  # fmt: skip
def test_the_input_is_what_is_counted_when_no_usage_came(value, text):
    asked = EMBEDDINGS.read_request(json.dumps({"model": "e", "input": value}).encode())
    assert (asked.model, EMBEDDINGS.prompt_text(asked)) == ("e", text)


def test_there_is_input_and_never_output():
    said = EMBEDDINGS.read_reply(
        b'{"data":[{"embedding":[0.1]}],"model":"e2","usage":{"prompt_tokens":8,"total_tokens":8}}'
    )
    assert said is not None
    assert (said.counts, said.texts, said.model) == (TokenCounts(8, 0), (), "e2")
    moderation = Measures("moderations").read_reply(b'{"id":"modr-1","results":[{"flagged":false}]}')
    assert moderation is not None
    assert moderation.counts is None
