"""Each way a backend fails has a status, a code and a remedy."""

from __future__ import annotations

from typing import get_args

from proxy.relay.failures import FAILURES, FailureKind


def test_every_kind_of_failure_has_its_words():
    assert set(FAILURES) == set(get_args(FailureKind))
    for status, code, message in FAILURES.values():
        assert status in {502, 504}
        assert code.startswith("backend_")
        assert "; " in message
