"""What an audit says of periods whose answers have left the store: their digests hold, and it is told which.

Nothing is passed over in silence. A period that is written down as trimmed is checked by its digest, which
must be of the period's own stretch of the log, sum as its close did, and give each answer its whole million
of ppm; and every invariant that would have looked at the answers says how many it knows by digest alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import sqlalchemy as sa

from proxy.billing.invariants import Counted, Period, Tally
from proxy.billing.money import PPM
from proxy.metering import gone_store
from proxy.metering.archive import Digest
from proxy.metering.gone_store import Trimmed

BY_DIGEST: Final = ("I3", "I6", "I7", "I14", "I15")  # what looks at answers and their lines


def trimmed(connection: sa.Connection, tally: Tally) -> Mapping[str, Trimmed]:
    """Return what is written down of periods whose answers left, and note it where it is not looked at."""
    try:
        found = gone_store.trimmed(connection)
    except msgspec.MsgspecError as error:
        tally.found("I7", f"the digest of a period whose answers left can't be read: {error}")
        return {}
    if found:
        labels = sorted(found)
        named = labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]}"
        answers = sum(one.digest.answers for one in found.values())
        some = f"{len(found)} period{'s' if len(found) > 1 else ''} ({named})"
        for invariant in BY_DIGEST:
            tally.note(invariant, f"the {answers:,} answers of {some} left the store: by their digests")
    return found


def counted(connection: sa.Connection, tally: Tally, period: Period, left: Trimmed) -> Counted:
    """Check what is written down of a period, and return what its digest counts."""
    name, digest = f"period {period.label}", left.digest
    begins = {shard: period.start_bounds.get(shard, 0) for shard in period.end_bounds}
    whole = {shard: (begins[shard], end) for shard, end in period.end_bounds.items() if end > begins[shard]}
    if digest.shards != whole or digest.period != period.label:
        tally.found("I6", f"{name}: its digest is of {digest.shards}, it is {whole} of the log")
    asked = {"label": period.label}
    ranges = sa.text("SELECT shard_id, start_idx, end_idx FROM trimmed_range WHERE period_label = :label")
    marked = {row[0]: (row[1], row[2]) for row in connection.execute(ranges, asked)}
    if marked != whole:
        tally.found("I6", f"{name}: {marked} of the log is written down as trimmed, it is {whole}")
    said = connection.scalar(sa.text("SELECT answers FROM trimmed_period WHERE label = :label"), asked)
    if said != digest.answers:
        tally.found("I7", f"{name}: its digest counts {digest.answers} answers, its row says {said}")
    if digest.unattributed_ppm + sum(digest.line_ppm.values()) != PPM * digest.answers:
        tally.found("I3", f"{name}: the shares of its digest are not a million ppm an answer")
    return counts(digest)


def counts(digest: Digest) -> Counted:
    """Return what a digest says of its period, as an audit counts answers."""
    return Counted(
        digest.answers,
        digest.estimated,
        digest.outcomes,
        digest.unscored,
        digest.unattributed_ppm,
        digest.line_ppm,
        digest.first_us,
        digest.last_us,
    )
