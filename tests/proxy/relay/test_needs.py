"""The real parts fit where the fakes stand."""

from __future__ import annotations

import inspect

import pytest

from proxy.access.store import KeyRing
from proxy.metering.journal import Journal
from proxy.relay import needs
from proxy.relay.attributing import Attributing
from proxy.relay.recovery import WaitingTexts
from tests import fakes


@pytest.mark.parametrize(
    ("need", "real", "fake"),
    [
        (needs.KeyRing, KeyRing, fakes.MemoryKeys),
        (needs.JournalLike, Journal, fakes.MemoryJournal),
        (needs.PendingLike, WaitingTexts, fakes.MemoryPending),
        (needs.AttributingLike, Attributing, fakes.ScriptedAttributing),
    ],
)
def test_a_fake_has_the_methods_of_the_part_it_stands_for(need, real, fake):
    for name, wanted in inspect.getmembers(need, inspect.isfunction):
        if name.startswith("_"):
            continue
        for made in (real, fake):
            has = inspect.signature(getattr(made, name)).parameters
            assert len(has) == len(inspect.signature(wanted).parameters), f"{made.__name__}.{name}"
            assert inspect.iscoroutinefunction(getattr(made, name)) == inspect.iscoroutinefunction(wanted)
