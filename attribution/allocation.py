"""Words won, made into shares that sum exactly.

Largest remainders (Hamilton's method): each share is floored to whole ppm, the missing ppm go to the largest
remainders, ties by sha256 of the key, so no party gains by its place in a list or by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from attribution.terms import PPM

UNATTRIBUTED = ""


def to_ppm(words_won: Mapping[str, int], words: int) -> dict[str, int]:
    """Return ppm by work id; what no work won stands under UNATTRIBUTED. The values sum to 1,000,000."""
    won = sum(words_won.values())
    if won > words or any(count < 0 for count in words_won.values()):
        raise ValueError(f"{won} words won of {words}")
    if words == 0:
        return {UNATTRIBUTED: PPM}
    counts = {**words_won, UNATTRIBUTED: words - won}
    floors = {key: count * PPM // words for key, count in counts.items()}
    order = sorted(
        counts, key=lambda key: (-(counts[key] * PPM % words), hashlib.sha256(key.encode()).digest())
    )
    for key in order[: PPM - sum(floors.values())]:
        floors[key] += 1
    return {key: ppm for key, ppm in floors.items() if ppm or key == UNATTRIBUTED}
