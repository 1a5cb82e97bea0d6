"""Which apps are a creator's own, and since when: whoever asks for their own works is not paid for asking.

An app is linked by an operator, who knows whose it is; the link acts on answers from then on. An answer
carries the registry's number under which it was credited, so whose app it came from is a fact that can be
told at any later time, and closing a period twice says the same twice.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class AppLinks:
    """Every app's history: (registry's number, creator's id or "" for nobody's), in the order of numbers."""

    history: Mapping[str, tuple[tuple[int, str], ...]] = field(default_factory=lambda: MappingProxyType({}))

    def creator_of(self, app_id: str, seq: int) -> str:
        """Return whose app it was at the registry's number `seq`, "" for nobody's."""
        changes = self.history.get(app_id, ())
        place = bisect.bisect_right(changes, seq, key=lambda change: change[0])
        return changes[place - 1][1] if place else ""
