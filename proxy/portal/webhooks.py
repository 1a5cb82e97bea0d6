"""`/api/webhooks`: operators name addresses that are told what happens, and see what came of it.

A secret is in the answer that made it and in no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Router, get, post
from litestar import delete as on_delete
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.clock import Clock, iso_utc
from proxy.hooks.store import LISTED_MAX, Webhook, webhooks_in
from proxy.hooks.targets import KINDS, Kind
from proxy.portal.cursors import page_of, place_in
from proxy.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

OPERATORS = [requires(Action.OPERATE)]
Row = dict[str, Any]


class WebhookIn(msgspec.Struct, forbid_unknown_fields=True):
    """An https address, and what it is told; everything where nothing is named."""

    url: str
    events: list[Kind] = []


def webhooks_router(engine: sa.Engine, settings: Settings, clock: Clock) -> Router:
    """Return /api/webhooks."""
    webhooks = webhooks_in(engine, settings.data_dir, clock)

    @get("/", guards=OPERATORS)
    async def known() -> Row:
        """Addresses that are told something, and everything they could be told."""
        found = await of_pages(webhooks.living)
        return {"items": [_row(one) for one in found], "events": list(KINDS)}

    @post("/", guards=OPERATORS)
    async def add(caller: NamedDependency[Principal], data: JSONBody[WebhookIn]) -> Row:
        """Tell an address what happens from now on. `secret` signs every message, and is told here only."""
        by = caller.name or caller.key_id
        made, secret = await of_pages(webhooks.add, data.url, tuple(data.events) or KINDS, by=by)
        return _row(made) | {"secret": secret}

    @on_delete("/{webhook:str}", guards=OPERATORS, status_code=200)
    async def remove(webhook: FromPath[str]) -> Row:
        """Tell an address nothing more."""
        changed = await of_pages(webhooks.end, webhook if webhook.isprintable() else "")
        return {"id": webhook, "changed": changed}

    @get("/messages", guards=OPERATORS)
    async def messages(
        webhook: FromQuery[str] = "",
        cursor: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=LISTED_MAX)] = 50,
    ) -> Row:
        """Messages and what came of each, of one address or all, newest first."""
        which, before = webhook if webhook.isprintable() else "-", place_in(cursor)
        rows = await of_pages(webhooks.messages, which, before=before, limit=limit + 1)
        return page_of(rows, limit, _message, lambda row: (row["made_us"], row["id"]))

    return Router(
        "/api/webhooks",
        route_handlers=[known, add, remove, messages],
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


def _row(one: Webhook) -> Row:
    return {
        "id": one.id,
        "url": one.url,
        "events": list(one.kinds),
        "by": one.by,
        "since": iso_utc(one.at_us),
    }


def _message(row: dict[str, Any]) -> Row:
    return {
        "id": row["id"],
        "webhook": row["webhook_id"],
        "event": row["kind"],
        "made": iso_utc(row["made_us"]),
        "attempts": row["attempts"],
        "answer": row["answer"],
        "waits": row["next_us"] is not None,
    }
