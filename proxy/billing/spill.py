"""Sequences whose items lie elsewhere: what a close makes, one item in memory at a time.

A period of a hundred thousand creators has statements of gigabytes. They are made before anything is written
to the store, because what covers them all (the manifest) is written first; so they wait in a file that no
name leads to and that ends with the process, whatever ends it.
"""

from __future__ import annotations

import bisect
import functools
import os
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, Generic, TypeVar, overload

Item = TypeVar("Item")
WRITE_BYTES: Final = 1 << 20  # gathered before a write
READ_BYTES: Final = 1 << 20  # read at once by who wants all, or one item that is longer


def temporary(owner: object, folder: Path | None) -> IO[bytes]:
    """Return a temporary file that is closed, and so gone, with `owner`. None: where the system puts them."""
    file = tempfile.TemporaryFile(dir=folder, buffering=WRITE_BYTES)  # noqa: SIM115  closed by the next line
    weakref.finalize(owner, file.close)
    return file


class Spilled(Sequence[Item], Generic[Item]):
    """Items in the order they were appended, read back as they are asked for. Equal to any equal sequence."""

    def __init__(
        self,
        encode: Callable[[Item], bytes],
        decode: Callable[[bytes], Item],
        folder: Path | None = None,
    ) -> None:
        """folder: where the file lies; None for the system's own place for temporary files."""
        self._encode, self._decode = encode, decode
        self._file = temporary(self, folder)
        self._ends = array("q", [0])

    def append(self, item: Item) -> None:
        """Put an item behind the others. Raises OSError when the disk is full."""
        said = self._encode(item)
        self._file.write(said)
        self._ends.append(self._ends[-1] + len(said))

    def raw(self, places: Iterable[int] | None = None) -> Iterator[bytes]:
        """Yield the items at these places, or each, as they were encoded."""
        return self._in_order() if places is None else map(self._read, places)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[Item]:
        return map(self._decode, self.raw())

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self._decode(self._read(place)) for place in range(*index.indices(len(self)))]
        return self._decode(self._read(range(len(self))[index]))

    def __eq__(self, other: object) -> bool:
        return equal(self, other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # it grows

    def _in_order(self) -> Iterator[bytes]:
        """Yield each, some READ_BYTES of them read at once."""
        place = 0
        while place < len(self):
            first = self._ends[place]
            after = max(place + 1, bisect.bisect_right(self._ends, first + READ_BYTES, place) - 1)
            self._file.flush()
            said = os.pread(self._file.fileno(), self._ends[after] - first, first)
            for one in range(place, after):
                yield said[self._ends[one] - first : self._ends[one + 1] - first]
            place = after

    def _read(self, place: int) -> bytes:
        self._file.flush()
        first = self._ends[place]
        return os.pread(self._file.fileno(), self._ends[place + 1] - first, first)


class Fetched(Sequence[Item], Generic[Item]):
    """Items that lie in the store, fetched some at a time. Equal to any equal sequence."""

    def __init__(
        self,
        keys: Callable[[], Sequence[str]],
        fetch: Callable[[Sequence[str]], Iterable[Item]],
        at_once: int,
    ) -> None:
        """keys: in order, asked for once; fetch: the items of at most `at_once` keys, in their order."""
        self._ask, self._fetch, self._at_once = keys, fetch, at_once

    @functools.cached_property
    def _keys(self) -> Sequence[str]:
        return self._ask()

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), self._at_once):
            yield from self._fetch(self._keys[start : start + self._at_once])

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return next(iter(self._fetch([self._keys[index]])))

    def __eq__(self, other: object) -> bool:
        return equal(self, other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # like a list


def equal(one: Sequence[object], other: object) -> bool:
    """Whether two sequences say the same, whatever holds them."""
    if not isinstance(other, Sequence) or len(one) != len(other):  # pyright: ignore[reportUnknownArgumentType]
        return False
    return all(mine == theirs for mine, theirs in zip(one, other, strict=True))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
