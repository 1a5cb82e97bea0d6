"""Which routes are metered, and that the wire loads alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from proxy.wire import endpoint_for


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions/"])
def test_a_chat_completion_is_metered(path):
    endpoint = endpoint_for("POST", path)
    assert endpoint is not None
    assert endpoint.name == "chat.completions"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/chat/completions"), ("POST", "/v1/embeddings"), ("POST", "/v1/chat/completionsx")],
)
def test_everything_else_is_passed_through(method, path):
    assert endpoint_for(method, path) is None


def test_the_wire_loads_no_web_framework_and_no_engine():
    code = "import sys, proxy.wire, proxy.wire.annotate; print([m for m in ('litestar','httpx','numpy','asyncio') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
