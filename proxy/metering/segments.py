"""A shard's files: named by their first index, born whole, read while they grow.

A segment appears under its name only with its header on disk (written aside, synced, renamed), so a torn
header does not exist. A reader in this or another process sees whole frames only, and stops at the first
that is not.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import Unavailable
from proxy.metering.frames import (
    HEADER,
    PAYLOAD_BYTES_MAX,
    Frame,
    HeaderDamaged,
    decode_header,
    encode_header,
    frames,
)

READ_BYTES = 1 << 20  # one read of a reader: some thousand records
SUFFIX = ".log"


class Disk:
    """The calls that can fail when a disk is full or broken; tests hand in one that does."""

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        """Write at `offset`; return how many bytes went in, which may be fewer."""
        return os.pwrite(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        """Return when the data is on the disk."""
        os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(descriptor, size)

    def write_whole(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of `data`. Raises OSError."""
        view = memoryview(data)
        while view:
            written = self.write(descriptor, view, offset)
            if written <= 0:
                raise OSError(5, "the disk took no bytes")
            view, offset = view[written:], offset + written


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a shard."""

    path: Path
    first_index: int


def list_segments(directory: Path) -> list[Segment]:
    """Return a shard's segments in order; other files in the folder are not its own."""
    names = (path for path in directory.glob(f"*{SUFFIX}") if path.stem.isdigit())
    return sorted((Segment(path, int(path.stem)) for path in names), key=lambda segment: segment.first_index)


def create_segment(directory: Path, shard_id: str, first_index: int, disk: Disk) -> tuple[Segment, int]:
    """Return a new segment and its open descriptor, header and directory entry on disk. Raises OSError."""
    path = directory / f"{first_index:020d}{SUFFIX}"
    aside = path.with_suffix(".new")
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        disk.write_whole(descriptor, encode_header(shard_id, first_index), 0)
        disk.sync(descriptor)
        aside.rename(path)
        sync_directory(directory)
    except OSError:
        os.close(descriptor)
        aside.unlink(missing_ok=True)
        raise
    return Segment(path, first_index), descriptor


def write_synced(path: Path, data: bytes) -> None:
    """Make a whole file durable, readable by its owner only; its name still needs `sync_directory`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        disk = Disk()
        disk.write_whole(descriptor, data, 0)
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make names made or removed in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shard_id_of(directory: Path) -> str | None:
    """Return the id in the newest segment's header, None when the shard has no segment yet.

    Raises HeaderDamaged.
    """
    segments = list_segments(directory)
    if not segments:
        return None
    with segments[-1].path.open("rb") as file:
        return decode_header(file.read(HEADER.size))[0]


class Reader:
    """Reads a shard in index order, from where it stopped; keeps one place, opens the file for each read."""

    def __init__(self, directory: Path, next_index: int) -> None:
        self.directory = directory
        self.next_index = next_index
        self._segment: Segment | None = None
        self._offset = 0

    def read(self, *, below: int, records_max: int) -> list[Frame]:
        """Return up to `records_max` frames from `next_index` on, none at or above index `below`.

        Raises Unavailable(code "journal_gap") when a record below `below` is not there: nothing is skipped.
        """
        taken: list[Frame] = []
        while len(taken) < records_max and self.next_index < below:
            if self._segment is None:
                self._find()
            found = self._chunk(below, records_max - len(taken))
            if not found and not self._next_segment():
                raise self._gap()
            taken.extend(found)
        return taken

    def _chunk(self, below: int, records_max: int) -> list[Frame]:
        segment = self._segment
        if segment is None:
            raise self._gap()
        try:
            with segment.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(READ_BYTES)
                if len(data) == READ_BYTES and next(frames(data, 0, self.next_index), None) is None:
                    data += file.read(PAYLOAD_BYTES_MAX)
        except FileNotFoundError:
            return []  # carried and deleted: what comes next is in a later segment, or missing
        taken: list[Frame] = []
        start = self._offset
        for frame in frames(data, 0, self.next_index):
            if frame.index >= below or len(taken) >= records_max:
                break
            taken.append(frame)
            self._offset, self.next_index = start + frame.end, frame.index + 1
        return taken

    def _find(self) -> None:
        """Go to the segment that holds `next_index`, and past its earlier frames."""
        holders = [one for one in list_segments(self.directory) if one.first_index <= self.next_index]
        if not holders:
            raise self._gap()
        target, self._segment = self.next_index, holders[-1]
        self._offset, self.next_index = HEADER.size, holders[-1].first_index
        try:
            while self.next_index < target:
                if not self._chunk(target, 10_000):
                    raise self._gap()
        except Unavailable:
            self._segment, self.next_index = None, target
            raise

    def _next_segment(self) -> bool:
        for segment in list_segments(self.directory):
            if segment.first_index == self.next_index and segment != self._segment:
                self._segment, self._offset = segment, HEADER.size
                return True
        return False

    def _gap(self) -> Unavailable:
        self._segment = None
        return Unavailable(
            f"{self.directory}: the journal's record {self.next_index} is missing",
            remedy="run `endcredits doctor`; carrying stops here so that no usage is skipped in silence",
            code="journal_gap",
        )


def read_all(directory: Path) -> Iterator[Frame]:
    """Yield every whole frame of a shard from its oldest segment on, one segment in memory at a time.

    For reading beside a running server (doctor): the last frames may not be synced yet.
    """
    for segment in list_segments(directory):
        try:
            data = segment.path.read_bytes()
            decode_header(data)
        except (FileNotFoundError, HeaderDamaged):
            continue
        yield from frames(data, HEADER.size, segment.first_index)


def lock_file(path: Path) -> int | None:
    """Return a descriptor that holds the lock as long as it is open, None when another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
