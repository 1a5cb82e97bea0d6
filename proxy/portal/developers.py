"""The pages of who builds an app: where to ask, with what, how much of it was used, and what it came to.

Everything is said by `/api/apps` and `/api/receipts` too, to the app's own key. A key's secret is nowhere:
the examples read it from where a program keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery

from proxy.access.keys import Principal
from proxy.asking import of_pages
from proxy.billing import periods_store
from proxy.billing.app_uses_store import last_answers
from proxy.catalogue.works import WorkCredit
from proxy.errors import NotFound
from proxy.metering.usage import MeteredEvent
from proxy.portal.apps import Apps
from proxy.portal.creators import Office
from proxy.portal.doors import inside
from proxy.portal.events import carried, may_see
from proxy.portal.pages import AnyRequest

ANSWERS_SHOWN: Final = 10
PERIODS_SHOWN: Final = 24
APPS: Final = [inside("app")]
MODEL: Final = "gpt-4o-mini"  # in examples of an app that has asked for nothing and may use everything
PROOF: Final = "proof.json"
SUMMED: Final = ("answers", "cut", "failed", "unpriced", "price_grains")
OUTCOMES: Final[Mapping[str, str]] = {"complete": "", "cut": "Cut short", "failed": "Failed"}


@dataclass(frozen=True, slots=True)
class Desk:
    """What these pages lean on. origin: our address as the reader's browser has it. proof: a receipt's."""

    office: Office
    apps: Apps
    origin: Callable[[AnyRequest], str]
    credit: Callable[[str], WorkCredit | None]
    proof: Callable[[MeteredEvent], Mapping[str, Any]]


async def home(desk: Desk, request: AnyRequest, caller: Principal) -> Response[bytes]:
    """The first page of who is signed in with an app's key."""
    base_url = f"{desk.origin(request)}/v1"

    def read() -> dict[str, Any]:
        about, month = desk.apps.about(caller.app_id), desk.apps.days(caller.app_id, "")
        periods = periods_store.summaries(desk.office.engine, desk.office.clock.now_us())
        return {
            "about": about,
            "month": month,
            "answers": last_answers(desk.office.engine, caller.app_id, ANSWERS_SHOWN),
            "periods": periods[:PERIODS_SHOWN],
            "model": _model(about, month),
        }

    known = await of_pages(read)
    return desk.office.pages.page(
        request,
        "developer.html.jinja",
        base_url=base_url,
        outcomes=OUTCOMES,
        totals=totals(known["month"]),
        **known,
    )


def developer_pages(desk: Desk) -> Sequence[BaseRouteHandler]:
    """Return the pages behind the first one."""

    @get("/app/days", guards=APPS)
    async def days(
        request: AnyRequest, caller: NamedDependency[Principal], month: FromQuery[str] = ""
    ) -> Response[bytes]:
        """A month by day and by model."""
        told = await of_pages(desk.apps.days, caller.app_id, month)
        return desk.office.pages.page(request, "app-days.html.jinja", month=told, totals=totals(told))

    @get("/app/invoices/{name:str}", guards=APPS)
    async def invoice(caller: NamedDependency[Principal], name: FromPath[str]) -> Response[bytes]:
        """What the app owes for a period, as a file."""
        return await desk.apps.document(caller.app_id, "invoice", name)

    @get("/app/usage/{name:str}", guards=APPS)
    async def usage(caller: NamedDependency[Principal], name: FromPath[str]) -> Response[bytes]:
        """What its answers cost, as a file."""
        return await desk.apps.document(caller.app_id, "usage", name)

    @get("/app/answers/{event_id:str}", guards=APPS)
    async def answer(
        request: AnyRequest, caller: NamedDependency[Principal], event_id: FromPath[str]
    ) -> Response[bytes]:
        """One answer: what it drew on, and its receipt."""
        event = await _own(desk, caller, event_id)
        works = [(line, desk.credit(line.work)) for line in event.lines]
        return desk.office.pages.page(
            request, "answer.html.jinja", event=event, works=works, outcomes=OUTCOMES, proof=PROOF
        )

    @get("/app/answers/{event_id:str}/" + PROOF, guards=APPS)
    async def proof(caller: NamedDependency[Principal], event_id: FromPath[str]) -> Response[Any]:
        """An answer's receipt with its place in the log, to be checked by anybody."""
        event = await _own(desk, caller, event_id)
        if event.status == "pending":
            raise NotFound("this answer has no receipt yet", remedy="wait until its shares are found")
        made = await of_pages(desk.proof, event)
        headers = {"content-disposition": f'attachment; filename="{event.id}.json"'}
        return Response(made, media_type="application/json", headers=headers)

    return (days, invoice, usage, answer, proof)


def totals(month: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a month's sums, one for each currency, the largest first."""
    sums: dict[str, dict[str, Any]] = {}
    for one in month["days"]:
        so_far = sums.setdefault(
            one["currency"],
            {
                "currency": one["currency"],
                "answers": 0,
                "cut": 0,
                "failed": 0,
                "unpriced": 0,
                "tokens": 0,
                "price_grains": 0,
            },
        )
        for name in SUMMED:
            so_far[name] += one[name]
        so_far["tokens"] += sum(one["tokens"].values())
    return sorted(sums.values(), key=lambda one: (-one["price_grains"], one["currency"]))


def _model(about: Mapping[str, Any], month: Mapping[str, Any]) -> str:
    """Return a model that this app can ask for, as far as we know; plain enough to stand in quotes."""
    allowed = [model for key in about["keys"] if key["state"] == "living" for model in key["models"]]
    known = [*(one["model"] for one in month["models"]), *allowed, MODEL]
    named = (one for one in known if one and one.isascii() and one.isprintable())
    plain = (one for one in named if not set(one) & set("*\"'\\`$ "))
    return next(plain)


async def _own(desk: Desk, caller: Principal, event_id: str) -> MeteredEvent:
    event = await carried(desk.office.engine, event_id) if event_id.isprintable() else None
    if event is None or not may_see(caller, event):
        raise NotFound(f"there is no answer {event_id[:60]}", remedy="an app sees its own only")
    return event
