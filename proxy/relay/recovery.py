"""After a restart: answers that were given and whose shares were never booked are settled, or given up.

Their texts, if they were late, wait encrypted; they are scored now as they would have been then. An answer
whose text is gone (the process died between two writes) or older than `[attribution] pending_hours_max`
settles fully unattributed with the reason `not_attributed`: counted and printed, never guessed, its money
held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from proxy.metering.pending import PendingTexts
from proxy.metering.usage import PPM, Attributed
from proxy.observability import get_log

if TYPE_CHECKING:
    from proxy.metering.journal import Journal
    from proxy.relay.attributing import Attributing
    from proxy.relay.credits import Credited
    from proxy.relay.scored import Failed, Scored

# In the place of a choice: the ids of the works that stood in the request, or whose address the answer names.
GROUNDED, CITED = -1, -2

_texts_of = msgspec.json.Decoder(dict[int, str])


class WaitingTexts:
    """The relay's view of PendingTexts: an answer's texts by choice, packed into one."""

    def __init__(self, pending: PendingTexts) -> None:
        self._pending = pending

    def put(
        self,
        event_id: str,
        app: str,
        texts: Mapping[int, str],
        grounded: Sequence[str] = (),
        cited: Sequence[str] = (),
    ) -> None:
        """Keep the texts until `erase`; blocks on the disk."""
        works = {GROUNDED: " ".join(grounded), CITED: " ".join(cited)}
        kept = {**texts, **{place: ids for place, ids in works.items() if ids}}
        self._pending.put(event_id, msgspec.json.encode(kept).decode(), app)

    def erase(self, event_id: str) -> None:
        """Forget them for good; unknown ids are fine."""
        self._pending.erase(event_id)


async def settle_left_over(
    journal: Journal,
    pending: PendingTexts,
    attributing: Attributing,
    credits_of: Callable[[Scored | Failed], Credited],
    *,
    hours_max: int,
) -> int:
    """Settle what a former process left open in `journal`; return how many answers that were.

    Raises Unavailable when the journal refuses; what is not settled then waits for the next start.
    """
    overdue = await journal.settle_overdue(hours_max)
    # Only what was open when the journal was opened: answers given meanwhile are the relay's to settle.
    open_ids = {used.id for used in journal.left_over} - set(overdue)
    settled = len(overdue) + len(open_ids)
    texts = pending.load_all()
    while (text := await asyncio.to_thread(next, texts, None)) is not None:
        if text.id in open_ids:
            open_ids.discard(text.id)
            texts_ = _texts_of.decode(text.text)
            grounded, cited = texts_.pop(GROUNDED, "").split(), texts_.pop(CITED, "").split()
            result = await attributing.attribute(text.id, texts_, grounded, cited)
            # Scoring may have waited for an engine for so long that the answer was given up meanwhile.
            if any(used.id == text.id for used in journal.unsettled()):
                await journal.append(credits_of(result).record(text.id))
        await asyncio.to_thread(pending.erase, text.id)
    for event_id in sorted(open_ids):
        await journal.append(Attributed(id=event_id, unattributed_ppm=PPM, reason="not_attributed"))
    if settled:
        get_log().info("left_over_settled", answers=settled, without_text=len(open_ids), overdue=len(overdue))
    return settled
