"""A batch's answers, metered as their file goes by: each once, however often it is fetched.

The app gave a batch to the backend and fetches its output when it likes, so the download is the moment in
which the answers are given. The bytes pass as they came; of a copy the whole lines are read, and a piece goes
on only when the answers that end in it are on the disk. Their ids come from the file (metering.batches), and
everything in a record from the line itself: what another worker or a second download records is the same
event. Their shares come later (`pending`), as for answers whose place for them is gone by.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from proxy.asking import of_store, on_disk
from proxy.errors import Problem
from proxy.metering.batches import line_id
from proxy.metering.usage import Record, Used
from proxy.relay.credits import Credited, unscored
from proxy.relay.told import Told
from proxy.wire.batches import BatchLine, LineCutter, RawLine, read_line
from proxy.wire.coding import INFLATABLE, Inflater
from proxy.wire.errors import WireError
from proxy.wire.headers import RawHeaders, field_of
from proxy.wire.output import NO_MEDIA, TokenCounts

if TYPE_CHECKING:
    from proxy.relay.handler import Relay

FILE_BYTES_MAX = 8 << 30  # unpacked, of an answer that was compressed though we asked for none
RECENT_MAX = 100_000  # ids of this worker that the store may not have yet: some 15 MB
NAMES_MAX = 1_000_000  # custom ids of one file; backends take 50,000 requests in a batch
BACKLOG_WAIT_S = 0.1
BYTES_PER_TOKEN = 4

# Which of these ids are metered already. Blocks on the store; raises Unavailable.
Known = Callable[[Sequence[str]], set[str]]


class BatchOutput:
    """One download of one batch's output."""

    def __init__(self, relay: Relay, app: str, backend: str, file_id: str, made_s: int | None) -> None:
        """made_s: when the backend made the file, for answers that do not say when they were given."""
        self._relay = relay
        self._app = app
        self._backend = backend
        self._file = file_id
        self._made_s = made_s
        self._cutter = LineCutter()
        self._inflate: Inflater | None = None
        self._names: Counter[str] = Counter()
        self._is_readable = True
        self.tokens = 0  # metered here for the first time
        self.grains = 0

    def began(self, headers: RawHeaders) -> None:
        """Take the head of the backend's answer."""
        coding = field_of(headers, b"content-encoding")
        if coding in INFLATABLE:
            self._inflate = Inflater(FILE_BYTES_MAX)
        self._is_readable = coding in INFLATABLE | {b"", b"identity"}

    async def take(self, piece: bytes) -> None:
        """Meter the answers that end in this piece. Raises Problem when they cannot be recorded."""
        if not self._is_readable:
            return
        try:
            plain = piece if self._inflate is None else self._inflate.feed(piece)
        except WireError:
            self._is_readable = False
            return
        await self._meter(self._cutter.feed(plain))

    async def finish(self) -> None:
        """Meter the last answer."""
        last = self._cutter.finish() if self._is_readable else None
        if last is not None:
            await self._meter([last])

    async def _meter(self, raw_lines: Sequence[RawLine]) -> None:
        relay, lines = self._relay, dict[str, BatchLine]()
        for raw in raw_lines:
            line = read_line(raw)
            if line is None or len(self._names) >= NAMES_MAX:
                relay.metrics.batch_lines.labels("unread").inc()
                continue
            occurrence = self._names[line.custom_id]
            self._names[line.custom_id] += 1
            lines[line_id(self._backend, self._file, line.custom_id, occurrence)] = line
        new = await relay.batches.new(list(lines)) if lines else []
        if len(new) < len(lines):
            relay.metrics.batch_lines.labels("known").inc(len(lines) - len(new))
        records: list[Record] = []
        late: dict[str, dict[int, str]] = {}
        try:
            for event_id in new:
                records += await self._records(event_id, lines[event_id], late)
            if late:
                await on_disk(relay.pending.put_together, self._app, late)
            if records:
                await relay.journal.append(*records)
        except BaseException:
            # The journal refuses, or the client is gone. Texts stay: those of records that were taken all the
            # same are settled, the others' erased at the next start.
            for event_id in late:
                relay.forget_late(event_id)
            raise
        relay.batches.remember(new)
        relay.metrics.batch_lines.labels("metered").inc(len(new))
        for event_id in late:
            await relay.late_is_recorded(event_id)

    async def _records(self, event_id: str, line: BatchLine, late: dict[str, dict[int, str]]) -> list[Record]:
        """Return what to record of one answer; its texts are put into `late` when its shares are to come."""
        relay, said, endpoint = self._relay, line.said, line.endpoint
        told = Told(relay.settings.attribution.text_bytes_max)
        is_scored = endpoint is not None and not endpoint.unscored and not line.is_refusal
        if is_scored and relay.attributing.backlog_is_full():
            is_scored = await self._room()
        for delta in said.texts:
            kept = told.add(delta.choice, delta.text)
            if kept and is_scored:
                relay.attributing.offer(event_id, delta.choice, kept)
        used = await self._used(event_id, line, told)
        self.tokens += used.input_tokens + used.output_tokens
        self.grains += used.price_grains or 0
        credits_: Credited | None
        if is_scored and told.kept_characters:
            relay.late(event_id)
            late[event_id] = told.texts()
            scored = await relay.attributing.settle(event_id, deadline_ms=0)
            credits_ = None if scored is None else relay.credits(scored)
            if credits_ is not None:
                relay.drew(event_id, credits_)
                del late[event_id]
                await relay.late_is_recorded(event_id)
        else:
            is_empty = endpoint is not None and not told.kept_characters
            reason = (endpoint.unscored if endpoint is not None else "") or ("no_text" if is_empty else "")
            credits_ = unscored(reason or "not_attributed", method=relay.attributing.method)
        return [used] if credits_ is None else [used, credits_.record(event_id)]

    async def _room(self) -> bool:
        """Wait until texts may wait again; False when the operator would rather go on without shares."""
        if self._relay.settings.attribution.on_backlog_full != "refuse":
            return False
        while self._relay.attributing.backlog_is_full():  # noqa: ASYNC110  the scorer tells nobody
            await asyncio.sleep(BACKLOG_WAIT_S)
        return True

    async def _used(self, event_id: str, line: BatchLine, told: Told) -> Used:
        relay, counts = self._relay, line.said.counts or TokenCounts()
        given, output = counts.input, counts.output
        is_estimated = given is None or output is None
        if output is None:
            output = line.bytes_left_out // BYTES_PER_TOKEN  # nobody says what it used: its length does
            for text in told.texts().values() if line.endpoint and line.endpoint.tells_text else ():
                output += await relay.attributing.count_tokens(text) if text else 0
        now_us = relay.clock.now_us()
        made_s = line.created_s or self._made_s
        occurred_us = min(made_s * 1_000_000, now_us) if made_s else now_us
        model = line.said.model[:256]
        media = NO_MEDIA if line.is_refusal or line.said.media is None else line.said.media
        version, grains, currency = relay.price_of(
            model, occurred_us, given or 0, output, media.images, media.milliseconds
        )
        return Used(
            id=event_id,
            occurred_us=occurred_us,
            app=self._app,
            backend=self._backend,
            model=model,
            endpoint=f"batch.{line.endpoint.name}" if line.endpoint else "batch",
            outcome="failed" if line.is_refusal else "complete",
            input_tokens=given or 0,
            output_tokens=output,
            images=media.images,
            milliseconds=media.milliseconds,
            estimated=is_estimated,
            output_digest=relay.digest_of(told, event_id, occurred_us),
            price_version=version,
            price_grains=grains,
            currency=currency,
            policy_seq=relay.policy_seq(),
        )


class Batches:
    """Which answers this worker has metered lately, and the store's word on the others."""

    def __init__(self, known: Known | None, *, log: Any) -> None:
        self._known = known
        self._log = log
        self._recent: OrderedDict[str, None] = OrderedDict()

    async def new(self, ids: Sequence[str]) -> list[str]:
        """Return those that are not metered yet. While the store is away: those that this worker has not."""
        fresh = [one for one in ids if one not in self._recent]
        if not fresh or self._known is None:
            return fresh
        try:
            known = await of_store(self._known, fresh)
        except Problem as problem:
            # Recorded again, an answer is the same event: the store will pass it over.
            self._log.warning("batch_not_compared", lines=len(fresh), cause=problem.cause)
            return fresh
        return [one for one in fresh if one not in known]

    def remember(self, ids: Sequence[str]) -> None:
        """Note that these are recorded."""
        for one in ids:
            self._recent[one] = None
        while len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
