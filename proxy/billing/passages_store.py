"""Which passages of a work answers drew on, counted as they are given, for its creator to see in her text.

Evidence is part of an answer and leaves with it; what stays is a count by cell of the work's text (see
passages.py), month, app and model, and one of answers for the whole work. It is a picture of use and no basis
of money, so it is gathered in memory and written down some times a second: a process that is killed takes
what it had gathered with it, and answers whose shares are found after a restart are not in it. An answer is
counted when its usage is in the store, which tells its app and model; the request path waits for none of it.

Each count is written for its month and for EVER, so that no page sums what years have left.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, SQLModel

from proxy.billing.passages import CELL, By, cells
from proxy.catalogue.lookup_store import chunks
from proxy.clock import iso_utc
from proxy.database import insert_rows
from proxy.metering import store as metering
from proxy.observability import get_log

REST_S: Final = 1  # between looks: about as long as an answer takes to be in the store
ANSWERS_AT_ONCE: Final = 100  # of one transaction: some ten milliseconds, between carriers
WAITING_MAX: Final = 5_000  # answers in memory: seconds of what a worker gives, some MB with their stretches
LOOKS_MAX: Final = 120  # for an answer whose usage never comes, because the journal refused it
WHOLE: Final = -1  # the cell that stands for the whole work: how many answers drew on any of it
EVER: Final = ""  # the month that stands for all
MONTHS_SHOWN: Final = 24
PLACES_SHOWN: Final = 5  # the passages that were used most
Stretches = Mapping[str, Sequence[tuple[int, int]]]


class PassageUseRow(SQLModel, table=True):
    """How many answers of an app, by a model, in a month or ever, drew on one cell of a work's text."""

    __tablename__: ClassVar[Any] = "passage_use"
    work_id: str = Field(primary_key=True, sa_type=sa.String)
    month: str = Field(primary_key=True, sa_type=sa.String)
    cell: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    app_id: str = Field(primary_key=True, sa_type=sa.String)
    model: str = Field(primary_key=True, sa_type=sa.String)
    answers: int = Field(sa_type=sa.BigInteger)


_use = SQLModel.metadata.tables["passage_use"]
_event = metering.event


@dataclass(frozen=True, slots=True)
class WorkPassages:
    """What drew on one work, most first. months: newest first, with answers; most: (cell, answers).

    cells: how many of its text were used.
    """

    months: tuple[tuple[str, int], ...]
    by: tuple[By, ...]
    most: tuple[tuple[int, int], ...]
    cells: int

    @property
    def answers(self) -> int:
        """Of all its apps and models."""
        return sum(one.answers for one in self.by)


def passages_of(engine: sa.Engine, work_id: str, month: str = EVER, *, now_us: int) -> WorkPassages:
    """Return what drew on a work, in `month` ("2026-11") or ever; its months are those up to `now_us`."""
    own = sa.and_(_use.c.work_id == work_id, _use.c.month == month)
    total = sa.func.sum(_use.c.answers).label("answers")
    by = sa.select(_use.c.app_id, _use.c.model, _use.c.answers).where(own, _use.c.cell == WHOLE)
    places = sa.select(_use.c.cell, total).where(own, _use.c.cell > WHOLE).group_by(_use.c.cell).subquery()
    most = sa.select(places).order_by(places.c.answers.desc(), places.c.cell).limit(PLACES_SHOWN)
    # Each month is one look into the key; to ask which there are would be a walk through all rows of a work.
    months = sa.select(_use.c.month, total).where(
        _use.c.work_id == work_id, _use.c.month.in_(_months_until(now_us)), _use.c.cell == WHOLE
    )
    with engine.connect() as connection:
        return WorkPassages(
            months=tuple(
                (str(row.month), int(row.answers))
                for row in connection.execute(months.group_by(_use.c.month).order_by(_use.c.month.desc()))
            ),
            by=tuple(
                By(row.app_id, row.model, int(row.answers))
                for row in connection.execute(by.order_by(_use.c.answers.desc(), _use.c.app_id, _use.c.model))
            ),
            most=tuple((int(row.cell), int(row.answers)) for row in connection.execute(most)),
            cells=int(connection.scalar(sa.select(sa.func.count()).select_from(places)) or 0),
        )


def uses_between(
    engine: sa.Engine, work_id: str, start: int, end: int, month: str = EVER
) -> dict[int, tuple[By, ...]]:
    """Return {cell: by whom it was used, most first} of text[start:end] of a work, in a month or ever."""
    query = sa.select(_use.c.cell, _use.c.app_id, _use.c.model, _use.c.answers).where(
        _use.c.work_id == work_id,
        _use.c.month == month,
        _use.c.cell.between(start // CELL, max(end - 1, 0) // CELL),
    )
    found: dict[int, list[By]] = {}
    with engine.connect() as connection:
        for cell, app, model, answers in connection.execute(query):
            found.setdefault(int(cell), []).append(By(app, model, int(answers)))
    most_first = {cell: sorted(by, key=lambda one: (-one.answers, one.app)) for cell, by in found.items()}
    return {cell: tuple(by) for cell, by in most_first.items()}


def _months_until(now_us: int) -> list[str]:
    """Return the month of `now_us`, those before it, and the one after: an app's clock may be ahead."""
    year, month = map(int, iso_utc(now_us)[:7].split("-"))
    last = 12 * year + month
    return [f"{n // 12:04d}-{n % 12 + 1:02d}" for n in range(last - MONTHS_SHOWN, last + 1)]


class PassageUses:
    """Counts what answers drew on. `add` as they settle, `run` beside the server; each worker has its own."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: deque[tuple[str, Stretches, int]] = deque()
        self._guard = threading.Lock()  # added by the event loop, counted in a thread
        self._left_out = 0

    def add(self, answer_id: str, stretches: Stretches) -> None:
        """Remember which stretches of which works an answer drew on; of too many the oldest is left out."""
        with self._guard:
            if len(self._waiting) >= WAITING_MAX:
                self._waiting.popleft()
                self._left_out += 1
            self._waiting.append((answer_id, stretches, 0))

    async def run(self) -> None:
        """Count for ever; cancel it to stop, then `step` once more. A store that is away is asked later."""
        while True:
            try:
                done = await asyncio.to_thread(self.step)
            except SQLAlchemyError as error:
                get_log().warning("passages_wait", error=type(error).__name__)
                done = 0
            await asyncio.sleep(0 if done == ANSWERS_AT_ONCE else REST_S)

    def step(self) -> int:
        """Count answers that are in the store; return how many, at most ANSWERS_AT_ONCE."""
        with self._guard:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), ANSWERS_AT_ONCE))]
            left_out, self._left_out = self._left_out, 0
        if left_out:
            get_log().warning("passages_left_out", answers=left_out)
        if not taken:
            return 0
        try:
            return self._count(taken)
        except SQLAlchemyError:
            self._put_back(taken)
            raise

    def _count(self, taken: Sequence[tuple[str, Stretches, int]]) -> int:
        facts: dict[str, Any] = {}
        asked = sa.select(_event.c.id, _event.c.occurred_us, _event.c.app_id, _event.c.model)
        with self._engine.connect() as connection:
            for some in chunks([answer_id for answer_id, _, _ in taken]):
                facts |= {row.id: row for row in connection.execute(asked.where(_event.c.id.in_(some)))}
        sums: Counter[tuple[str, str, int, str, str]] = Counter()
        for answer_id, stretches, _ in taken:
            if (fact := facts.get(answer_id)) is None:
                continue
            month = iso_utc(fact.occurred_us)[:7]
            for work, spans in stretches.items():
                used = {WHOLE, *(cell for start, end in spans for cell in cells(start, end))}
                for when in (EVER, month):
                    sums.update((work, when, cell, fact.app_id, fact.model) for cell in used)
        if sums:
            # In the order of the key, so that two workers never wait for each other's rows.
            rows = [(*key, answers) for key, answers in sorted(sums.items())]
            with self._engine.begin() as connection:
                insert_rows(connection, _use, _use.c.keys(), rows, adds_to="answers")
        self._put_back(
            [(one, of, looks + 1) for one, of, looks in taken if one not in facts and looks < LOOKS_MAX]
        )
        return sum(answer_id in facts for answer_id, _, _ in taken)

    def _put_back(self, taken: Sequence[tuple[str, Stretches, int]]) -> None:
        with self._guard:
            room = max(WAITING_MAX - len(self._waiting), 0)
            self._left_out += max(len(taken) - room, 0)
            self._waiting.extend(taken[len(taken) - min(room, len(taken)) :])
