"""`/api/apps`: what an app may use, what it has used and what it is charged, for its own key or an operator.

`me` names the app whose key it is. A month is summed by day and model as answers settle; the invoice of a
closed period is a query, and its usage is rated again, answer by answer, so one is made at a time, and a long
period's is left to the command line.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from litestar import Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.access.limits import month_of
from proxy.access.limits_store import app_limits, spent
from proxy.access.store import KnownKey, app_names, list_keys
from proxy.asking import of_pages
from proxy.billing import focus_store
from proxy.billing.app_uses_store import AppUse, month_of_app
from proxy.clock import Clock, iso_utc
from proxy.errors import BadRequest, NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from proxy.billing.prices import PriceTable
    from proxy.settings import Settings

ME = "me"
EVENTS_MAX = 200_000  # answers of a period that are rated again while serving: seconds of a thread
MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
Row = dict[str, Any]


class Apps:
    """What is told of apps, by routes and by pages alike. Calls but `documents` block on the store."""

    def __init__(self, engine: sa.Engine, settings: Settings, prices: PriceTable, clock: Clock) -> None:
        self._engine, self._settings, self._prices, self._clock = engine, settings, prices, clock
        self._rating = asyncio.Semaphore(1)

    def this_month(self) -> str:
        """Return the calendar month, UTC, as "2026-11"."""
        return month_of(self._clock.now_us())

    def about(self, app: str) -> Row:
        """Return an app's limits, its budget of this month and its keys. Raises NotFound."""
        app_id, limits = app_limits(self._engine, app)
        month, now_us = self.this_month(), self._clock.now_us()
        budget: Row | None = None
        if limits.budget_grains is not None:
            spent_grains, held_grains = spent(self._engine, app_id, month)
            budget = {
                "month": month,
                "currency": limits.currency or self._settings.billing.currency,
                "budget_grains": limits.budget_grains,
                "spent_grains": spent_grains,
                "held_grains": held_grains,
                "left_grains": max(0, limits.budget_grains - spent_grains - held_grains),
            }
        return {
            "id": app_id,
            "name": app_names(self._engine).get(app_id, ""),
            "requests_per_min": limits.requests_per_min or None,
            "tokens_per_min": limits.tokens_per_min or None,
            "origins": list(limits.origins),
            "known_endpoints_only": limits.known_endpoints_only,
            "budget": budget,
            "keys": [_key(one, now_us) for one in list_keys(self._engine, app=app_id)],
        }

    def days(self, app: str, month: str) -> Row:
        """Return what an app asked for in a month ("" for this one), by day and by model. Raises NotFound."""
        wanted = month or self.this_month()
        if MONTH.fullmatch(wanted) is None:
            raise BadRequest(f"'{month[:20]}' is no month", remedy="write one like 2026-11")
        app_id, _ = app_limits(self._engine, app)
        days, models = month_of_app(self._engine, app_id, wanted)
        return {
            "app": app_id,
            "month": wanted,
            "days": [_used("day", one) for one in days],
            "models": [_used("model", one) for one in models],
        }

    async def document(self, app: str, what: str, name: str) -> Response[bytes]:
        """Return an app's "invoice" or "usage" of a period, {period}.csv. Raises NotFound, Conflict."""
        label = _label(name)
        if what == "invoice":
            made = await of_pages(focus_store.invoice, self._engine, self._settings, label, app)
            return _csv(made, f"invoice-{label}.csv")
        rates = (self._engine, self._settings, self._prices)
        async with self._rating:
            made = await of_pages(focus_store.usage, *rates, label, app, events_max=EVENTS_MAX)
        return _csv(made, f"usage-{label}.csv")


def apps_router(apps: Apps) -> Router:
    """Return everything under /api/apps."""

    @get("/{app:str}", guards=[requires(Action.READ_OWN_USAGE)])
    async def about(caller: NamedDependency[Principal], app: FromPath[str]) -> Row:
        """An app's limits, what is left of its budget this month, and its keys without their secrets."""
        return await of_pages(apps.about, _whose(caller, app))

    @get("/{app:str}/days", guards=[requires(Action.READ_OWN_USAGE)])
    async def days(caller: NamedDependency[Principal], app: FromPath[str], month: FromQuery[str] = "") -> Row:
        """What an app asked for in a month (2026-11; this one), by day and by model, with its price."""
        return await of_pages(apps.days, _whose(caller, app), month)

    @get("/{app:str}/invoices/{name:str}", guards=[requires(Action.READ_OWN_USAGE)])
    async def invoice(
        caller: NamedDependency[Principal], app: FromPath[str], name: FromPath[str]
    ) -> Response[bytes]:
        """What the app owes for a period and where it goes, as FOCUS CSV: invoices/{period}.csv."""
        return await apps.document(_whose(caller, app), "invoice", name)

    @get("/{app:str}/usage/{name:str}", guards=[requires(Action.READ_OWN_USAGE)])
    async def usage(
        caller: NamedDependency[Principal], app: FromPath[str], name: FromPath[str]
    ) -> Response[bytes]:
        """What the answers of each day and model cost the app, as FOCUS CSV: usage/{period}.csv."""
        return await apps.document(_whose(caller, app), "usage", name)

    return Router(
        "/api/apps",
        route_handlers=[about, days, invoice, usage],
        dependencies={"caller": Provide(provide_principal)},
    )


def _whose(caller: Principal, app: str) -> str:
    """Return the app that is asked for, if the caller may see it; else say that there is none."""
    if caller.role == "app" and app in {ME, caller.app_id}:
        return caller.app_id
    if caller.role == "operator" and app != ME and app.isprintable():
        return app
    raise NotFound(f"no app {app[:60]}", remedy="an app sees its own charges only, under /api/apps/me")


def _key(one: KnownKey, now_us: int) -> Row:
    ended = one.expires_us is not None and one.expires_us <= now_us
    return {
        "id": one.id,
        "shown": one.shown,
        "since": iso_utc(one.created_us),
        "ends": iso_utc(one.expires_us) if one.expires_us is not None else None,
        "models": list(one.models),
        "state": "revoked" if one.revoked_us is not None else "ended" if ended else "living",
    }


def _used(what: str, one: AppUse) -> Row:
    return {
        what: one.what,
        "currency": one.currency,
        "answers": one.answers,
        "cut": one.cut,
        "failed": one.failed,
        "tokens": {"input": one.input_tokens, "output": one.output_tokens},
        "price_grains": one.grains,
        "unpriced": one.unpriced,
    }


def _label(name: str) -> str:
    label, dot, form = name.rpartition(".")
    if not dot or form != "csv":
        raise NotFound(f"no such document {name[:60]}", remedy="ask for {period}.csv")
    return label


def _csv(content: bytes, name: str) -> Response[bytes]:
    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "cache-control": "private, no-store",
        "x-content-type-options": "nosniff",
    }
    return Response(content, media_type="text/csv", headers=headers)
