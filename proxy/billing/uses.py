"""A period's uses as columns: millions of lines rolled up by work within bounded memory.

A line of a statement sums what one work did in one app, by model, day, scheme and verdict. A month of ten
million metered lines has almost as many of these sums, because a work seldom meets the same app, model and
day twice; kept as objects they are 4 GB. So lines are taken in as columns of 64-bit integers. When ROWS_KEPT
of them have come together, equal ones are summed and the rest goes to a temporary file, in PARTS parts by
work; at the end one part after the other is summed and written so that a work's uses lie side by side.

Sums are exact: a column whose sum could pass 64 bits is summed as Python's integers, and refused if the
result does not fit.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt

from proxy.billing.numbers import Numbers
from proxy.billing.spill import temporary

ROWS_KEPT: Final = 1 << 18  # a dozen MB of columns; sorting more at once is no faster
PARTS: Final = 64  # of the temporary file: of a hundred million rows each is summed in 100 MB
COLUMNS: Final = 6  # key, answers, ppm, price, due, rate
_ROW_BYTES: Final = 8 * COLUMNS
_REST_BITS: Final = 32
_REST_MASK: Final = (1 << _REST_BITS) - 1
_INT64_MAX: Final = 2**63 - 1
_KEY, _DUE, _RATE = 0, 4, 5
_Rows = npt.NDArray[np.int64]  # (rows, COLUMNS)
_Column = npt.NDArray[np.int64]

# app, model, day (days since the epoch), scheme, verdict, and whose own app it was ("" for nobody's)
Rest = tuple[str, str, int, str, str, str]


class Use(msgspec.Struct, gc=False):
    """What one work did in one app, model, day, scheme and verdict: the sums of a statement's line.

    own_app_of: whose own app it was, "" for nobody's. rate: of a whole answer, under direct; the highest
    where it changed within the day.
    """

    app: str
    model: str
    day: int
    scheme: str
    verdict: str
    own_app_of: str
    answers: int = 0
    ppm: int = 0
    price: int = 0
    due: int = 0
    rate: int = 0


def seen_by(party: str, uses: Sequence[Use]) -> Sequence[Use]:
    """Return a work's uses as a party sees them: whose own app it was concerns that creator alone."""
    if not any(use.own_app_of for use in uses):
        return uses
    seen: dict[Rest, Use] = {}
    for use in uses:
        rest = (
            use.app,
            use.model,
            use.day,
            use.scheme,
            use.verdict,
            party if use.own_app_of == party else "",
        )
        line = seen.setdefault(rest, Use(*rest))
        line.answers += use.answers
        line.ppm += use.ppm
        line.price += use.price
        line.due += use.due
        line.rate = max(line.rate, use.rate)
    return list(seen.values())


def seed_of(work: str, use: Use) -> str:
    """Return what names a line in a division: its values joined by bars, the last only where there is one."""
    named = f"{work}|{use.app}|{use.model}|{use.day}|{use.scheme}|{use.verdict}"
    return f"{named}|{use.own_app_of}" if use.own_app_of else named


class Uses:
    """Takes lines one by one, then tells by work what they sum to. Asking before the end is an error.

    Memory follows how many works, apps, models and days there are, and never how many lines.
    """

    def __init__(self, folder: Path | None = None, rows_kept: int = ROWS_KEPT) -> None:
        """folder: where the temporary file lies; no name leads to it, and it ends with this process."""
        self._folder, self._rows_kept = folder, rows_kept
        self._numbers = Numbers()
        self._places: dict[str, int] = {}  # of works in order, when all are known
        self._rest_ids: dict[Rest, int] = {}
        self._taken = tuple(array("q") for _ in range(COLUMNS + 1))  # work, rest, and the sums
        self._parts: IO[bytes] | None = None
        self._segments: list[list[tuple[int, int]]] = [[] for _ in range(PARTS)]  # (first byte, rows)
        self._whole = np.zeros((0, COLUMNS), np.int64)  # the sums, where they never went to a file
        self._file: IO[bytes] | None = None
        self._rests: list[Rest] = []
        self._first = self._count = self._due = np.zeros(0, np.int64)
        self._apps: list[str] = []
        self._charges = np.zeros((0, 2), np.int64)  # app and work, and what it is due there
        self.works: list[str] = []  # sorted
        self.any_own = False  # whether any use was by somebody's own app

    def rest(self, rest: Rest) -> int:
        """Return the number of what a line says beside its work, for `add`."""
        return self._rest_ids.setdefault(rest, len(self._rest_ids))

    def add(self, work: str, rest: int, *sums: int) -> None:
        """Count one line of one answer. sums: ppm, price, due, rate. Raises OverflowError beyond 64 bits."""
        works, rests, answers, ppm, price, due, rate = self._taken
        works.append(self._numbers.of(work))
        rests.append(rest)
        answers.append(1)
        ppm.append(sums[0])
        price.append(sums[1])
        due.append(sums[2])
        rate.append(sums[3])
        if len(works) >= self._rows_kept:
            self._spill()

    def add_columns(
        self, works: Sequence[str], rests: _Column, ppm: _Column, price: _Column, due: _Column
    ) -> None:
        """Count many lines, each without a rate, as `add` counts one."""
        numbers = self._numbers.of_all(works)
        columns = (numbers, rests, np.ones_like(numbers), ppm, price, due, np.zeros_like(numbers))
        for taken, column in zip(self._taken, columns, strict=True):
            taken.frombytes(column.tobytes())
        if len(self._taken[0]) >= self._rows_kept:
            self._spill()

    def add_due(self, work: str, rest: int, due: int) -> None:
        """Count money that comes to a line beside what its answers brought."""
        sums = (self._numbers.of(work), rest, 0, 0, 0, due, 0)
        for column, value in zip(self._taken, sums, strict=True):
            column.append(value)
        if len(self._taken[0]) >= self._rows_kept:
            self._spill()

    def finish(self) -> None:
        """Sum what was taken. No line can be added after that."""
        numbers = {work: number for number, work in enumerate(self._numbers)}
        self._numbers = Numbers()
        self.works = sorted(numbers)
        self._rests = sorted(self._rest_ids)
        self.any_own = any(rest[-1] for rest in self._rests)
        self._apps = sorted({rest[0] for rest in self._rests})
        work_places, rest_places = _places(numbers, self.works), _places(self._rest_ids, self._rests)
        apps = {app: place for place, app in enumerate(self._apps)}
        app_of = np.array([apps[rest[0]] for rest in self._rests], np.int64)
        self._first, self._count, self._due = (np.zeros(len(self.works), np.int64) for _ in range(3))
        charges: list[_Rows] = []
        written = 0
        if self._parts is not None:
            self._spill()
            self._file = temporary(self, self._folder)
        for rows in self._by_part():
            key = rows[:, _KEY]
            rows[:, _KEY] = work_places[key >> _REST_BITS] << _REST_BITS | rest_places[key & _REST_MASK]
            summed = _summed(rows)
            works, rests = summed[:, _KEY] >> _REST_BITS, summed[:, _KEY] & _REST_MASK
            starts = _starts(works)
            self._first[works[starts]] = starts + written
            self._count[works[starts]] = np.diff(np.append(starts, len(works)))
            self._due[works[starts]] = _sums(summed[:, _DUE], starts)
            written += len(summed)
            charges.append(_charges(app_of[rests] << _REST_BITS | works, summed[:, _DUE]))
            if self._file is None:
                self._whole = summed
            else:
                self._file.write(summed.tobytes())
        if charges:
            every = np.concatenate(charges)
            self._charges = every[np.argsort(every[:, 0])]
        if self._file is not None:
            self._file.flush()
        if self._parts is not None:
            self._parts.close()
        self._places = {work: place for place, work in enumerate(self.works)}

    def of(self, work: str) -> list[Use]:
        """Return the uses of a work, in the order of their values; none of a work that was not used."""
        return [Use(*rest, *sums) for rest, *sums in zip(*self.columns(work), strict=True)]

    def columns(self, work: str) -> tuple[list[Rest], list[int], list[int], list[int], list[int], list[int]]:
        """Return the same as columns (rests, answers, ppm, prices, dues, rates): for who makes millions."""
        place = self._places.get(work)
        if place is None:
            return [], [], [], [], [], []
        first, count = int(self._first[place]), int(self._count[place])
        if self._file is None:
            rows = self._whole[first : first + count]
        else:
            said = os.pread(self._file.fileno(), count * _ROW_BYTES, first * _ROW_BYTES)
            rows = np.frombuffer(said, np.int64).reshape(-1, COLUMNS)
        keys, answers, ppm, prices, dues, rates = cast("list[list[int]]", rows.T.tolist())
        rests = self._rests
        return [rests[key & _REST_MASK] for key in keys], answers, ppm, prices, dues, rates

    def dues(self) -> Iterator[tuple[str, int]]:
        """Yield (work, what its uses are due together), works in order."""
        return zip(self.works, self._due.tolist(), strict=True)

    def charged(self, app: str) -> Iterator[tuple[str, int]]:
        """Yield (work, what it is due for its uses in this app), works in order, those due anything."""
        if app not in self._apps:
            return
        place = self._apps.index(app)
        bounds = np.array([place, place + 1]) << _REST_BITS
        low, high = np.searchsorted(self._charges[:, 0], bounds).tolist()
        for key, due in self._charges[low:high].tolist():
            if due:
                yield self.works[key & _REST_MASK], due

    def __iter__(self) -> Iterator[tuple[str, list[Use]]]:
        """Yield (work, its uses), works in order."""
        return ((work, self.of(work)) for work in self.works)

    def __eq__(self, other: object) -> bool:
        """Whether both sum to the same."""
        return isinstance(other, Uses) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # it grows

    def _columns(self) -> _Rows:
        """Return the lines taken so far as rows, and forget them."""
        works, rests, *sums = (np.frombuffer(column, np.int64) for column in self._taken)
        rows = np.stack([works << _REST_BITS | rests, *sums], axis=1)
        self._taken = tuple(array("q") for _ in range(COLUMNS + 1))
        return rows

    def _spill(self) -> None:
        if self._parts is None:
            self._parts = temporary(self, self._folder)
        if not self._taken[0]:
            return
        rows = _summed(self._columns())
        # As bytes, which are sorted without comparing; stable, so that keys stay in order within a part.
        parts = ((rows[:, _KEY] >> _REST_BITS) % PARTS).astype(np.uint8)
        at = self._parts.tell()
        self._parts.write(rows[np.argsort(parts, kind="stable")].tobytes())
        for part, count in enumerate(np.bincount(parts, minlength=PARTS).tolist()):
            if count:
                self._segments[part].append((at, count))
            at += count * _ROW_BYTES

    def _by_part(self) -> Iterator[_Rows]:
        if self._parts is None:
            if self._taken[0]:
                yield self._columns()
            return
        self._parts.flush()
        for segments in self._segments:
            if segments:
                said = [os.pread(self._parts.fileno(), count * _ROW_BYTES, at) for at, count in segments]
                yield np.frombuffer(b"".join(said), np.int64).reshape(-1, COLUMNS).copy()


def _places(ids: Mapping[Any, int], ordered: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Return, by number as they came, each value's place in order."""
    places = np.zeros(len(ids), np.int64)
    places[[ids[value] for value in ordered]] = np.arange(len(ordered))
    return places


def _starts(key: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return where runs of equal keys begin."""
    return np.flatnonzero(np.append(True, key[1:] != key[:-1])) if len(key) else np.zeros(0, np.int64)


def _summed(rows: _Rows) -> _Rows:
    """Return rows in the order of their keys, one a key."""
    # Not a stable sort, which takes four times as long: sums of equal keys do not depend on their order.
    rows = rows[np.argsort(np.ascontiguousarray(rows[:, _KEY]))]
    starts = _starts(rows[:, _KEY])
    if len(starts) == len(rows):
        return rows
    result = np.empty((len(starts), COLUMNS), np.int64)
    result[:, _KEY] = rows[starts, _KEY]
    for column in range(_KEY + 1, _RATE):
        result[:, column] = _sums(rows[:, column], starts)
    result[:, _RATE] = np.maximum.reduceat(rows[:, _RATE], starts)
    return result


def _charges(key: npt.NDArray[np.int64], due: npt.NDArray[np.int64]) -> _Rows:
    order = np.argsort(key)
    key, due = key[order], due[order]
    starts = _starts(key)
    return np.stack([key[starts], _sums(due, starts)], axis=1)


def _sums(column: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the exact sums of the runs. Raises OverflowError for one that 64 bits do not hold."""
    if not len(column) or int(column.max()) * len(column) <= _INT64_MAX:
        return np.add.reduceat(column, starts)
    exact: list[int] = np.add.reduceat(column.astype(object), starts).tolist()
    if max(exact) > _INT64_MAX:
        raise OverflowError(f"{max(exact)} grains do not fit 64 bits")
    return np.array(exact, np.int64)
