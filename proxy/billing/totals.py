"""A period in sums, and the rules it was closed by: what every statement of it says alike.

Both are written to the store as JSON and read back for ever, so a field that is new has a default and is
left out while it holds it: what was closed before stays the same bytes.
"""

from __future__ import annotations

import msgspec

from proxy.billing.pools import PoolTold


def bump(sums: dict[str, int], key: str, by: int) -> None:
    """Add to one of many sums."""
    sums[key] = sums.get(key, 0) + by


class Totals(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A period's sums, the same on every statement of it. Grains unless the name says otherwise.

    charged + released = creators + escrow + sum(common) + platform. Masses are sums of ppm over all answers.
    claimed: the part of escrow that open claims hold of this period's money; released: what decided ones let
    go of earlier periods'. Both are written where they are not 0, so that older periods stay the same bytes.
    pools: what apps declared and how it was divided, part of the sums above. common_carried: what stood in
    the common accounts of earlier periods, by reason, when this one was closed: not distributed yet.
    """

    events: int
    estimated_events: int
    pending_events: int
    outcomes: dict[str, int]
    unscored_events: dict[str, int]
    price_grains: int
    charged_grains: int
    creators_grains: int
    escrow_grains: int
    common_grains: dict[str, int]
    platform_grains: int
    not_charged_grains: int
    paid_ppm_sum: int
    free_ppm_sum: int
    prohibited_ppm_sum: int
    unattributed_ppm_sum: int
    first_occurred_us: int
    last_occurred_us: int
    claimed_grains: int = 0
    released_grains: int = 0
    below_floor_ppm_sum: int = 0
    pools: tuple[PoolTold, ...] = ()
    common_carried_grains: dict[str, int] = {}


class Basis(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a recomputation needs beside the events: the interval of the log, the rules and their versions.

    pay_own_apps is written where it holds, so that periods closed before there was such a rule stay the same
    bytes. policies: the ids of all by which an answer of the period was paid; royalty_ppm, unattributed and
    pay_own_apps are those of the policy in force at the close. royalties: every part of the price that
    answers paid, where that was not royalty_ppm alone. policy_seq: up to which activation policies were read.
    """

    start_bounds: dict[str, int]
    end_bounds: dict[str, int]
    registry_seq: int
    royalty_ppm: int
    unattributed: str
    price_versions: tuple[str, ...]
    methods: tuple[str, ...]
    pay_own_apps: bool = False
    policies: tuple[str, ...] = ()
    royalties: tuple[int, ...] = ()
    policy_seq: int = 0
