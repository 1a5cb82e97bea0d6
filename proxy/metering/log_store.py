"""Answers in the order of the log, read by the million: what a close counts.

Two statements a page, one for the answers and one for their lines, each by the range of positions, and rows
taken from the driver as they are: SQLAlchemy's rows and a list of ids to look up cost five times as much
(measured: 6.3 against 1.2 µs a line on SQLite).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from proxy.errors import Unavailable
from proxy.metering.gone_store import refuse_gone
from proxy.metering.store import PAGE_EVENTS, store_errors
from proxy.metering.usage import Line, MeteredEvent, Verdict

# Positions of one page: `begun` and `used` records take some, so a page holds about a third as many answers.
POSITIONS: Final = 3 * PAGE_EVENTS

_ANSWERS: Final = """
SELECT a.idx, a.event_id, e.id, e.occurred_us, e.app_id, e.backend, e.model, e.endpoint, e.outcome,
  e.input_tokens, e.output_tokens, e.estimated, e.output_digest, e.subject_digest, e.price_version,
  e.price_grains, e.currency, a.unattributed_ppm, a.reason, a.method, a.registry_seq,
  e.policy_seq, e.images, e.milliseconds
FROM attributed a LEFT JOIN event e ON e.id = a.event_id
WHERE a.shard_id = ? AND a.idx >= ? AND a.idx < ? ORDER BY a.idx"""
_LINES: Final = """
SELECT a.idx, l.work_id, l.ppm, l.verdict
FROM attributed a JOIN event_line l ON l.event_id = a.event_id
WHERE a.shard_id = ? AND a.idx >= ? AND a.idx < ? ORDER BY a.idx, l.ord"""
_NEXT: Final = "SELECT min(idx) FROM attributed WHERE shard_id = ? AND idx >= ? AND idx < ?"


@dataclass(frozen=True, slots=True)
class Page:
    """Some answers in the order of the log, as the driver gave them: rows of values, and the lines of all.

    A row's values are at the places named here; a line is (IDX of its answer, work, ppm, verdict).
    """

    IDX: ClassVar[int] = 0
    ID: ClassVar[int] = 2
    OCCURRED_US: ClassVar[int] = 3
    APP: ClassVar[int] = 4
    MODEL: ClassVar[int] = 6
    ENDPOINT: ClassVar[int] = 7
    OUTCOME: ClassVar[int] = 8
    ESTIMATED: ClassVar[int] = 11
    PRICE_VERSION: ClassVar[int] = 14
    PRICE_GRAINS: ClassVar[int] = 15
    CURRENCY: ClassVar[int] = 16
    UNATTRIBUTED_PPM: ClassVar[int] = 17
    REASON: ClassVar[int] = 18
    METHOD: ClassVar[int] = 19

    rows: Sequence[tuple[Any, ...]]
    lines: Sequence[tuple[int, str, int, str]]

    def answers(self, places: Iterable[int] | None = None) -> Iterator[MeteredEvent]:
        """Yield the answers at these places, or all."""
        lines: dict[int, list[Line]] = {}
        wanted = range(len(self.rows)) if places is None else list(places)
        if wanted:
            for idx, work, ppm, verdict in self.lines:
                if idx in lines:
                    lines[idx].append(Line(work, ppm, cast("Verdict", verdict)))
                else:
                    lines[idx] = [Line(work, ppm, cast("Verdict", verdict))]
        return (_answer(self.rows[place], lines.get(self.rows[place][0], ())) for place in wanted)


def events_between(
    engine: sa.Engine, start: Mapping[str, int], end: Mapping[str, int]
) -> Iterator[MeteredEvent]:
    """Yield answers whose shares lie at start[shard] <= idx < end[shard], in (shard, idx) order.

    A shard missing in `start` begins at 0; one missing in `end` gives nothing. Memory: POSITIONS answers.
    Raises Unavailable(code "events_incomplete") at an answer whose usage has not been carried yet, and
    Conflict(code "usage_trimmed") where answers of this stretch have left the store.
    """
    for page in pages_between(engine, start, end):
        yield from page.answers()


def pages_between(engine: sa.Engine, start: Mapping[str, int], end: Mapping[str, int]) -> Iterator[Page]:
    """Yield the same answers, some at a time and as they lie in the store. Raises likewise."""
    with store_errors(), engine.connect() as connection:
        refuse_gone(connection, start, end)
    for shard_id in sorted(end):
        position, bound = start.get(shard_id, 0), end[shard_id]
        while position < bound:
            upto = min(position + POSITIONS, bound)
            page = _page(engine, shard_id, position, upto)
            yield page
            position = upto if page.rows else _next(engine, shard_id, upto, bound)


def _page(engine: sa.Engine, shard_id: str, position: int, upto: int) -> Page:
    asked = (shard_id, position, upto)
    with store_errors(), engine.connect() as connection:
        page = Page(_rows(connection, _ANSWERS, asked), _rows(connection, _LINES, asked))
    for row in page.rows:
        if row[Page.ID] is None:
            raise Unavailable(
                f"the usage of {row[1]} is not in the store yet, only its shares are",
                remedy="let the server carry its journal, then close the period again",
                code="events_incomplete",
            )
    return page


def _answer(row: Sequence[Any], lines: Sequence[Line]) -> MeteredEvent:
    (
        _, _, event_id, occurred_us, app_id, backend, model, endpoint, outcome, tokens_in, tokens_out,
        estimated, digest, subject, version, grains, currency, unattributed, reason, method, seq, policy_seq,
        images, milliseconds,
    ) = row  # fmt: skip
    return MeteredEvent(
        id=event_id,
        occurred_us=occurred_us,
        app_id=app_id,
        backend=backend,
        model=model,
        endpoint=endpoint,
        outcome=outcome,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        estimated=bool(estimated),
        output_digest=digest,
        subject_digest=subject,
        price_version=version,
        price_grains=grains,
        currency=currency,
        unattributed_ppm=unattributed,
        reason=reason,
        method=method,
        registry_seq=seq,
        policy_seq=policy_seq,
        images=images,
        milliseconds=milliseconds,
        lines=tuple(lines),
    )


def _next(engine: sa.Engine, shard_id: str, position: int, bound: int) -> int:
    """Return where the next answer lies: a stretch without any is stepped over at once."""
    with store_errors(), engine.connect() as connection:
        found = _rows(connection, _NEXT, (shard_id, position, bound))[0][0]
    return bound if found is None else int(found)


def _rows(connection: sa.Connection, statement: str, asked: tuple[str, int, int]) -> list[Any]:
    """Return the driver's own rows: what SQLAlchemy makes of each costs more than reading it."""
    if connection.dialect.name != "sqlite":
        statement = statement.replace("?", "%s")
    cursor = cast("Any", connection.exec_driver_sql(statement, asked).cursor)
    driver = cast("Any", connection.dialect.dbapi)
    try:
        return cast("list[Any]", cursor.fetchall())
    except driver.Error as error:
        raise OperationalError(statement, asked, error) from error
