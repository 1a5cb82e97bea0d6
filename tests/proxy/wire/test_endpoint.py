"""Which routes are metered, and that the wire loads alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from proxy.wire import ENDPOINTS, endpoint_for


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "chat.completions"), ("/v1/chat/completions/", "chat.completions"),
        ("/v1/Chat/COMPLETIONS", "chat.completions"),
        ("/v1/completions", "completions"), ("/v1/responses", "responses"), ("/v1/messages", "messages"),
        ("/v1/audio/transcriptions", "audio.transcriptions"), ("/v1/audio/translations", "audio.translations"),
        ("/v1/audio/speech", "audio.speech"), ("/v1/images/generations", "images.generations"),
        ("/v1/images/edits", "images.edits"), ("/v1/images/variations", "images.variations"),
        ("/v1/videos", "videos"), ("/v1/videos/edits", "videos"), ("/v1/videos/extensions", "videos"),
        ("/v1/embeddings", "embeddings"), ("/v1/moderations", "moderations"), ("/v1/responses/compact", "responses.compact"),
    ],
)  # fmt: skip
def test_what_generates_is_metered_under_its_name(path, name):
    endpoint = endpoint_for("POST", path)
    assert endpoint is not None
    assert endpoint.name == name


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"), ("POST", "/v1/chat/completionsx"), ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"), ("POST", "/v1/messages/count_tokens"), ("POST", "/v1/files"),
        ("GET", "/v1/videos/v_1/content"), ("POST", "/v1/batches"), ("POST", "/v1/uploads"), ("GET", "/v1/models"),
        ("POST", "/v1/fine_tuning/jobs"), ("PUT", "/v1/completions"), ("POST", "/v1/unheard/of"),
    ],
)  # fmt: skip
def test_everything_else_is_passed_through(method, path):
    assert endpoint_for(method, path) is None


def test_every_family_has_a_name_of_its_own():
    names = [endpoint.name for endpoint in ENDPOINTS]
    assert all(names)
    assert len(set(names)) == len(names)


def test_the_wire_loads_no_web_framework_and_no_engine():
    code = "import sys, proxy.wire, proxy.wire.annotate; print([m for m in ('litestar','httpx','numpy','asyncio') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_a_remix_is_a_video_of_its_own_and_what_is_near_its_address_is_not():
    assert endpoint_for("POST", "/v1/videos/video_1/remix").name == "videos"
    for method, path in (
        ("GET", "/v1/videos/video_1/remix"),
        ("POST", "/v1/videos/a/b/remix"),
        ("POST", "/v1/videos/remix"),
    ):
        assert endpoint_for(method, path) is None
