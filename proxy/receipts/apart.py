"""The appender in a process of its own, below everybody else's priority, so that no answer waits for the log.

It is forked from the one that will serve, before anything is opened and while there is one thread: so both
share what they have loaded, which would be some 50 MiB once more. All it says is how it fares, a line a
second at least. It may end at any moment, and goes with the server. When it goes first, the server appends
in a thread until it is started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from typing import Final, NoReturn, Self

import msgspec

from proxy.database import open_engine
from proxy.errors import Problem, Unavailable
from proxy.observability import get_log
from proxy.parting import end_with
from proxy.receipts.appending import Appender
from proxy.receipts.issuing import MonthSecrets
from proxy.settings import Settings

NICE: Final = 10  # a tenth of a core that the relay would fill: some two thousand answers a second
TOLD_S: Final = 1.0
SILENT_S: Final = 60.0  # a transaction takes milliseconds; a database that does not answer is given up sooner
DESCRIPTORS_MAX: Final = 1_024  # that were opened before anything was served


class _Told(msgspec.Struct, frozen=True):
    """How the appender fares: code and cause of its problem, empty without one."""

    code: str = ""
    cause: str = ""


class Apart:
    """The process that appends, as the server sees it. Run `run` as a task."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self._pid, self._line = pid, line
        self._told = _Told()
        self._told_s = time.monotonic()
        self._is_over = False
        self._log = get_log()

    @classmethod
    def fork(cls, settings: Settings) -> Self | None:
        """Start it, from a process with one thread that has opened nothing; None where there is no fork."""
        if not hasattr(os, "fork"):
            return None
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        gc.collect()
        gc.freeze()  # the collector writes to what it walks, and what is written is shared no more
        pid = os.fork()
        if pid == 0:
            _append(settings, theirs, parent)
        theirs.close()
        ours.setblocking(False)
        return cls(pid, ours)

    @property
    def problem(self) -> Problem | None:
        """Why nothing is logged at the moment, for /readyz."""
        if self._is_over:
            return None
        silent_s = time.monotonic() - self._told_s
        if silent_s > SILENT_S:
            return Unavailable(
                f"the process that appends to the log has said nothing for {silent_s:.0f} s",
                remedy=f"see what process {self._pid} waits for; killing it is safe",
                code="log_silent",
            )
        told = self._told
        return Unavailable(told.cause, remedy="see its log", code=told.code) if told.code else None

    async def run(self) -> None:
        """Listen until it has ended. Cancelled, end it: what it was about to append is appended later."""
        reader, writer = await asyncio.open_unix_connection(sock=self._line)
        try:
            while line := await reader.readline():
                self._told, self._told_s = msgspec.json.decode(line, type=_Told), time.monotonic()
        except (OSError, ValueError, msgspec.DecodeError):
            pass  # it makes no sense any more
        finally:
            self._is_over = True
            writer.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            status = await asyncio.to_thread(_reaped, self._pid)
        self._log.warning("log_process_died", pid=self._pid, status=status)


def _reaped(pid: int) -> int | None:
    """Return the exit status of a child that has ended, negative for the signal that killed it."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def _append(settings: Settings, line: socket.socket, parent: int) -> NoReturn:
    """Append until the server is gone; never return into the code that forked us."""
    status = 1
    try:
        # A stop of the whole group must not take us before the server has carried what is under way.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(line.fileno(), 0)
        os.closerange(3, DESCRIPTORS_MAX)  # the port must be free when the server is gone
        end_with(parent)
        _give_way()
        months = MonthSecrets(settings.data_dir)
        engine = open_engine(settings.store_url)
        appender = Appender(engine, months.of, pause_s=settings.receipts.append_ms / 1_000)
        _look_and_tell(appender)
    except OSError:
        status = 0  # nobody listens any more
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not run the server's own exit
        get_log().error("task_failed", task="log", exc_info=error)
    finally:
        os._exit(status)


def _look_and_tell(appender: Appender) -> NoReturn:
    told, told_s = _Told(), time.monotonic()
    while True:
        rest_s = appender.look()
        problem = appender.problem
        now = _Told() if problem is None else _Told(problem.code, problem.cause)
        if now != told or time.monotonic() - told_s >= TOLD_S:
            told, told_s = now, time.monotonic()
            os.write(0, msgspec.json.encode(told) + b"\n")
        time.sleep(min(rest_s, SILENT_S / 2))


def _give_way() -> None:
    """Run when the relay leaves time; a server's real-time priority would otherwise be inherited."""
    os.nice(NICE)
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # some containers forbid the call, and niceness is most of it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
