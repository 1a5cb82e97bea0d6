"""What a statement says, and the closing that it belongs to: the values, read back from the store for ever.

A field that is new has a default and is left out while it holds it: what was closed before stays the same
bytes, and its hash can still be checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import msgspec

from proxy.billing.ledger import Transfer
from proxy.billing.money import PPM
from proxy.billing.movements import Move
from proxy.billing.totals import Basis, Totals
from proxy.clock import base32

UNCLAIMED: Final = "~unclaimed"
# What a line says, and the reason in the common account, where a creator's own app used their work.
OWN_APP: Final = "own_app"
# What a line says where an open claim holds the work's money, and where a decided one lets it go.
CLAIMED: Final = "claimed"
RELEASED: Final = "released"


class SplitSet(msgspec.Struct, frozen=True, gc=False):
    """Who gets a work's money: parties (creator ids, or "~unclaimed") in ppm that sum to 1,000,000."""

    version: int
    parties: tuple[tuple[str, int], ...]
    title: str = ""

    def __post_init__(self) -> None:
        """Refuse a split that gives more or less than everything."""
        parts = [ppm for _, ppm in self.parties]
        if sum(parts) != PPM or min(parts) < 0:
            raise ValueError(f"a split's parties do not sum to {PPM} ppm: {self.parties}")


class StatementLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One work in one app, by model, day, scheme and verdict. gross: the work's; net: this creator's part.

    verdict: as metered; "own_app" where the app was this creator's own, which earns them nothing; "claimed"
    where an open claim holds the money; "released" for what was held before (no app, no answers).
    price_grains: what those answers cost together (royalty); rate_grains: what a whole answer pays (direct).
    periods: of a released line, those in which nobody had claimed it; written where there are any.
    """

    work: str
    title: str
    app: str
    model: str
    day: str
    scheme: str
    verdict: str
    answers: int
    ppm_sum: int
    price_grains: int
    rate_grains: int
    gross_grains: int
    split_version: int
    split_ppm: int
    net_grains: int
    periods: tuple[str, ...] = ()


class Statement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one creator is owed for one period and why. earned = sum of the lines' nets.

    closing = opening + earned + adjustments - held + released - paid - withheld + returned + distributed,
    where opening is the closing of the statement before; `moves` are what those between earned and closing
    are sums of. They are written where they are not 0, so that older statements stay the same bytes.
    """

    id: str
    period: str
    creator: str
    name: str
    currency: str
    closed_us: int
    opening_grains: int
    earned_grains: int
    closing_grains: int
    lines: tuple[StatementLine, ...]
    lines_sha256: str
    app_names: dict[str, str]
    basis: Basis
    totals: Totals
    moves: tuple[Move, ...] = ()
    adjustments_grains: int = 0
    held_grains: int = 0
    released_grains: int = 0
    paid_grains: int = 0
    withheld_grains: int = 0
    returned_grains: int = 0
    distributed_grains: int = 0


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """A closed period. manifest_sha256 covers bounds, rules, totals, every transfer and every line.

    transfers, and statements by creator, may lie in a file or in the store, one in memory at a time.
    """

    label: str
    currency: str
    closed_us: int
    basis: Basis
    totals: Totals
    charged_by_app: dict[str, int]
    transfers: Sequence[Transfer]
    statements: Sequence[Statement]
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """What waits of a work because nobody had claimed it. before: the split under which it waited last.

    periods: those whose money it is, oldest first.
    """

    grains: int
    before: tuple[tuple[str, int], ...]
    periods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Books:
    """What was known when the period was closed: splits by work, names, and what creators were owed before.

    A work that `splits` does not know is paid to nobody: its money waits in escrow as unclaimed. claimed:
    works with an open claim. waiting: {(work, whose own app it was, or ""): what earlier claims hold}.
    opening_grains: by creator, where the last statement ended; moves: what was booked since, by no close.
    common_carried: by reason, what stands in the common accounts of earlier periods. unclaimed: by work, what
    nobody had claimed and somebody is named for now.
    """

    splits: Mapping[str, SplitSet]
    creator_names: Mapping[str, str]
    app_names: Mapping[str, str]
    opening_grains: Mapping[str, int]
    registry_seq: int = 0
    pending_events: int = 0
    claimed: frozenset[str] = frozenset()
    waiting: Mapping[tuple[str, str], int] = field(default_factory=lambda: MappingProxyType({}))
    moves: Mapping[str, tuple[Move, ...]] = field(default_factory=lambda: MappingProxyType({}))
    common_carried: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    unclaimed: Mapping[str, Unclaimed] = field(default_factory=lambda: MappingProxyType({}))


def canonical(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces: equal values are equal bytes. Integers and text only."""
    return msgspec.json.encode(value, order="sorted")


def statement_id(label: str, creator: str, currency: str) -> str:
    """Return the id of a creator's statement of a period: the same however often it is made."""
    digest = hashlib.sha256(f"statement|{label}|{creator}|{currency}".encode()).digest()
    return "stm_" + base32(int.from_bytes(digest[:17], "big") >> 6)
