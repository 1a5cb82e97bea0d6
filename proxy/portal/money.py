"""A creator's money: what waits or is paid, where it goes, and what she declares for tax.

What is typed into a form comes back with the reason where it is refused, but for numbers: those are never
written into a page, whole or in part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromQuery
from litestar.response import Redirect

from proxy.access.keys import Principal
from proxy.asking import of_pages
from proxy.billing import adjustments_store, payees, payouts_store
from proxy.billing.matter_rows import adjustment_row
from proxy.billing.payees import TaxForm, TaxProfile
from proxy.billing.payout_rows import payee_row, told_row
from proxy.errors import BadRequest, Problem
from proxy.portal.creators import CREATORS, Office
from proxy.portal.cursors import page_of, place_in
from proxy.portal.pages import AnyRequest

DONE: Final[Mapping[str, str]] = {
    "account": "Your account is kept. Somebody checks that it is yours before the first payment goes there.",
    "tax": "Your form is kept. It counts when somebody has checked it.",
}
PAYMENTS_SHOWN: Final = 20
CORRECTIONS_SHOWN: Final = 20  # the newest: each stands on the statement of its month too
FORMS: Final[Sequence[tuple[TaxForm, str]]] = (
    ("W9", "W-9: a person of the United States"),
    ("W8BEN", "W-8BEN: a person elsewhere"),
    ("W8BENE", "W-8BEN-E: a company elsewhere"),
    ("other", "Another form"),
)
ACCOUNT: Final = ("rail", "holder", "country", "bic", "minimum")
TAX: Final = ("form", "tax_country", "treaty")
Typed = Mapping[str, str]


def money_pages(office: Office) -> Sequence[BaseRouteHandler]:
    """Return the handlers of the page and of its two forms."""
    pages, paying = office.pages, office.paying

    def read(caller: Principal, before: str) -> dict[str, Any]:
        me, place = caller.creator_id, place_in(before)
        told = payouts_store.of_creator(office.engine, me, before=place, limit=PAYMENTS_SHOWN + 1)
        payments = page_of(told, PAYMENTS_SHOWN, told_row, lambda one: (one.created_us, one.batch))
        return {
            "payee": payee_row(paying, me),
            "payments": payments["items"],
            "following": payments["next_cursor"],
            "before": before,
            "adjustments": [
                adjustment_row(*one)
                for one in adjustments_store.listed(office.engine, creator=me, limit=CORRECTIONS_SHOWN)
            ],
            "rails": paying.rails(),
            "currency": paying.currency,
            "forms": FORMS,
        }

    async def page(
        request: AnyRequest,
        caller: Principal,
        *,
        before: str = "",
        done: str = "",
        refused: Problem | None = None,
        typed: Typed | None = None,
    ) -> Response[bytes]:
        told: dict[str, Any] = {"done": DONE.get(done, ""), "refused": refused, "typed": typed or {}}
        status = refused.status if refused else 200
        return pages.page(
            request, "money.html.jinja", status=status, **told, **await of_pages(read, caller, before)
        )

    @get("/money", guards=CREATORS)
    async def money(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        before: FromQuery[str] = "",
        done: FromQuery[str] = "",
    ) -> Response[bytes]:
        """What is owed, what keeps it, what was paid, and where it goes."""
        return await page(request, caller, before=before, done=done)

    @post("/money/account", guards=CREATORS)
    async def account(request: AnyRequest, caller: NamedDependency[Principal]) -> Response[Any]:
        """Keep where one is paid."""
        form = await request.form()
        typed = {name: str(form.get(name, "")).strip() for name in ACCOUNT}
        try:
            if typed["rail"] not in paying.rails():
                raise BadRequest("this way of paying is not offered here", remedy="choose one of the list")
            made = payees.account(
                typed["rail"],
                str(form.get("account", "")),
                holder=typed["holder"],
                country_code=typed["country"].upper(),
                bic_code=typed["bic"],
            )
            me, minimum = caller.creator_id, typed["minimum"]
            await of_pages(paying.enter, me, made, minimum=minimum, by=me, verified=False)
        except Problem as refused:
            return await page(request, caller, refused=refused, typed=typed)
        return Redirect("/portal/money?done=account", status_code=303)

    @post("/money/tax", guards=CREATORS)
    async def tax(request: AnyRequest, caller: NamedDependency[Principal]) -> Response[Any]:
        """Keep what one declares for tax, until it is checked, and the tax number, sealed."""
        form = await request.form()
        typed, me = {name: str(form.get(name, "")).strip() for name in TAX}, caller.creator_id
        try:
            profile = _profile(typed, office)
            if number := str(form.get("number", "")).strip():
                await of_pages(paying.tax_numbers(me).enter, me, number, profile.country)
            await of_pages(paying.declarations(me).give, me, profile)
        except Problem as refused:
            return await page(request, caller, refused=refused, typed=typed)
        return Redirect("/portal/money?done=tax", status_code=303)

    return (money, account, tax)


def _profile(typed: Typed, office: Office) -> TaxProfile:
    """Return what the form declares, from today on. Raises BadRequest."""
    form: TaxForm | None = next((one for one, _ in FORMS if one == typed["form"]), None)
    if form is None:
        raise BadRequest("no form was chosen", remedy="choose one of the list")
    where, treaty = payees.country(typed["tax_country"]), payees.treaty_in(typed["treaty"])
    return TaxProfile(form, where, treaty, office.paying.today())
