"""After a restart: answers that were given and whose shares were never booked are settled, or given up.

Their texts, if they were late, wait encrypted; they are scored now as they would have been then. An answer
whose text is gone (the process died between two writes) or older than `[attribution] pending_hours_max`
settles fully unattributed with the reason `not_attributed`: counted and printed, never guessed, its money
held.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from proxy.metering.pending import PendingText, PendingTexts
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
_pack_of = msgspec.json.Decoder(dict[str, dict[int, str]])


PACK = "pack_"  # begins the name of texts of several answers that were kept together


class WaitingTexts:
    """The relay's view of PendingTexts: an answer's texts by choice, packed into one.

    Answers that are given together (a batch's) are kept together, because each keeping waits for the disk
    four times. Their text goes when the last of them is settled.
    """

    def __init__(self, pending: PendingTexts) -> None:
        self._pending = pending
        self._guard = threading.Lock()  # calls come from several threads
        self._pack_of: dict[str, str] = {}
        self._left: dict[str, set[str]] = {}  # by pack, the answers that are not settled yet

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

    def put_together(self, app: str, texts: Mapping[str, Mapping[int, str]]) -> None:
        """Keep the texts of several answers, by id and choice, until each is erased; blocks on the disk."""
        name = PACK + min(texts)
        self._pending.put(name, msgspec.json.encode(texts).decode(), app)
        with self._guard:
            self._left[name] = set(texts)
            self._pack_of.update(dict.fromkeys(texts, name))

    def erase(self, event_id: str) -> None:
        """Forget them for good; unknown ids are fine."""
        with self._guard:
            name = self._pack_of.pop(event_id, event_id)
            left = self._left.get(name)
            if left is not None:
                left.discard(event_id)
                if left:
                    return
                del self._left[name]
        self._pending.erase(name)


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
    kept = await asyncio.to_thread(_kept_since, pending)
    overdue = await journal.settle_overdue(hours_max, kept)
    # Only what was open when the journal was opened: answers given meanwhile are the relay's to settle.
    open_ids = {used.id for used in journal.left_over} - set(overdue)
    settled = len(overdue) + len(open_ids)
    texts = pending.load_all()
    while (text := await asyncio.to_thread(next, texts, None)) is not None:
        for event_id, texts_ in _by_answer(text).items():
            if event_id not in open_ids:
                continue
            open_ids.discard(event_id)
            grounded, cited = texts_.pop(GROUNDED, "").split(), texts_.pop(CITED, "").split()
            result = await attributing.attribute(event_id, texts_, grounded, cited)
            # Scoring may have waited for an engine for so long that the answer was given up meanwhile.
            if any(used.id == event_id for used in journal.unsettled()):
                await journal.append(credits_of(result).record(event_id))
        await asyncio.to_thread(pending.erase, text.id)
    for event_id in sorted(open_ids):
        await journal.append(Attributed(id=event_id, unattributed_ppm=PPM, reason="not_attributed"))
    if settled:
        get_log().info("left_over_settled", answers=settled, without_text=len(open_ids), overdue=len(overdue))
    return settled


def _by_answer(text: PendingText) -> dict[str, dict[int, str]]:
    """Return {answer: its texts by choice} of what was kept together."""
    is_pack = text.id.startswith(PACK)
    return _pack_of.decode(text.text) if is_pack else {text.id: _texts_of.decode(text.text)}


def _kept_since(pending: PendingTexts) -> dict[str, int]:
    """Return since when each answer's text is kept, in microseconds: as long it has waited."""
    return {answer: text.kept_us for text in pending.load_all() for answer in _by_answer(text)}
