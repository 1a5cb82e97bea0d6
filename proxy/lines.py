"""Where lines of the log are gathered before they are written, because a write costs more than the line.

A busy server tells of an answer every few hundred microseconds, and each write of its own would hold up all
streams for as long as the kernel, or whoever reads the log, takes. So ordinary lines are written together, at
most FLUSH_S late; a warning is written at once, with what came before it. Outside an event loop nothing is
gathered.

What cannot be written (a full disk, a reader that is gone) is let go of and counted: whoever has something to
say, the journal's writer of all, has better to do than to fail for it.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from typing import BinaryIO

FLUSH_S = 0.05
GATHERED_BYTES_MAX = 1 << 16  # written at once when there are more: a flood of lines is not kept in memory
LOST = b'{"event":"log_lines_lost","level":"warning","lines":%d}'  # at most: some may have come through


class Lines:
    """A logger as structlog calls one: every method takes one line in bytes, without its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._gathered: list[bytes] = []
        self._bytes = 0
        self._lost = 0  # lines that nobody will read
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that will write what is gathered
        atexit.register(self.flush)

    def gather(self, line: bytes) -> None:
        """Write a line soon, or at once outside an event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write(line)
            return
        with self._lock:
            self._gathered.append(line)
            self._bytes += len(line)
            is_full = self._bytes > GATHERED_BYTES_MAX
            is_first, self._loop = self._loop is not loop, loop
        if is_full:
            self.flush()
        elif is_first:
            loop.call_later(FLUSH_S, self.flush)

    def write(self, line: bytes) -> None:
        """Write a line at once, behind those gathered."""
        with self._lock:
            self._gathered.append(line)
        self.flush()

    def flush(self) -> None:
        """Write what is gathered, if that can be written."""
        with self._lock:
            gathered, self._gathered = self._gathered, []
            self._bytes, self._loop = 0, None
            if not gathered:
                return
            if self._lost:
                gathered.insert(0, LOST % self._lost)
            try:
                self._file.write(b"\n".join(gathered) + b"\n")
                self._file.flush()
            except (OSError, ValueError):  # ValueError: it was closed
                self._lost += len(gathered) - (1 if self._lost else 0)
            else:
                self._lost = 0

    debug = info = msg = gather
    warning = warn = error = err = critical = fatal = exception = failure = log = write
