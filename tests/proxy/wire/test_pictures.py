"""Pictures: what they cost is read, what they show is not."""

from __future__ import annotations

import pytest

from proxy.wire.errors import WireError
from proxy.wire.output import NOTHING, TokenCounts
from proxy.wire.pictures import Pictures
from tests.proxy.wire.test_multipart import KIND, form

PICTURES = Pictures("images.generations")


def test_a_request_is_read_as_json_and_as_a_form():
    asked = PICTURES.read_request(
        b'{"model":"p","prompt":"a lighthouse","n":2,"stream":true}', b"application/json"
    )
    assert (asked.model, asked.choices, asked.is_streaming) == ("p", 2, True)
    assert PICTURES.prompt_text(asked) == "a lighthouse"
    body = form((b'name="model"', b"p"), (b'name="n"', b"2"), (b'name="prompt"', b"a lighthouse"),
                (b'name="image"; filename="a.png"', b"\x89PNG"))  # fmt: skip
    assert PICTURES.read_request(body, KIND) == PICTURES.read_request(
        b'{"model":"p","prompt":"a lighthouse","n":2}', b"application/json"
    )


@pytest.mark.parametrize(("body", "kind"), [(b'{"n":0}', b""), (form((b'name="n"', b"500")), KIND)])
def test_pictures_beyond_all_measure_are_refused(body, kind):
    with pytest.raises(WireError):
        PICTURES.read_request(body, kind)


def test_a_reply_says_its_usage_if_it_has_one():
    said = PICTURES.read_reply(
        b'{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":5,"output_tokens":9}}'
    )
    assert said is not None
    assert (said.counts, said.texts) == (TokenCounts(5, 9), ())
    bare = PICTURES.read_reply(b'{"data":[{"url":"https://p.example"}]}')
    assert bare is not None
    assert bare.counts is None


def test_a_partial_picture_says_nothing_and_a_finished_one_its_usage():
    assert PICTURES.read_chunk(b'{"type":"image_generation.partial_image","b64_json":"AAAA"}') == NOTHING
    done = PICTURES.read_chunk(
        b'{"type":"image_edit.completed","usage":{"input_tokens":5,"output_tokens":9}}'
    )
    assert (done.finished, done.counts) == ((0,), TokenCounts(5, 9))
    assert PICTURES.unscored == "not_attributed"
