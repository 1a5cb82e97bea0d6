"""Which answers are not settled yet, told from the journal's own records in their order.

An answer is finished when both its `Used` and its `Attributed` are recorded. Until then a restart still
needs its earliest record: a lone `Begun` becomes a `cut` event, a `Used` waits for its shares. So a journal
segment may be deleted only when nothing unfinished has its record in it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from proxy.metering.usage import PPM, Attributed, Begun, Record, Used

# Shares recorded ahead of their usage wait here for it; they come in the same breath: this is plenty.
EARLY_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Opening:
    """An unfinished answer: the record a restart needs, and the first index of the segment it lies in.

    since_us: since when it waits for its shares. Not when it was given: what a backend made days ago may be
    fetched, and recorded, only now.
    """

    record: Begun | Used
    segment: int
    since_us: int


class Unfinished:
    """The unfinished answers of one shard: as many as are in flight or wait for shares."""

    def __init__(self) -> None:
        self._open: dict[str, Opening] = {}
        self._early: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def saw(self, record: Record, segment: int, at_us: int) -> None:
        """Take the next record, which lies in the segment that begins at index `segment`; seen at `at_us`."""
        match record:
            case Begun():
                known = self._open.get(record.id)
                if known is None or isinstance(known.record, Begun):
                    self._open[record.id] = Opening(record, segment, at_us)
            case Used():
                if record.id in self._early:
                    del self._early[record.id]
                    self._open.pop(record.id, None)
                else:
                    known = self._open.get(record.id)
                    is_again = known is not None and isinstance(known.record, Used)
                    since_us = known.since_us if known is not None and is_again else at_us
                    self._open[record.id] = Opening(record, segment, since_us)
            case Attributed():
                known = self._open.get(record.id)
                if known is not None and isinstance(known.record, Used):
                    del self._open[record.id]
                else:
                    self._early[record.id] = None
                    if len(self._early) > EARLY_MAX:
                        self._early.popitem(last=False)

    def in_segments_before(self, index: int) -> list[Begun | Used]:
        """Return the records that keep segments which begin before `index`."""
        return [opening.record for opening in self._open.values() if opening.segment < index]

    def begun(self) -> list[Begun]:
        """Return answers in flight: after a restart, those the crash cut."""
        return [opening.record for opening in self._open.values() if isinstance(opening.record, Begun)]

    def used(self) -> list[Used]:
        """Return answers given whose shares are not recorded yet."""
        return [opening.record for opening in self._open.values() if isinstance(opening.record, Used)]

    def overdue(self, oldest_us: int, kept: Mapping[str, int]) -> list[str]:
        """Return answers given whose shares have been waited for since before `oldest_us`.

        kept: {answer: since when its text is kept}, of those that a former process recorded; remembered.
        """
        for answer_id in kept.keys() & self._open.keys():
            self._open[answer_id] = replace(self._open[answer_id], since_us=kept[answer_id])
        every = self._open.items()
        return [key for key, one in every if isinstance(one.record, Used) and one.since_us < oldest_us]

    def early(self, answer_id: str) -> bool:
        """Return whether shares of this answer were recorded ahead of its usage."""
        return answer_id in self._early


def cut_by_crash(begun: Begun, *, attributed: bool = False) -> list[Record]:
    """Return what a restart books for an answer in flight at the kill: one `cut` event, wholly unattributed.

    attributed: its shares are recorded already (they came ahead of the usage), so only the usage is missing.
    """
    used = Used(
        id=begun.id,
        occurred_us=begun.occurred_us,
        app=begun.app,
        backend="",
        model=begun.model,
        endpoint=begun.endpoint,
        outcome="cut",
        input_tokens=begun.input_tokens,
        output_tokens=0,
        estimated=True,
        price_version=begun.price_version,
        policy_seq=begun.policy_seq,
    )
    if attributed:
        return [used]
    return [used, Attributed(id=begun.id, unattributed_ppm=PPM, reason="cut_by_crash")]
