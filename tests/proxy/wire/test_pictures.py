"""Pictures: what they cost is read, what they show is not."""

from __future__ import annotations

import pytest

from proxy.wire import endpoint_for
from proxy.wire.errors import WireError
from proxy.wire.output import NOTHING, MediaCounts, TokenCounts
from proxy.wire.pictures import BRACES_MAX, IMAGES_MAX, VIDEO_MS_MAX, Pictures
from tests.proxy.wire.test_multipart import KIND, form

PICTURES = Pictures("images.generations")
VIDEOS = Pictures("videos")


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


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"n":0}', b""),
        (b'{"n":129}', b""),
        (form((b'name="n"', b"500")), KIND),
        (form((b'name="n"', b"1000")), KIND),
    ],
)
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
    assert done.media == MediaCounts(images=1)
    assert PICTURES.unscored == "not_attributed"


@pytest.mark.parametrize(
    ("asking", "images"), [(b"{}", 1), (b'{"n":null}', 1), (b'{"n":4}', 4), (b'{"n":128}', 128)]
)
def test_as_many_images_are_asked_for_as_n_says_and_else_one(asking, images):
    asked = PICTURES.read_request(asking)
    assert (asked.images, asked.milliseconds) == (images, 0)


@pytest.mark.parametrize(
    ("written", "images"), [(b"3", 3), (b" 3 ", 3), (b"0012", 12), (b"", 1), (b"many", 1)]
)
def test_a_form_says_n_in_text(written, images):
    asked = PICTURES.read_request(form((b'name="model"', b"p"), (b'name="n"', written)), KIND)
    assert (asked.choices, asked.images) == (images, images)


IMAGE = b'{"b64_json":"AAAA","revised_prompt":"a {lighthouse}"}'


@pytest.mark.parametrize(
    ("data", "images"),
    [
        (b"[" + IMAGE + b"]", 1),
        (b'[{"url":"https://p.example/1"},{"url":"https://p.example/2","b64_json":null}]', 2),
        (b'[{"url":"https://p.example/1","b64_json":"AAAA"}]', 1),
        (b'[{"url":"","b64_json":"AAAA"},{"url":"","b64_json":""}]', 1),
        (b'[{"error":"moderated"},' + IMAGE + b"]", 1),
        (b"[" + b",".join([IMAGE] * IMAGES_MAX) + b"]", IMAGES_MAX),
        (b"[" + b",".join([IMAGE] * (IMAGES_MAX + 1)) + b"]", None),
        (b"[" + b",".join([b"{}"] * BRACES_MAX) + b"]", None),
        (b"[]", None), (b"null", None), (b'{"b64_json":"AAAA"}', None), (b"[7]", None), (b'"AAAA"', None),
    ],
)  # fmt: skip
def test_a_reply_has_as_many_images_as_its_list_holds(data, images):
    said = PICTURES.read_reply(b'{"created":1,"data":' + data + b"}")
    assert said is not None
    assert said.media == (None if images is None else MediaCounts(images=images))


def test_a_reply_without_a_list_of_images_says_nothing_of_them():
    said = PICTURES.read_reply(b'{"created":1,"seconds":"8"}')
    assert said is not None
    assert said.media is None


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(b'"8"', 8_000), (b"8", 8_000), (b"8.5", 8_500), (b'"8.0001"', 8_001), (b"null", 0), (b'"long"', 0), (b'"0"', 0)],
)  # fmt: skip
def test_a_video_is_as_long_as_its_reply_says(seconds, milliseconds):
    said = VIDEOS.read_reply(
        b'{"id":"video_1","object":"video","status":"queued","seconds":' + seconds + b"}"
    )
    assert said is not None
    assert said.media == (MediaCounts(milliseconds=milliseconds) if milliseconds else None)


def test_a_video_that_could_not_be_made_has_no_length_and_images_beside_it_are_none():
    failed = VIDEOS.read_reply(b'{"object":"video","status":"failed","seconds":"8"}')
    beside = VIDEOS.read_reply(b'{"object":"video","seconds":"8","data":[{"url":"u"}]}')
    assert failed is not None
    assert beside is not None
    assert (failed.media, beside.media) == (None, MediaCounts(milliseconds=8_000))


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(b'"12"', 12_000), (b"8", 8_000), (b'"8.5"', 8_500), (b"null", VIDEO_MS_MAX), (b"-8", VIDEO_MS_MAX)],
)
def test_a_video_that_is_asked_for_without_its_length_may_be_the_longest(seconds, milliseconds):
    asked = VIDEOS.read_request(b'{"model":"v","prompt":"a sea","seconds":' + seconds + b"}")
    assert (asked.images, asked.milliseconds, asked.is_kept) == (0, milliseconds, True)
    body = form(
        (b'name="model"', b"v"), (b'name="prompt"', b"a sea"), (b'name="seconds"', seconds.strip(b'"'))
    )
    assert VIDEOS.read_request(body, KIND) == asked


def test_a_video_that_goes_on_from_another_is_asked_for_so():
    for path, is_extension in (
        ("/v1/videos", False),
        ("/v1/videos/edits", False),
        ("/v1/videos/extensions/", True),
    ):
        endpoint = endpoint_for("POST", path)
        assert endpoint is not None
        asked = endpoint.read_request(b'{"prompt":"on","seconds":"8"}')
        assert (endpoint.name, asked.is_extension, asked.milliseconds) == ("videos", is_extension, 8_000)
