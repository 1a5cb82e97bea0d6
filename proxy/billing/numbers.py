"""Numbers for names, thousands at once: which works a period's lines name, which accounts its entries.

A dictionary finds each of ten million names by four looks into memory, one after the other; with hundreds of
thousands of works none of the four is in the processor's caches, and that was a sixth of a large close. Here
names that come together are looked up together, as columns of 64-bit words in an open-addressed table: a
processor has many such looks under way. Names are compared whole: two that share a slot stay two.

Names that do not fit (longer than was said, beyond ASCII, with a zero byte) are found in the dictionary,
which knows every name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, cast

import numpy as np
import numpy.typing as npt

NAME_BYTES: Final = 32  # an id has 28
SLOTS_FIRST: Final = 1 << 12
_FREE: Final = -1
# Odd, with bits all over: what a column is multiplied by so that each bit of a name moves many of its slot.
_SPREAD: Final = tuple(map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)))
_Integers = npt.NDArray[np.int64]
_Names = npt.NDArray[np.uint64]  # (names, words of a name)


class Numbers:
    """Numbers names from 0 as they come. Memory: two to four slots a name, beside the dictionary's."""

    def __init__(self, name_bytes: int = NAME_BYTES, slots: int = SLOTS_FIRST) -> None:
        """name_bytes: of nearly every name, at most; a multiple of 8. slots: at first, a power of two."""
        self._bytes = name_bytes
        self._numbers: dict[str, int] = {}
        self._empty(slots)

    def of(self, name: str) -> int:
        """Return the name's number, the next one if it is new."""
        return self._numbers.setdefault(name, len(self._numbers))

    def of_all(self, names: Sequence[str]) -> _Integers:
        """Return the numbers of names, (names,), those that are new numbered in their order."""
        words = self._as_words(names)
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
        self._words = np.zeros((slots, self._bytes // 8), np.uint64)
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
        for column in range(1, words.shape[1]):
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

    def _as_words(self, names: Sequence[str]) -> _Names | None:
        """Return names as rows of words, or None where one does not fit into them."""
        together = "".join(names)
        if not together.isascii() or "\0" in together or max(map(len, names), default=0) > self._bytes:
            return None
        return np.array(names, f"S{self._bytes}").view(np.uint64).reshape(-1, self._bytes // 8)


class Found:
    """What was asked once of each name, an integer, remembered for `most` names."""

    def __init__(self, ask: Callable[[set[str]], Mapping[str, int]], name_bytes: int, most: int) -> None:
        """ask: is given names, and answers for every one of them."""
        self._ask, self._bytes, self._most = ask, name_bytes, most
        self._forget()

    def of_all(self, names: Sequence[str]) -> list[int]:
        """Return what is known of names, asking of those that are new."""
        if len(self._known) > self._most:
            self._forget()
        numbers = self._numbers.of_all(names)
        new = {names[place] for place in np.flatnonzero(numbers >= len(self._known)).tolist()}
        if new:
            found = self._ask(new)
            answers = np.array([found[name] for name in new], np.int64)
            self._known = np.append(self._known, np.zeros(len(new), np.int64))
            self._known[self._numbers.of_all(list(new))] = answers
        return cast("list[int]", self._known[numbers].tolist())

    def _forget(self) -> None:
        self._numbers = Numbers(self._bytes)
        self._known = np.zeros(0, np.int64)  # by number
