"""At what the scorer works for a worker, where both can see it and nobody is woken for it.

Should the scorer die, the answer it was at is the suspect; should it be at one turn for minutes, it is stuck.
A message before each turn would say the same, and would wake the relay ten times an answer, always with cold
caches: a tenth of what both cost together. So it stands in a few bytes of a file that both map.
"""

from __future__ import annotations

import mmap
import struct
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

DESK_BYTES: Final = 128
_NOTED: Final = struct.Struct("<QB")  # turns so far, length of the name behind it; 0: between turns
NAME_BYTES_MAX: Final = DESK_BYTES - _NOTED.size


class Desk:
    """DESK_BYTES that two processes map: the scorer notes, the worker looks."""

    def __init__(self, path: str) -> None:
        """Map a file that was made by `new`. Raises OSError, and ValueError for another file."""
        with Path(path).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), DESK_BYTES)
        self._turns = 0
        self.path = path

    def begin(self, answer_id: str) -> None:
        """Note that a turn begins."""
        name = answer_id.encode()[:NAME_BYTES_MAX]
        self._turns += 1
        self._map[: _NOTED.size + len(name)] = _NOTED.pack(self._turns, len(name)) + name

    def end(self) -> None:
        """Note that no turn is under way."""
        self._map[: _NOTED.size] = _NOTED.pack(self._turns, 0)

    def look(self) -> tuple[int, str]:
        """Return (turns so far, the answer whose turn it is or "")."""
        turns, length = _NOTED.unpack_from(self._map)
        return turns, self._map[_NOTED.size : _NOTED.size + length].decode("utf-8", "replace")


class OwnDesk(Desk):
    """The worker's side: it makes the file, which goes with it."""

    def __init__(self) -> None:
        """Make a file that only this system user can read; where none can be, `path` is empty.

        A worker then knows of no turn, and serves all the same: a disk may be full.
        """
        self._seen = self._turns = 0
        self.close: Callable[[], object] = lambda: None  # removes the file
        try:
            made, path = tempfile.mkstemp(prefix="endcredits-scorer-")
            self.close = weakref.finalize(self, Path(path).unlink, missing_ok=True)
            with open(made, "wb") as file:  # noqa: PTH123  its descriptor is open already
                # A hole that a full disk cannot fill would kill who writes there.
                file.write(bytes(DESK_BYTES))
            super().__init__(path)
        except OSError:
            self.close()
            self._map, self.path = mmap.mmap(-1, DESK_BYTES), ""

    def is_stuck(self) -> bool:
        """Whether the turn under way is the one of the last time this was asked."""
        turns, name = self.look()
        before, self._seen = self._seen, turns
        return bool(name) and turns == before

    def clear(self) -> str:
        """Return the answer whose turn it is, and forget it: the scorer has gone."""
        _, name = self.look()
        self.end()
        return name
