"""How a statement lies in the store: its lines as columns, which say in a sixth of the room what rows say.

A statement is canonical JSON, and that is what its hashes cover. Written so, a line takes 330 bytes, of which
three quarters say again what its neighbours say; a period of ten million lines is then four gigabytes that
are written four times over before they lie in the store. So the store keeps the same JSON with `lines` as an
object of columns: a value where all lines agree, else a list; text as places in a table of the different
ones. Reading it back makes the same statement, to the byte. A body that an earlier version wrote has its
lines as rows, and is read as ever.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from proxy.billing.statement import Statement, StatementLine, canonical

Texts = str | tuple[list[str], list[int]]
Numbers = int | list[int]


class Columns(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A statement's lines, at least one. Fields are those of a line; count: how many lines there are."""

    count: int
    work: Texts
    title: Texts
    app: Texts
    model: Texts
    day: Texts
    scheme: Texts
    verdict: Texts
    answers: Numbers
    ppm_sum: Numbers
    price_grains: Numbers
    rate_grains: Numbers
    gross_grains: Numbers
    split_version: Numbers
    split_ppm: Numbers
    net_grains: Numbers
    periods: list[tuple[str, ...]] = []  # msgspec copies it


class _Kept(Statement, frozen=True, kw_only=True, omit_defaults=True):
    lines: Columns | tuple[StatementLine, ...]  # pyright: ignore[reportIncompatibleVariableOverride]


_FIELDS: Final = StatementLine.__struct_fields__
_TEXTS: Final = frozenset({"work", "title", "app", "model", "day", "scheme", "verdict"})
_PERIODS: Final = _FIELDS.index("periods")
_of_head: Final = operator.attrgetter(*Statement.__struct_fields__)
_decode: Final = msgspec.json.Decoder(_Kept).decode


@dataclass(frozen=True, slots=True)
class Glance:
    """What a page shows of a statement, which may have a million lines. statement: without them.

    largest: those that earned most, with their numbers from 1; count: of all lines.
    """

    statement: Statement
    largest: tuple[tuple[int, StatementLine], ...]
    count: int


def packed(statement: Statement) -> bytes:
    """Return the bytes that the store keeps of a statement: equal statements are equal bytes."""
    if not statement.lines:
        return canonical(statement)
    said: dict[str, Any] = dict(zip(Statement.__struct_fields__, _of_head(statement), strict=True))
    said["lines"] = _columns(statement.lines)
    return canonical(_Kept(**said))


def unpacked(body: bytes | str) -> Statement:
    """Return the statement that was kept so, or written by an earlier version.

    Raises msgspec.MsgspecError for what is neither.
    """
    kept = _decode(body)
    said: dict[str, Any] = dict(zip(Statement.__struct_fields__, _of_head(kept), strict=True))
    said["lines"] = _lines(kept.lines) if isinstance(kept.lines, Columns) else kept.lines
    return Statement(**said)


def glanced(body: bytes | str, lines_max: int) -> Glance:
    """Return what a page shows of a statement that was kept so, with its `lines_max` largest lines.

    Only those are made: of many lines that takes a seventh of reading them all back and sorting them.
    Raises msgspec.MsgspecError as `unpacked` does.
    """
    kept = _decode(body)
    said: dict[str, Any] = dict(zip(Statement.__struct_fields__, _of_head(kept), strict=True))
    said["lines"] = ()
    if isinstance(kept.lines, Columns):
        count, net = kept.lines.count, kept.lines.net_grains
        earned = net if isinstance(net, list) else [net] * count
    else:
        count, earned = len(kept.lines), [one.net_grains for one in kept.lines]
    most = heapq.nlargest(lines_max, range(count), key=earned.__getitem__)
    if isinstance(kept.lines, Columns):
        some = _lines(_picked(kept.lines, most)) if most else ()
    else:
        some = tuple(kept.lines[place] for place in most)
    return Glance(Statement(**said), tuple(zip((place + 1 for place in most), some, strict=True)), count)


def _picked(columns: Columns, places: Sequence[int]) -> Columns:
    """Return the columns of these lines alone."""
    said: dict[str, Any] = {}
    for name in _FIELDS[:_PERIODS]:
        value: Any = getattr(columns, name)
        if isinstance(value, tuple):
            table, of = cast("tuple[list[str], list[int]]", value)
            value = (table, [of[place] for place in places])
        elif isinstance(value, list):
            value = [cast("list[int]", value)[place] for place in places]
        said[name] = value
    periods = [columns.periods[place] for place in places] if columns.periods else []
    return Columns(count=len(places), **said, periods=periods)


def _columns(lines: Sequence[StatementLine]) -> Columns:
    values: list[tuple[Any, ...]] = list(zip(*map(msgspec.structs.astuple, lines), strict=True))
    count = len(lines)
    said: dict[str, Any] = {}
    for name, column in zip(_FIELDS[:_PERIODS], values, strict=False):
        first = column[0]
        if column[-1] == first and column.count(first) == count:
            said[name] = first
        elif name in _TEXTS:
            places: dict[str, int] = {text: place for place, text in enumerate(dict.fromkeys(column))}
            said[name] = (list(places), list(map(places.__getitem__, column)))
        else:
            said[name] = list(column)
    periods = values[_PERIODS]
    return Columns(count=count, **said, periods=list(periods) if any(periods) else [])


def _lines(columns: Columns) -> tuple[StatementLine, ...]:
    values: list[list[Any]] = []
    for name in _FIELDS[:_PERIODS]:
        value: Any = getattr(columns, name)
        if isinstance(value, tuple):
            table, places = cast("tuple[list[str], list[int]]", value)
            value = [table[place] for place in places]
        values.append(cast("list[Any]", value) if isinstance(value, list) else [value] * columns.count)
    values.append(columns.periods or [()] * columns.count)
    if any(len(value) != columns.count for value in values):
        raise msgspec.ValidationError(f"columns of another length than {columns.count}")
    return tuple([
        StatementLine(
            work=work, title=title, app=app, model=model, day=day, scheme=scheme, verdict=verdict,
            answers=answers, ppm_sum=ppm_sum, price_grains=price, rate_grains=rate, gross_grains=gross,
            split_version=version, split_ppm=ppm, net_grains=net, periods=periods,
        )
        for work, title, app, model, day, scheme, verdict, answers, ppm_sum, price, rate, gross, version, ppm,
            net, periods in zip(*values, strict=True)
    ])  # fmt: skip
