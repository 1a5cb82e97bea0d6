"""Attribution as the relay sees it: text is offered as it flows, and shares are there when the answer ends.

The engine runs in a child process (scorer.py). Here its life is looked after: texts are kept until they are
settled, so that a child which dies takes nothing with it; the next one gets them again. A text that was being
worked on at three deaths settles as Failed, because something in it kills.

A share is never guessed: while no engine serves (no model, a broken index), texts wait, answers are pending.
While the catalogue is empty nothing can be owed: then no text is kept, and nothing is asked of the child.
What may wait is bounded by `[attribution] backlog_bytes`; `backlog_is_full` tells the relay to refuse.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from asyncio import StreamWriter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from proxy.clock import Clock
from proxy.observability import Metrics
from proxy.relay.child import run_child
from proxy.relay.desk import OwnDesk
from proxy.relay.guard import limits
from proxy.relay.kept import Kept, Result
from proxy.relay.scored import Copied, Failed, Scored, combine
from proxy.relay.scoring import (
    TEXT_CHARACTERS_MAX,
    Asked,
    Broken,
    Copying,
    Count,
    Counted,
    Done,
    Finish,
    Forget,
    Grounding,
    Open,
    Opened,
    Refused,
    Reply,
    Request,
    Text,
    frame,
    sized,
    stretches,
)
from proxy.settings import Settings

FLUSH_S = 0.03  # texts gather this long: some tokens of each stream in one write, not a write for each
DEATHS_MAX = 3
START_S = 30.0  # a cold disk reads model and index in far less
RESTART_S_MIN, RESTART_S_MAX = 0.1, 5.0
STEADY_S = 60.0  # a child that lived so long died of something new
COUNT_S = 2.0
BYTES_A_TOKEN = 4  # English prose, whatever the tokenizer: the estimate when no engine can count
LATE_RETRY_S = 1.0

T = TypeVar("T")


class EventLog(Protocol):
    """The part of structlog's logger we use."""

    def info(self, event: str, /, **fields: object) -> object: ...
    def warning(self, event: str, /, **fields: object) -> object: ...


class Attributing:
    """One child scorer and the texts it owes shares for. All methods are for the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        index: Callable[[], Path | None],
        metrics: Metrics,
        clock: Clock,
        log: EventLog,
        command: Sequence[str] | Path = (),
    ) -> None:
        """index: names the directory of the index now in use, None for an empty one. command: how a scorer is
        started, before `--parent PID --nice N`, or the socket of the one that several workers share.
        """
        self._settings = settings.attribution
        self._limits = limits(settings.guard)
        self._index = index
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._command = command or (sys.executable, "-P", "-m", "proxy.relay.scorer")
        self._kept: dict[str, Kept] = {}
        self._nobodys: dict[str, str] = {}  # answers begun while the catalogue was empty, and the method then
        self._is_empty = False  # the engine that serves knows no work
        self._backlog_bytes = 0
        self._changed: dict[str, None] = {}  # ids with something to send, oldest first
        self._forgotten: list[str] = []
        self._asked: list[Request] = []  # opens and counts, which go before texts
        self._something = asyncio.Event()
        self._at_once = asyncio.Event()
        self._numbers = itertools.count(1)
        self._opening: dict[int, tuple[Path | None, asyncio.Future[bool]]] = {}
        self._counting: dict[int, asyncio.Future[int]] = {}
        self._good_index: Path | None = None
        self._desk = OwnDesk()
        if not self._desk.path:
            log.warning("scorer_unwatched")
        self._late: asyncio.Queue[tuple[str, Result]] = asyncio.Queue()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self.on_late: Callable[[str, Result], Awaitable[None]] = self._nobody_waits
        self.method = ""
        self.healthy = False

    async def start(self) -> None:
        """Start the scorer and wait until its engine serves, or is known not to.

        Never raises: without an engine the proxy still relays and meters, answers stay pending, and `healthy`
        is False. `method` is empty until an engine has served.
        """
        first = self._open()
        # Held here, ended by stop().
        self._tasks = (
            asyncio.create_task(self._supervise(), name="scorer"),  # noqa: TID251
            asyncio.create_task(self._deliver_late(), name="late shares"),  # noqa: TID251
        )
        await asyncio.wait({first}, timeout=START_S)

    async def stop(self) -> None:
        """End the scorer. Unsettled texts are dropped: the relay has them on disk as pending."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = ()
        self._desk.close()
        for kept in self._kept.values():
            _resolve(kept.result, None)
        self._kept.clear()
        self._nobodys.clear()
        self._changed.clear()
        self._backlog_bytes = 0

    def offer(self, answer_id: str, choice: int, text: str) -> None:
        """Take more text of an answer. Never waits, never raises.

        At most `[attribution] text_bytes_max` bytes of an answer are scored, over all its choices; what comes
        after is left out, and its Scored says `truncated`.
        """
        kept = self._kept.get(answer_id)
        if kept is None:
            if self._is_nobodys(answer_id):
                return
            kept = self._kept[answer_id] = Kept()
        if kept.finish is not None or kept.truncated or not text:
            return
        text, size = sized(text)
        room = self._settings.text_bytes_max - kept.told_bytes
        if size > room:
            kept.truncated = True
            text, size = sized(text.encode()[:room].decode("utf-8", "ignore"))
        kept.fresh.setdefault(choice, []).append(text)
        kept.bytes += size
        kept.told_bytes += size
        self._backlog_bytes += size
        self._change(answer_id)

    def asked(self, answer_id: str, text: str) -> None:
        """Take the request's texts, before any of the answer; `[attribution] context_bytes_max` of them."""
        if answer_id in self._kept or self._is_nobodys(answer_id):
            return
        text, size = sized(text[: self._settings.context_bytes_max])
        if not text:
            return
        kept = self._kept[answer_id] = Kept()
        kept.asked = tuple(
            text[at : at + TEXT_CHARACTERS_MAX] for at in range(0, len(text), TEXT_CHARACTERS_MAX)
        )
        kept.bytes += size
        self._backlog_bytes += size
        self._change(answer_id)

    def grounded(self, answer_id: str) -> tuple[str, ...]:
        """Return the works found in the request, as far as is known."""
        kept = self._kept.get(answer_id)
        return () if kept is None else kept.grounded

    def copied(self, answer_id: str) -> tuple[Copied, ...]:
        """Return what the answer has copied, as far as is known; empty below the guard's least limit."""
        kept = self._kept.get(answer_id)
        return () if kept is None else kept.copied

    async def settle(self, answer_id: str, *, deadline_ms: int, cited: Sequence[str] = ()) -> Result | None:
        """Return the answer's shares: no more text will come. None when they are not there in time.

        cited: works whose address the answer names. Late, the work goes on and the result goes to `on_late`.
        Failed: this text cannot be scored. A caller who is cancelled while waiting counts as late.
        """
        kept = self._kept.get(answer_id)
        if kept is None:
            return self._owed_to_nobody(answer_id, is_waited_for=deadline_ms > 0)
        began = self._clock.monotonic_s()
        self._finish(answer_id, kept, background=False, cited=tuple(cited))
        try:
            await asyncio.wait({kept.result}, timeout=deadline_ms / 1000)
        finally:
            kept.is_late = not kept.result.done()
        if kept.is_late:
            self._metrics.attributions.labels("pending").inc()
            return None
        result = kept.result.result()
        self._metrics.settle_seconds.observe(self._clock.monotonic_s() - began)
        if result is not None:
            self._metrics.attributions.labels(_status(result)).inc()
        return result

    def forget(self, answer_id: str) -> None:
        """Drop an answer: nobody wants its shares any more."""
        self._nobodys.pop(answer_id, None)
        kept = self._kept.get(answer_id)
        if kept is not None:
            self._drop(answer_id, kept, None)
            self._forgotten.append(answer_id)
            self._something.set()

    def backlog_is_full(self) -> bool:
        """Say whether the texts that wait for shares fill `[attribution] backlog_bytes`."""
        return self._backlog_bytes >= self._settings.backlog_bytes

    async def reload(self) -> bool:
        """Serve from the index that `index()` names now; answers under way finish on the one before.

        Returns once the new one serves (True) or was refused (False, logged; the one before goes on serving).
        """
        return await self._open()

    async def attribute(
        self,
        answer_id: str,
        texts: Mapping[int, str],
        grounded: Sequence[str] = (),
        cited: Sequence[str] = (),
    ) -> Result:
        """Return the shares of an answer whose texts (by choice) are all there, for as long as it takes.

        For texts that were pending when the proxy last stopped. Live exchanges go first. grounded: works that
        were found in the request. cited: as for `settle`.
        """
        for choice, text in texts.items():
            self.offer(answer_id, choice, text)
        kept = self._kept.get(answer_id)
        if kept is None:
            return combine([], method=self._nobodys.pop(answer_id, self.method))
        self._finish(answer_id, kept, background=True, grounded=tuple(grounded), cited=tuple(cited))
        try:
            result = await kept.result
        except asyncio.CancelledError:
            self.forget(answer_id)
            raise
        return result or Failed(detail="forgotten")

    async def count_tokens(self, text: str) -> int:
        """Return the number of word pieces in `text`, for estimated usage.

        Counted in the child, in stretches that end at a space; a quarter of the bytes when it cannot count.
        """
        text, size = sized(text)
        estimate = -(-size // BYTES_A_TOKEN)
        if not self.healthy:
            return estimate
        try:
            async with asyncio.timeout(COUNT_S):
                return sum([await self._count(piece) for piece in stretches(text)])
        except TimeoutError:
            return estimate

    async def _nobody_waits(self, answer_id: str, result: Result) -> None:
        self._log.warning("late_shares_unwanted", id=answer_id, status=_status(result))

    def _is_nobodys(self, answer_id: str) -> bool:
        """Whether the catalogue is, or was at this answer's first text, empty."""
        if self._is_empty and self.healthy and answer_id not in self._nobodys:
            self._nobodys[answer_id] = self.method
        return answer_id in self._nobodys

    def _owed_to_nobody(self, answer_id: str, *, is_waited_for: bool) -> Scored | None:
        """Return the shares of an answer whose text was not kept; None, and late, when nobody waits."""
        had_text = answer_id in self._nobodys
        nothing = combine([], method=self._nobodys.pop(answer_id, self.method))
        if not had_text:
            return nothing
        self._metrics.attributions.labels("settled" if is_waited_for else "pending").inc()
        if is_waited_for:
            self._metrics.settle_seconds.observe(0)
            return nothing
        self._late.put_nowait((answer_id, nothing))
        return None

    def _finish(
        self,
        answer_id: str,
        kept: Kept,
        *,
        background: bool,
        cited: tuple[str, ...],
        grounded: tuple[str, ...] = (),
    ) -> None:
        if kept.finish is None:
            kept.finish = Finish(answer_id, kept.truncated, background, cited, grounded)
            self._change(answer_id)
            self._at_once.set()

    def _change(self, answer_id: str) -> None:
        self._changed[answer_id] = None
        self._something.set()

    def _drop(self, answer_id: str, kept: Kept, result: Result | None) -> None:
        del self._kept[answer_id]
        self._changed.pop(answer_id, None)
        self._backlog_bytes -= kept.bytes
        self._metrics.backlog_bytes.set(self._backlog_bytes)
        if kept.is_late and result is not None:
            self._late.put_nowait((answer_id, result))
        _resolve(kept.result, result)

    def _open(self) -> asyncio.Future[bool]:
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        path = self._index()
        self._opening[number] = (path, future)
        self._ask(Open(number, None if path is None else str(path), self._limits, self._desk.path))
        return future

    async def _count(self, text: str) -> int:
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._counting[number] = future
        self._ask(Count(number, text))
        try:
            return await future
        finally:
            self._counting.pop(number, None)

    def _ask(self, request: Request) -> None:
        self._asked.append(request)
        self._something.set()
        self._at_once.set()

    async def _deliver_late(self) -> None:
        while True:
            answer_id, result = await self._late.get()
            while True:
                try:
                    await self.on_late(answer_id, result)
                    break
                except Exception as error:  # noqa: BLE001  # a full disk, a store away: keep the shares
                    self._log.warning("late_shares_refused", id=answer_id, error=type(error).__name__)
                    await asyncio.sleep(LATE_RETRY_S)

    # What follows looks after the child.

    async def _supervise(self) -> None:
        pause_s = RESTART_S_MIN
        while True:
            began_s = self._clock.monotonic_s()
            try:
                ended = await run_child(
                    self._command,
                    nice=self._settings.encoder_nice,
                    talk=self._talk,
                    heard=self._heard,
                    is_stuck=self._desk.is_stuck,
                )
                suspect = self._desk.clear()
                self._log.warning("scorer_died", status=ended.status, while_scoring=suspect, why=ended.why)
            except OSError as error:
                suspect = ""
                self._log.warning("scorer_not_started", error=error.strerror or type(error).__name__)
            self._child_is_gone(suspect)
            if self._clock.monotonic_s() - began_s > STEADY_S:
                pause_s = RESTART_S_MIN
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_S_MAX)
            if not self._opening:
                self._open()

    def _heard(self, reply: Reply) -> None:
        match reply:
            case Done(answer_id, scored):
                self._settled(answer_id, scored)
            case Grounding(answer_id, works):
                if (kept := self._kept.get(answer_id)) is not None:
                    kept.grounded = works
            case Copying(answer_id, copied):
                if (kept := self._kept.get(answer_id)) is not None:
                    kept.copied = copied
            case Broken(answer_id, error):
                self._log.warning("scoring_failed", id=answer_id, error=error)
                self._settled(answer_id, Failed(detail=error))
            case Counted(number, tokens):
                if number in self._counting:
                    _resolve(self._counting[number], tokens)
            case Opened(number, method, is_empty):
                self.method, self.healthy, self._is_empty = method, True, is_empty
                path, future = self._opening.pop(number)
                self._good_index = path
                self._log.info("index_opened", index=None if path is None else path.name, method=method)
                _resolve(future, True)
                self._something.set()
            case Refused(number, cause, remedy):
                self._refused(number, cause, remedy)

    def _refused(self, number: int, cause: str, remedy: str) -> None:
        path, future = self._opening.pop(number)
        self._log.warning("index_refused", cause=cause, remedy=remedy, serving=self.healthy)
        good = self._good_index
        if not self.healthy and good is not None and good != path:
            # A new child met a broken index; the one before it served is better than none.
            again = next(self._numbers)
            self._opening[again] = (good, asyncio.get_running_loop().create_future())
            self._ask(Open(again, str(good), self._limits, self._desk.path))
        _resolve(future, False)

    def _settled(self, answer_id: str, result: Result) -> None:
        kept = self._kept.get(answer_id)
        if kept is not None:
            self._drop(answer_id, kept, result)

    def _child_is_gone(self, suspect: str) -> None:
        self.healthy = False
        for path_and_future in self._opening.values():
            _resolve(path_and_future[1], False)
        self._opening.clear()
        self._asked.clear()
        self._forgotten.clear()
        for answer_id, kept in list(self._kept.items()):
            if answer_id == suspect:
                kept.deaths += 1
                if kept.deaths >= DEATHS_MAX:
                    self._log.warning("scoring_failed", id=answer_id, error="the scorer died on it")
                    self._drop(answer_id, kept, Failed(detail="the scorer died on it"))
                    continue
            kept.send_again()
            self._change(answer_id)

    async def _talk(self, stdin: StreamWriter) -> None:
        async def send(message: Request) -> None:
            # A dead child is known by the end of its output: what it said last may still have to be read.
            with contextlib.suppress(ConnectionError):
                stdin.write(frame(message))
                await stdin.drain()

        while True:
            await self._something.wait()
            try:
                async with asyncio.timeout(FLUSH_S):
                    await self._at_once.wait()
            except TimeoutError:
                pass
            self._something.clear()
            self._at_once.clear()
            self._metrics.backlog_bytes.set(self._backlog_bytes)
            asked, self._asked = self._asked, []
            forgotten, self._forgotten = self._forgotten, []
            for message in (*asked, *(Forget(answer_id) for answer_id in forgotten)):
                await send(message)
            # Without an engine the child could only pile texts up; they are kept here anyway.
            while self.healthy and self._changed:
                answer_id = next(iter(self._changed))
                del self._changed[answer_id]
                await self._send_text(answer_id, send)

    async def _send_text(self, answer_id: str, send: Callable[[Request], Awaitable[None]]) -> None:
        kept = self._kept[answer_id]
        if not kept.asked_sent:
            kept.asked_sent = True
            for number, piece in enumerate(kept.asked, start=1):
                await send(Asked(answer_id, piece, number == len(kept.asked)))
                if self._kept.get(answer_id) is not kept:
                    return
        for choice in list(kept.fresh):
            whole = "".join(kept.fresh.pop(choice))
            kept.sent.setdefault(choice, []).append(whole)
            for at in range(0, len(whole), TEXT_CHARACTERS_MAX):
                await send(Text(answer_id, choice, whole[at : at + TEXT_CHARACTERS_MAX]))
                if self._kept.get(answer_id) is not kept:
                    return  # forgotten while the pipe was full
        if kept.finish is not None and not kept.finish_sent and not kept.fresh:
            kept.finish_sent = True
            await send(kept.finish)


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _status(result: Result) -> str:
    return "settled" if isinstance(result, Scored) else result.reason
