"""What an exchange can ask for."""

from __future__ import annotations

import pytest

from proxy.relay.actions import Close, Send


def test_actions_are_values():
    assert Send(b"a") == Send(b"a")
    with pytest.raises(AttributeError):
        Send(b"a").data = b"b"  # pyright: ignore[reportAttributeAccessIssue]


def test_an_exchange_ends_cleanly_unless_it_says_otherwise():
    assert Close().is_clean
