"""What waits because nobody had claimed it, and to whom it goes when somebody is named: pure division.

A part `~unclaimed` of a split earns into `liab:escrow:unclaimed:{work}`. When a later split names somebody
for it (an upheld claim gives the claimant the whole work, so it does), the first close after lets go what
waited: of all that is there the part that the unclaimed ppm became smaller by, among those who have more ppm
than before, by how much more. Who had their part already is paid nothing twice; the rest waits on.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.billing.money import allocate
from proxy.billing.statement import UNCLAIMED

Parties = Sequence[tuple[str, int]]


def unclaimed_ppm(parties: Parties) -> int:
    """Return the part of a split that nobody has claimed."""
    return sum(ppm for party, ppm in parties if party == UNCLAIMED)


def named(grains: int, before: Parties, now: Parties, seed: str) -> dict[str, int]:
    """Return {party: grains} of what leaves an escrow of `grains`; {} where nobody new is named.

    before, now: the split under which it last waited, and the one in force.
    """
    was, still = unclaimed_ppm(before), unclaimed_ppm(now)
    if still >= was or not grains:
        return {}
    leaving = allocate(grains, [("named", was - still), (UNCLAIMED, still)], seed)["named"]
    had = dict(before)
    more = [(party, ppm - had.get(party, 0)) for party, ppm in now if party != UNCLAIMED]
    shares = allocate(leaving, [(party, ppm) for party, ppm in more if ppm > 0], seed)
    return {party: part for party, part in shares.items() if part}
