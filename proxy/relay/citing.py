"""Which registered works an answer cites: those whose web address it names, as a source or in its text.

An address says whose page the answer points to, and nothing of what was taken from it: it raises the odds of
words that resemble the work, and a work that shares none gets nothing. Pure, and nothing is ever fetched.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from proxy.relay.told import Told
from proxy.wire.addresses import addresses_in

WorksAt = Callable[[str], Sequence[str]]
ADDRESSES_MAX = 256  # of one answer, its sources first; a list of links cites nothing in particular
WORKS_MAX = 16  # candidates of every piece of the answer, as many as may be grounded


def nobody_is_there(address: str) -> Sequence[str]:
    """Return no work: for a catalogue without addresses."""
    del address
    return ()


def cited(told: Told, works_at: WorksAt) -> tuple[str, ...]:
    """Return the works whose address the answer names, at most WORKS_MAX, in the order they are named."""
    texts = [text for text in told.texts().values() if "://" in text]
    if not (texts or told.cited):
        return ()
    in_texts = (address for text in texts for address in addresses_in(text))
    found: dict[str, None] = {}
    for address in itertools.islice(itertools.chain(told.cited, in_texts), ADDRESSES_MAX):
        found.update(dict.fromkeys(works_at(address)))
        if len(found) >= WORKS_MAX:
            break
    return tuple(found)[:WORKS_MAX]
