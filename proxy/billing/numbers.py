"""Numbers for names, a page of them at once: which works the lines of a period name.

A dictionary finds each of ten million names by four looks into memory, one after the other; with hundreds of
thousands of works none of the four is in the processor's caches, and that was a tenth of a large close. Here
the names of a page are looked up together, as columns of 64-bit words in an open-addressed table, so that a
processor has many looks under way. Names are compared whole: two that share a slot stay two.

Names that do not fit (longer than NAME_BYTES, beyond ASCII, with a zero byte) are found in the dictionary,
which knows every name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

NAME_BYTES: Final = 32  # an id has 28
SLOTS_FIRST: Final = 1 << 12
_WORDS: Final = NAME_BYTES // 8
_FREE: Final = -1
# Odd, with bits all over: what a column is multiplied by so that each bit of a name moves many of its slot.
_SPREAD: Final = tuple(map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)))
_Integers = npt.NDArray[np.int64]
_Names = npt.NDArray[np.uint64]  # (names, _WORDS)


class Numbers:
    """Numbers names from 0 as they come. Memory: 80 bytes a name beside the dictionary's."""

    def __init__(self, slots: int = SLOTS_FIRST) -> None:
        """slots: a power of two; there are always twice as many as names, or more."""
        self._numbers: dict[str, int] = {}
        self._empty(slots)

    def of(self, name: str) -> int:
        """Return the name's number, the next one if it is new."""
        return self._numbers.setdefault(name, len(self._numbers))

    def of_all(self, names: Sequence[str]) -> _Integers:
        """Return the numbers of names, (names,), those that are new numbered in their order."""
        words = _words(names)
        if words is None:
            return np.array([self.of(name) for name in names], np.int64)
        found = self._at[self._slots(words)]
        new = np.flatnonzero(found == _FREE)
        if len(new):
            found[new] = [self.of(names[place]) for place in new.tolist()]
            _, first = np.unique(found[new], return_index=True)
            self._keep(words[new[first]], found[new[first]])
        return found

    def __iter__(self) -> Iterator[str]:
        """Yield the names, by number."""
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def _empty(self, slots: int) -> None:
        self._at = np.full(slots, _FREE, np.int64)
        self._words = np.zeros((slots, _WORDS), np.uint64)
        self._used = 0

    def _keep(self, words: _Names, numbers: _Integers) -> None:
        """Put different names that are not there yet into the table, which grows for them."""
        slots = len(self._at)
        while 2 * (self._used + len(numbers)) > slots:
            slots *= 2
        if slots > len(self._at):
            used = np.flatnonzero(self._at != _FREE)
            words = np.concatenate([self._words[used], words])
            numbers = np.concatenate([self._at[used], numbers])
            self._empty(slots)
        self._used += len(numbers)
        while len(numbers):
            free = self._slots(words)
            _, first = np.unique(free, return_index=True)  # of those that meet in a slot one has it
            self._at[free[first]], self._words[free[first]] = numbers[first], words[first]
            words, numbers = np.delete(words, first, axis=0), np.delete(numbers, first)

    def _slots(self, words: _Names) -> _Integers:
        """Return where each name lies or, for one that is not there, the free slot where its search ended."""
        mask = len(self._at) - 1
        mixed = words[:, 0] * _SPREAD[0]
        for column in range(1, _WORDS):
            mixed = (mixed ^ mixed >> np.uint64(29)) + words[:, column]
            mixed *= _SPREAD[column % len(_SPREAD)]
        slots = ((mixed ^ mixed >> np.uint64(32)) & np.uint64(mask)).astype(np.int64)
        seeking = self._others(slots, words, np.arange(len(slots)))
        while len(seeking):
            slots[seeking] = slots[seeking] + 1 & mask
            seeking = self._others(slots, words, seeking)
        return slots

    def _others(self, slots: _Integers, words: _Names, places: _Integers) -> _Integers:
        """Return those of the places whose slot holds another name."""
        at = slots[places]
        differs = (self._words[at] != words[places]).any(axis=1)
        return places[differs & (self._at[at] != _FREE)]


def _words(names: Sequence[str]) -> _Names | None:
    """Return names as rows of words, (names, _WORDS), or None where one does not fit into them."""
    together = "".join(names)
    fit = together.isascii() and "\0" not in together and max(map(len, names), default=0) <= NAME_BYTES
    return np.array(names, f"S{NAME_BYTES}").view(np.uint64).reshape(-1, _WORDS) if fit else None
