"""`/api`: what scripts of apps, creators and operators read, each no more than is theirs.

An app reads its own answers' receipts and usage; a creator reads their own statements; an operator reads
everything. What a caller may not see is answered exactly like what does not exist. Lists are paged by an
opaque cursor. Handlers run their queries in threads, so that no page keeps the loop that carries other
people's streams.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from litestar import Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.access.made_store import MadeThings
from proxy.access.store import app_names
from proxy.asking import of_pages
from proxy.billing.export_store import listed
from proxy.catalogue.works import WorkCredit
from proxy.clock import Clock, SystemClock, iso_utc, parse_time_us
from proxy.errors import BadRequest, NotFound
from proxy.metering import store as metering
from proxy.metering.batches import line_id
from proxy.metering.usage import MeteredEvent
from proxy.portal.events import carried, may_see
from proxy.portal.papers import statement_document

if TYPE_CHECKING:
    import sqlalchemy as sa


PAGE_MAX = 500
_CLOCK = SystemClock()


def api_router(
    engine: sa.Engine,
    credit: Callable[[str], WorkCredit | None],
    backends: Sequence[str] = (),
    clock: Clock = _CLOCK,
) -> Router:
    """Return everything under /api. backends: their names, a part of where a batch's answer stands."""
    promised = MadeThings(engine)

    @get("/receipts/{event_id:str}", guards=[requires(Action.READ_RECEIPT)])
    async def receipt(
        caller: NamedDependency[Principal], event_id: FromPath[str]
    ) -> Response[dict[str, Any]]:
        """One answer's shares: 200 when settled, 202 with Retry-After while they are to come."""
        event = await carried(engine, event_id)
        if event is None and await _is_promised(promised, caller, event_id):
            # A background answer that is still being made: nothing is metered yet.
            return Response(
                {"id": event_id, "status": "pending"}, status_code=202, headers={"retry-after": "5"}
            )
        if event is None or not may_see(caller, event):
            raise NotFound(f"no receipt {event_id}", remedy="an app sees its own answers' only")
        return answered(event, credit)

    @get("/receipts", guards=[requires(Action.READ_RECEIPT)])
    async def batch_receipt(
        caller: NamedDependency[Principal], file: FromQuery[str], custom_id: FromQuery[str]
    ) -> Response[dict[str, Any]]:
        """Of a batch's answer, by its output's file id and its own name in it: as above."""
        ids = [line_id(backend, file, custom_id) for backend in backends]
        found = await of_pages(metering.known_ids, engine, ids)
        for event_id in found:
            event = await of_pages(metering.find_event, engine, event_id)
            if event is not None and may_see(caller, event):
                return answered(event, credit)
        raise NotFound(
            "no receipt for this answer of a batch",
            remedy="it is metered when the file's content is fetched; an app sees its own answers' only",
        )

    @get("/usage", guards=[requires(Action.READ_OWN_USAGE)])
    async def usage(
        caller: NamedDependency[Principal],
        since: FromQuery[str] = "",
        cursor: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 100,
    ) -> dict[str, Any]:
        """Answers since a time, oldest first: an app's own, or everybody's for an operator."""
        start = _position(since, cursor)
        rows, following = await of_pages(_usage_page, engine, caller, start, limit)
        names = await of_pages(app_names, engine)
        items = [_receipt(event, credit) | {"app_name": names.get(event.app_id, "")} for event in rows]
        return {"items": items, "next_cursor": following}

    @get("/statements", guards=[requires(Action.READ_OWN_STATEMENTS)])
    async def statements(
        caller: NamedDependency[Principal],
        period: FromQuery[str] = "",
        cursor: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 100,
    ) -> dict[str, Any]:
        """A creator's statements, or everybody's for an operator: newest period first, then by creator."""
        found = await of_pages(
            listed, engine, label=period, creator=caller.creator_id, after=cursor, limit=limit + 1
        )
        items = found[:limit]
        return {"items": items, "next_cursor": items[-1].id if len(found) > limit else None}

    @get("/statements/{name:str}", guards=[requires(Action.READ_OWN_STATEMENTS)])
    async def statement(
        caller: NamedDependency[Principal],
        name: FromPath[str],
        locale: FromQuery[str] = "",
        languages: Annotated[str, HeaderParameter(name="accept-language")] = "",
    ) -> Response[bytes]:
        """One statement as a document: {id}.json, .csv, .tsv, .distributor.tsv, .html or .pdf.

        Numbers, money and dates of the last two are written for `locale`, else for Accept-Language.
        """
        return await statement_document(engine, clock, caller, name, locale=locale, languages=languages)

    handlers: Sequence[BaseRouteHandler] = (receipt, batch_receipt, usage, statements, statement)
    return Router("/api", route_handlers=handlers, dependencies={"caller": Provide(provide_principal)})


def answered(event: MeteredEvent, credit: Callable[[str], WorkCredit | None]) -> Response[dict[str, Any]]:
    """Return an answer's shares: 202 with Retry-After while they are to come."""
    pending = event.status == "pending"
    headers = {"retry-after": "1"} if pending else {}
    return Response(_receipt(event, credit), status_code=202 if pending else 200, headers=headers)


async def _is_promised(made: MadeThings, caller: Principal, event_id: str) -> bool:
    things = await of_pages(made.find, [event_id]) if event_id.startswith("rct_") else []
    return any(thing.app_id == caller.app_id or caller.role == "operator" for thing in things)


def _receipt(event: MeteredEvent, credit: Callable[[str], WorkCredit | None]) -> dict[str, Any]:
    pending = event.status == "pending"
    works: list[dict[str, Any]] = []
    for line in event.lines:
        known = credit(line.work)
        shown: dict[str, Any] = {"work": line.work, "share_ppm": line.ppm, "verdict": line.verdict}
        if known is not None:
            shown |= {
                "title": known.title,
                "creators": list(known.creators),
                "licence": known.licence,
                "url": known.url,
            }
        works.append(shown)
    return {
        "id": event.id,
        "status": event.status,
        "app": event.app_id,
        "model": event.model,
        "endpoint": event.endpoint,
        "occurred": iso_utc(event.occurred_us),
        "outcome": event.outcome,
        "tokens": {"input": event.input_tokens, "output": event.output_tokens, "estimated": event.estimated},
        "images": event.images,
        "milliseconds": event.milliseconds,
        "method": event.method,
        "reason": event.reason,
        "unattributed_ppm": None if pending else event.unattributed_ppm,
        "works": works,
        "price_version": event.price_version,
        "registry_seq": event.registry_seq,
        "policy_seq": event.policy_seq,
    }


def _position(since: str, cursor: str) -> tuple[int, str]:
    """Return where a usage page begins: after (occurred_us, id)."""
    try:
        if cursor:
            time_us, _, event_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
            return int(time_us), event_id
        return (parse_time_us(since), "") if since else (0, "")
    except ValueError as error:
        raise BadRequest(
            "`cursor` or `since` cannot be read",
            remedy="pass next_cursor as it came, and times like 2026-11-01T12:00:00Z",
        ) from error


def _usage_page(
    engine: sa.Engine, caller: Principal, start: tuple[int, str], limit: int
) -> tuple[list[MeteredEvent], str | None]:
    time_us, after_id = start
    page = list(islice(metering.usage(engine, time_us, after_id=after_id, app=caller.app_id), limit + 1))
    if len(page) <= limit:
        return page, None
    last = page[limit - 1]
    return page[:limit], base64.urlsafe_b64encode(f"{last.occurred_us} {last.id}".encode()).decode()
