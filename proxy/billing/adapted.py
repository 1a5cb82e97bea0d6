"""The split of a work that was made from others: what its licence gives to each original, by name and ppm.

The licence names works and parts; who that is, is asked at the close, so an original that has changed hands
pays its new owner. Parts of a part are divided by the one rule there is for remainders (`allocate`), so that
the whole stays the whole, to the ppm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.billing.money import PPM, allocate
from proxy.billing.statement import SplitSet
from proxy.billing.totals import bump
from proxy.catalogue.works import Adapted


def with_originals(
    work: str, own: Mapping[str, SplitSet], adapted: Mapping[str, Sequence[Adapted]]
) -> SplitSet:
    """Return a work's split with the parts of its originals, and of theirs, given to their parties.

    own: the split of each work by itself. adapted: what each was made from, without circles. A party that is
    due less than a ppm is left out.
    """
    split, originals = own[work], adapted.get(work, ())
    if not originals:
        return split
    parties: dict[str, int] = {}
    kept = PPM - sum(one.ppm for one in originals)
    for party, ppm in allocate(kept, split.parties, f"{work}|{work}").items():
        bump(parties, party, ppm)
    for one in originals:
        theirs = with_originals(one.work, own, adapted).parties
        for party, ppm in allocate(one.ppm, theirs, f"{work}|{one.work}").items():
            bump(parties, party, ppm)
    return SplitSet(
        split.version, tuple(sorted((who, ppm) for who, ppm in parties.items() if ppm)), split.title
    )
