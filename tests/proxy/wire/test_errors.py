"""Refusals as OpenAI's clients expect them."""

from __future__ import annotations

import json

import pytest

from proxy.wire.errors import WireError, error_body


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
