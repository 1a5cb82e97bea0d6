"""What happens to a shard that is damaged in the middle: retired whole, its good records moved to a new
shard.

Every step can be cut by a crash. The new shard is built aside and synced, then the damaged folder is
renamed away and the new one renamed in; `finish_rescue` completes a swap that was cut between the two. The
damaged folder stays as evidence until a person removes it. Carrying a moved record again changes nothing,
since the store knows its id.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from proxy.clock import Clock, Ids
from proxy.errors import Unavailable
from proxy.metering.frames import (
    HEADER,
    HeaderDamaged,
    decode_header,
    encode_frame,
    encode_header,
    extent,
    frames_after_damage,
)
from proxy.metering.segments import SUFFIX, list_segments, sync_directory, write_synced

DAMAGED = "damaged-"


@dataclass(frozen=True, slots=True)
class Damage:
    """A retired shard: where it lies now, how many records were saved, and at least how many are gone."""

    folder: Path
    saved: int
    lost: int


def is_damaged(shard: Path) -> bool:
    """Return whether anything but the very end of the last segment is not whole."""
    segments = list_segments(shard)
    expected: int | None = None
    shard_ids: set[str] = set()
    for segment in segments:
        try:
            data = segment.path.read_bytes()
        except FileNotFoundError:  # read beside a running server: carried and deleted meanwhile
            continue
        try:
            shard_id, first_index = decode_header(data)
        except HeaderDamaged:
            return True
        shard_ids.add(shard_id)
        found = extent(data, HEADER.size, segment.first_index)
        cut_inside = found.bytes_after > 0 and segment is not segments[-1]
        displaced = first_index != segment.first_index or expected not in {None, first_index}
        if displaced or found.damaged or cut_inside:
            return True
        expected = found.next_index
    return len(shard_ids) > 1


def rescue(shard: Path, *, ids: Ids, clock: Clock) -> Damage:
    """Retire the damaged `shard` and put a new one with its whole records in its place. Raises OSError."""
    segments = list_segments(shard)
    payloads: list[bytes] = []
    first = segments[0].first_index
    last = first - 1
    for segment in segments:
        for frame in frames_after_damage(segment.path.read_bytes(), 0, segment.first_index):
            last = max(last, frame.index)
            try:
                frame.record()
            except Unavailable:
                continue  # whole, but no record of ours: it counts as lost
            payloads.append(frame.payload)
    aside = _rescue_folder(shard)
    aside.mkdir(mode=0o700)
    data = encode_header(ids.new("shd"), 0)
    data += b"".join(encode_frame(index, payload) for index, payload in enumerate(payloads))
    write_synced(aside / f"{0:020d}{SUFFIX}", data)
    sync_directory(aside)
    kept = shard.with_name(f"{DAMAGED}{shard.name}-{clock.now_us()}")
    shard.rename(kept)
    finish_rescue(shard)
    return Damage(kept, saved=len(payloads), lost=max(last + 1 - first - len(payloads), 1))


def finish_rescue(shard: Path) -> None:
    """Complete a swap that a crash cut, or forget a rescue that had not come so far."""
    aside = _rescue_folder(shard)
    if not aside.exists():
        return
    if shard.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(shard)
    sync_directory(shard.parent)


def damaged_folders(directory: Path) -> list[Path]:
    """Return the retired shards under the journal's folder, for doctor."""
    return sorted(directory.glob(f"{DAMAGED}*"))


def _rescue_folder(shard: Path) -> Path:
    return shard.with_name(f"rescue-{shard.name}")
