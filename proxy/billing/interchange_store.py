"""Usage read from the store for others, a page at a time: see interchange.py for what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec
import sqlalchemy as sa

from proxy.billing.interchange import About, Form, measured, rsl, session, usage_event
from proxy.catalogue.tables import WorkRow
from proxy.metering import store as metering
from proxy.metering.usage import MeteredEvent

PAGE_EVENTS: Final = 500  # whose works are looked up together
IN_MAX: Final = 5_000  # names in one statement
_work = WorkRow.metadata.tables[str(WorkRow.__tablename__)]


def exported(
    engine: sa.Engine, form: Form, *, since_us: int = 0, app: str = "", source: str = "urn:endcredits"
) -> Iterator[str]:
    """Yield the lines of an export of settled answers since a time, oldest first.

    source: the log's name, which names us in CloudEvents. app: only this app's answers.
    """
    settled = (event for event in metering.usage(engine, since_us, app=app) if event.status == "settled")
    match form:
        case "cloudevents":
            for event in settled:
                yield msgspec.json.encode(usage_event(event, source)).decode()
        case "openattribution":
            yield from _sessions(engine, settled)
        case "rsl":
            uses = measured(settled)
            yield from rsl(uses, about(engine, uses))


def _sessions(engine: sa.Engine, events: Iterator[MeteredEvent]) -> Iterator[str]:
    while page := list(islice(events, PAGE_EVENTS)):
        works = about(engine, {line.work for event in page for line in event.lines})
        for event in page:
            yield msgspec.json.encode(session(event, works)).decode()


def about(engine: sa.Engine, works: Iterable[str]) -> dict[str, About]:
    """Return {work: what is told of it} of those that are registered."""
    names, found = sorted(works), dict[str, About]()
    with engine.connect() as connection:
        for start in range(0, len(names), IN_MAX):
            query = sa.select(_work.c.id, _work.c.url, _work.c.text_sha256)
            some = query.where(_work.c.id.in_(names[start : start + IN_MAX]))
            found |= {row.id: About(row.url, row.text_sha256) for row in connection.execute(some)}
    return found
