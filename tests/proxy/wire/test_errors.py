"""Refusals as OpenAI's clients expect them."""

from __future__ import annotations

import json

import pytest

from proxy.wire.errors import WireError, error_body, error_shape


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (503, "server_error"),
    ],
)
def test_an_error_has_openais_four_members(status, kind):
    assert json.loads(error_body(status, "why", code="c", param="p")) == {
        "error": {"message": "why", "type": kind, "param": "p", "code": "c"}
    }


def test_a_wire_error_says_cause_and_remedy():
    assert str(WireError("it broke", remedy="mend it")) == "it broke; mend it"
    assert str(WireError("it broke")) == "it broke"


def test_on_messages_our_errors_have_anthropics_shape():
    assert error_shape("/v1/messages") == error_shape("/v1/messages/count_tokens") == "anthropic"
    assert error_shape("/v1/messagesx") == error_shape("/v1/chat/completions") == "openai"
    body = json.loads(error_body(404, "none", code="model_not_found", shape="anthropic"))
    assert body["type"] == "error"
    assert (body["error"]["type"], body["error"]["message"]) == ("not_found_error", "none")
    assert json.loads(error_body(502, "x", code="c", shape="anthropic"))["error"]["type"] == "api_error"
