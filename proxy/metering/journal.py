"""The journal: a usage record is on the disk before the answer's last byte leaves.

One writer thread takes whatever waits, writes it with one call and one fdatasync, and wakes everybody at
once, so the sync is paid per group and not per answer. The store may be away for hours: the journal alone
decides what was used, and the sink carries it over when it can.

A shard is a folder with a random id; a process holds one by flock and appends to nothing else. What a crash
cut short at the end was never acknowledged and is cut off. A shard damaged in the middle is retired
(repair.py): to go on in it could reuse indexes that the store has already counted, which would lose new
usage in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from proxy.clock import Clock, Ids, RandomIds
from proxy.errors import Unavailable
from proxy.metering.frames import HEADER, encode_frame, encode_record, frames
from proxy.metering.repair import Damage, finish_rescue, is_damaged, rescue
from proxy.metering.segments import (
    Disk,
    Reader,
    Segment,
    create_segment,
    list_segments,
    lock_file,
    shard_id_of,
    sync_directory,
)
from proxy.metering.unfinished import Unfinished, cut_by_crash
from proxy.metering.usage import PPM, Attributed, Begun, Record, Used
from proxy.observability import Metrics, get_log
from proxy.settings import Metering

GROUP_BYTES_MAX = 1 << 21  # one write: two records of the largest size, thousands of ordinary ones
SHARDS_MAX = 1_000  # worker processes on one data folder, far above any machine's
# How long the record that an answer began waits for that of what it used: most answers have their shares by
# then. A process killed within it leaves no trace of that answer; its client has read as little of it.
LINGER_S = 0.05
RETRY_S = 1.0  # how soon a disk that failed is tried again when nobody waits
PROBE = bytes(1 << 12)  # what it is tried with when there is no record: a page, which no full disk takes


@dataclass(slots=True)
class _Entry:
    """A record in the queue and who waits for it, if anybody does."""

    record: Record
    payload: bytes
    future: asyncio.Future[int] | None = None
    is_last: bool = True  # of those that share the future
    moved: bool = False  # a copy of what an older segment holds; `release` asks for it again if it fails


class Journal:
    """One process's shard of the journal. `open` it, append from one event loop, `close` it in the end."""

    def __init__(
        self,
        shard: Path,
        *,
        settings: Metering,
        clock: Clock,
        metrics: Metrics | None = None,
        disk: Disk | None = None,
        ids: Ids | None = None,
    ) -> None:
        self.directory = shard
        self.damage: Damage | None = None  # set when `open` had to retire a damaged shard
        self.problem: Unavailable | None = None  # why the disk takes no records at the moment, for /readyz
        self.on_group: Callable[[], None] | None = (
            None  # the sink's nudge, on the loop, after each durable group
        )
        self._settings, self._clock, self._metrics, self._disk = settings, clock, metrics, disk or Disk()
        self._log = get_log()
        self._wake = threading.Condition()  # guards the queue and everything a reader may ask for
        self._queue: deque[_Entry] = deque()
        self._room = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun: dict[str, Begun] = {}  # of answers under way for less than LINGER_S
        self._lingering: asyncio.TimerHandle | None = None
        self._closing = False
        self._move_below = 0
        self._unfinished = Unfinished()
        self._next_index = 0
        self._segment_at = 0  # first index of the segment that is written
        self._descriptor = -1
        self._size = 0
        self._torn = False  # a failed write may have left bytes behind `_size`
        self._lock_descriptor = -1
        self._restart(ids or RandomIds())
        # What former processes left without shares, to score again or to give up. It stays as it was at
        # `open`, because answers of our own soon stand in `unsettled` too.
        self.left_over = tuple(self._unfinished.used())
        self._thread = threading.Thread(target=self._write_forever, name="journal", daemon=True)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        settings: Metering,
        clock: Clock,
        metrics: Metrics | None = None,
        disk: Disk | None = None,
        ids: Ids | None = None,
    ) -> Self:
        """Take the first free shard under `directory`, repair its tail, and book answers that a crash cut.

        Raises Unavailable(code "journal_unavailable") when the folder cannot be used.
        """
        for number in range(SHARDS_MAX):
            shard = directory / f"shard-{number:02d}"
            found = cls._take(shard, settings=settings, clock=clock, metrics=metrics, disk=disk, ids=ids)
            if found is not None:
                return found
        raise Unavailable(f"{directory}: all {SHARDS_MAX} shards are taken", code="journal_unavailable")

    @classmethod
    def open_orphans(
        cls, directory: Path, *, settings: Metering, clock: Clock, metrics: Metrics | None = None
    ) -> list[Self]:
        """Take every free shard that holds records: those of workers that no longer run.

        Each needs a Sink of its own, and its unsettled answers are settled in it. Close those with nothing
        left.
        """
        whole = {shard for shard in directory.glob("shard-*") if shard.is_dir() and list_segments(shard)}
        # A crash may have cut a rescue before the new shard had its name.
        swaps = {path.with_name(path.name[len("rescue-") :]) for path in directory.glob("rescue-shard-*")}
        shards = sorted(whole | swaps)
        taken = (cls._take(shard, settings=settings, clock=clock, metrics=metrics) for shard in shards)
        return [journal for journal in taken if journal is not None]

    @classmethod
    def _take(
        cls,
        shard: Path,
        *,
        settings: Metering,
        clock: Clock,
        metrics: Metrics | None,
        disk: Disk | None = None,
        ids: Ids | None = None,
    ) -> Self | None:
        try:
            shard.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = lock_file(shard.with_suffix(".lock"))
            if lock is None:
                return None
            try:
                finish_rescue(shard)
                shard.mkdir(exist_ok=True, mode=0o700)
                sync_directory(shard.parent)
                journal = cls(shard, settings=settings, clock=clock, metrics=metrics, disk=disk, ids=ids)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise _unavailable(shard, error) from error
        journal._lock_descriptor = lock
        journal._thread.start()
        return journal

    def _restart(self, ids: Ids) -> None:
        for leftover in self.directory.glob("*.new"):
            leftover.unlink()  # a segment that was never born
        if is_damaged(self.directory):
            self.damage = rescue(self.directory, ids=ids, clock=self._clock)
            self._log.error(
                "journal_damaged",
                kept=str(self.damage.folder),
                records_saved=self.damage.saved,
                records_lost=self.damage.lost,
            )
        self.shard_id = shard_id_of(self.directory) or ids.new("shd")
        segments = list_segments(self.directory)
        for segment in segments:
            data = segment.path.read_bytes()
            first = segment.first_index
            self._segment_at, self._next_index, self._size = first, first, HEADER.size
            for frame in frames(data, HEADER.size, first):
                self._unfinished.saw(frame.record(), first, self._clock.now_us())
                self._next_index, self._size = frame.index + 1, frame.end
        if segments:
            self._continue(segments[-1])
        else:
            self._roll()
        self._book_cut_answers()

    def _continue(self, segment: Segment) -> None:
        self._descriptor = os.open(segment.path, os.O_RDWR)
        surplus = os.fstat(self._descriptor).st_size - self._size
        if surplus > 0:
            self._disk.truncate(self._descriptor, self._size)
            self._log.warning(
                "journal_tail_cut", shard=self.shard_id, segment=segment.path.name, bytes=surplus
            )
        # What a killed process had written but not synced counts from now on, so it must be on the disk.
        self._disk.sync(self._descriptor)

    def _book_cut_answers(self) -> None:
        begun = self._unfinished.begun()
        for answer in begun:
            for record in cut_by_crash(answer, attributed=self._unfinished.early(answer.id)):
                self._queue.append(_Entry(record, encode_record(record)))
        group: list[_Entry] = []
        try:
            while self._queue:  # nobody shares the queue yet: `open` returns with them durable
                group = self._next_group()
                self._write(group)
        except OSError as error:
            # A full disk keeps nobody from starting: the writer tries again, and if it never can, what says
            # that they began is still here for the next start.
            self._queue.extendleft(reversed(group))
            self._note(error, len(self._queue))
            return
        if begun:
            self._log.info("answers_cut_by_crash", shard=self.shard_id, answers=len(begun))

    def begin(self, begun: Begun) -> None:
        """Record, LINGER_S from now, that an answer began, unless what it used comes before and says all."""
        self._begun[begun.id] = begun
        if self._lingering is None:
            self._loop = asyncio.get_running_loop()
            self._lingering = self._loop.call_later(LINGER_S, self._linger_no_more)

    def _linger_no_more(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        begun, self._begun = self._begun, {}
        if begun:
            self._enqueue(*[_Entry(record, encode_record(record)) for record in begun.values()])

    async def append(self, *records: Record) -> int:
        """Record one or more; return the last's index once all are on the disk.

        Waits while `queue_events` records are queued. A caller that is cancelled meanwhile leaves its
        records queued. Raises Unavailable(code "journal_unavailable") when the disk refused one: those
        refused are then not recorded.
        """
        try:
            # On a disk that refuses, nobody waits for room: each caller has its own try, and is told at once.
            while len(self._queue) >= self._settings.queue_events and not self._closing and not self.problem:
                self._room.clear()
                await self._room.wait()
        except asyncio.CancelledError:
            for record in records:
                self.offer(record)
            raise
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        last = records[-1]
        entries = [_Entry(record, encode_record(record), future, record is last) for record in records]
        self._enqueue(*entries)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is not None:
                self._retry(entries)  # refused in the moment its caller left: nobody else will try again
            raise

    def offer(self, record: Record) -> None:
        """Queue `record` without waiting for room or for the disk: for handlers that are being cancelled.

        On a disk that refuses it, it is kept and tried again until `queue_events` such records wait.
        """
        self._enqueue(_Entry(record, encode_record(record)))

    def _enqueue(self, *entries: _Entry) -> None:
        if self._loop is None:
            with contextlib.suppress(RuntimeError):  # offered outside a loop: nobody to wake there
                self._loop = asyncio.get_running_loop()
        with self._wake:
            if self._closing:
                raise Unavailable("the journal is closed", code="journal_unavailable")
            self._queue.extend(entries)
            self._wake.notify()
        for entry in entries:
            self._begun.pop(entry.record.id, None)

    @property
    def next_index(self) -> int:
        """One past the newest durable record."""
        return self._next_index

    def reader(self, next_index: int) -> Reader:
        """Return a reader of this shard; ask it for nothing at or above the journal's `next_index`."""
        return Reader(self.directory, next_index)

    def unsettled(self) -> tuple[Used, ...]:
        """Return answers given whose shares are not recorded: a former process's, and live ones."""
        with self._wake:
            return tuple(self._unfinished.used())

    async def settle_overdue(self, hours_max: int, kept: Mapping[str, int] | None = None) -> tuple[str, ...]:
        """Record answers that wait for longer than `hours_max` as not attributed; return their ids.

        They wait since this process read or wrote them; kept: since when, for those of a former one.
        """
        oldest_us = self._clock.now_us() - hours_max * 3_600_000_000
        with self._wake:
            overdue = tuple(self._unfinished.overdue(oldest_us, kept or {}))
        for answer_id in overdue:
            await self.append(Attributed(id=answer_id, unattributed_ppm=PPM, reason="not_attributed"))
        return overdue

    def release(self, below: int) -> None:
        """Delete segments whose every record has an index below `below` and is in the store.

        A segment that an unfinished answer still needs goes later: its open records are written again at
        the end, which replays as nothing, and a restart finds them there.
        """
        if self._closing:
            return  # the shard may be another process's by now
        segments = list_segments(self.directory)
        gone = False
        for segment, following in itertools.pairwise(segments):
            if following.first_index > below:
                break
            with self._wake:
                if self._unfinished.in_segments_before(following.first_index):
                    self._move_below = max(self._move_below, following.first_index)
                    self._wake.notify()
                    break
            segment.path.unlink()
            gone = True
        if gone:
            sync_directory(self.directory)

    async def close(self) -> None:
        """Write what is queued, then let go of the shard."""
        self._linger_no_more()
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._room.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # the last group's callers are woken by the loop
        if self._descriptor >= 0:
            os.close(self._descriptor)
            os.close(self._lock_descriptor)
            self._descriptor = -1

    # --- the writer's thread ---

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._move_below and not self._closing:
                    if not self._wake.wait(RETRY_S if self.problem else None):
                        break  # nobody comes to try, as a proxy that is not ready is sent nobody
                nobody_waits = all(entry.future is None for entry in self._queue)
                if self.problem and self._queue and nobody_waits and not self._closing:
                    self._wake.wait(RETRY_S)
                group = self._next_group()
                if not group and self._closing:
                    return
            if not group and not self.problem:
                continue
            try:
                self._write(group)
            except OSError as error:
                self._failed(group, error)
            else:
                self.problem = None
                self._on_loop(self._acknowledge, group, self._next_index - len(group))

    def _next_group(self) -> list[_Entry]:
        group: list[_Entry] = []
        if self._move_below:
            moved = self._unfinished.in_segments_before(self._move_below)
            group = [_Entry(record, encode_record(record), moved=True) for record in moved]
            self._move_below = 0
        size = 0
        while self._queue and size < GROUP_BYTES_MAX:
            entry = self._queue.popleft()
            size += len(entry.payload)
            group.append(entry)
        return group

    def _write(self, group: list[_Entry]) -> None:
        """Make a group durable, or raise OSError and leave the segment as it was; of none, try the disk."""
        if self._torn:
            self._disk.truncate(self._descriptor, self._size)
            self._torn = False
        if self._size >= self._settings.segment_bytes:
            self._roll()
        data = b"".join(
            encode_frame(index, entry.payload) for index, entry in enumerate(group, start=self._next_index)
        )
        started = time.perf_counter()
        try:
            self._disk.write_whole(self._descriptor, data or PROBE, self._size)
            self._disk.sync(self._descriptor)
            if not group:
                self._disk.truncate(self._descriptor, self._size)
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):  # tried again before the next write, and at the next `open`
                self._disk.truncate(self._descriptor, self._size)
                self._torn = False
            raise
        if self._metrics is not None:
            self._metrics.journal_sync_seconds.observe(time.perf_counter() - started)
            for entry in group:
                if isinstance(entry.record, Used) and not entry.moved:
                    self._metrics.events.labels(entry.record.outcome).inc()
        with self._wake:
            self._size += len(data)
            self._next_index += len(group)
            for entry in group:
                self._unfinished.saw(entry.record, self._segment_at, self._clock.now_us())

    def _roll(self) -> None:
        if self._descriptor >= 0:  # what a failed write left must be gone before a next one exists
            self._disk.sync(self._descriptor)
        segment, descriptor = create_segment(self.directory, self.shard_id, self._next_index, self._disk)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._size, self._segment_at = descriptor, HEADER.size, segment.first_index

    def _failed(self, group: list[_Entry], error: OSError) -> None:
        problem = self._note(error, len(group))
        if self._closing:
            self._log.error("journal_records_dropped", shard=self.shard_id, records=len(group), why="closing")
        else:  # here and not on the loop: a `Begun` must not come behind its own `Used`
            self._retry([entry for entry in group if entry.future is None and not entry.moved])
        self._on_loop(self._refuse, group, problem)

    def _note(self, error: OSError, records: int) -> Unavailable:
        if self.problem is None:
            self._log.error("journal_write_failed", shard=self.shard_id, error=str(error), records=records)
        self.problem = problem = _unavailable(self.directory, error)
        return problem

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(call, *arguments)

    # --- back on the loop ---

    def _acknowledge(self, group: list[_Entry], first_index: int) -> None:
        for index, entry in enumerate(group, start=first_index):
            if entry.future is not None and entry.is_last and not entry.future.done():
                entry.future.set_result(index)
        self._room.set()
        if self.on_group is not None:
            self.on_group()

    def _refuse(self, group: list[_Entry], problem: Unavailable) -> None:
        for entry in group:
            if entry.future is not None and not entry.future.done():
                entry.future.set_exception(problem)
        left = [entry for entry in group if entry.future is not None and entry.future.cancelled()]
        self._retry([entry for entry in left if not isinstance(entry.record, Begun)])
        self._room.set()

    def _retry(self, entries: list[_Entry]) -> None:
        with self._wake:
            if self._closing:
                return
            room = max(self._settings.queue_events - len(self._queue), 0)
            kept, dropped = entries[:room], entries[room:]
            self._queue.extendleft(_Entry(entry.record, entry.payload) for entry in reversed(kept))
            self._wake.notify()
        if dropped:
            self._log.error("journal_records_dropped", shard=self.shard_id, records=len(dropped), why="disk")


def _unavailable(place: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"{place}: the usage journal cannot be written ({error.strerror or error})",
        remedy="free space on its disk, or check the folder's owner; nothing recorded is lost",
        code="journal_unavailable",
    )
