"""`/api/apps`: what an app is charged for a closed period, for its own key; every app's for an operator.

`me` names the app whose key it is. The invoice is a query; usage is rated again, answer by answer, so one is
made at a time, and a long period's is left to the command line.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from litestar import Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.billing import focus_store
from proxy.errors import NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from proxy.billing.prices import PriceTable
    from proxy.settings import Settings

ME = "me"
EVENTS_MAX = 200_000  # answers of a period that are rated again while serving: seconds of a thread


def apps_router(engine: sa.Engine, settings: Settings, prices: PriceTable) -> Router:
    """Return everything under /api/apps."""
    rating = asyncio.Semaphore(1)

    @get("/{app:str}/invoices/{name:str}", guards=[requires(Action.READ_OWN_USAGE)])
    async def invoice(
        caller: NamedDependency[Principal], app: FromPath[str], name: FromPath[str]
    ) -> Response[bytes]:
        """What the app owes for a period and where it goes, as FOCUS CSV: invoices/{period}.csv."""
        wanted, label = _whose(caller, app), _label(name)
        made = await of_pages(focus_store.invoice, engine, settings, label, wanted)
        return _csv(made, f"invoice-{label}.csv")

    @get("/{app:str}/usage/{name:str}", guards=[requires(Action.READ_OWN_USAGE)])
    async def usage(
        caller: NamedDependency[Principal], app: FromPath[str], name: FromPath[str]
    ) -> Response[bytes]:
        """What the answers of each day and model cost the app, as FOCUS CSV: usage/{period}.csv."""
        wanted, label = _whose(caller, app), _label(name)
        async with rating:
            made = await of_pages(
                focus_store.usage, engine, settings, prices, label, wanted, events_max=EVENTS_MAX
            )
        return _csv(made, f"usage-{label}.csv")

    return Router(
        "/api/apps", route_handlers=[invoice, usage], dependencies={"caller": Provide(provide_principal)}
    )


def _whose(caller: Principal, app: str) -> str:
    """Return the app that is asked for, if the caller may see it; else say that there is none."""
    if caller.role == "app" and app in {ME, caller.app_id}:
        return caller.app_id
    if caller.role == "operator" and app != ME:
        return app
    raise NotFound(f"no app {app[:60]}", remedy="an app sees its own charges only, under /api/apps/me")


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
