"""`/api/payees` and `/api/payouts`: creators see and set where they are paid, operators pay.

A creator reads and sets their own account, declares for tax, and sees their own payments; what they enter
counts only after an operator has checked it. Batches, holds and files are the operators', two of them for a
batch: who acts is the key's name, or its id where it has none, so give each person a key of their own name.
Account and tax numbers go in and, but for the file that a bank is given, never come out.

Every POST may be sent again: what is done stays done. `Idempotency-Key` names a batch that is to be created
once, whatever became of it since.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Response, Router, get, post, put
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.billing import declarations_store, payees, payees_store, payout_files, payouts_store
from proxy.billing.payees import Rail, TaxForm
from proxy.billing.paying import Paying
from proxy.billing.payout_rows import (
    account_row,
    batch_row,
    check_rows,
    declaration_row,
    event_rows,
    payee_row,
    payment_rows,
    tax_rows,
    told_row,
    unpaid_rows,
)
from proxy.billing.payouts import Batch, Event
from proxy.catalogue.store import Catalogue
from proxy.errors import BadRequest, NotFound
from proxy.portal.cursors import page_of, place_in

if TYPE_CHECKING:
    import sqlalchemy as sa

NAME_CHARACTERS_MAX = 300  # ids have 30; a creator's ref may be an address
ME = "me"  # in a path: the creator whose key it is
PAGE_MAX = payouts_store.LISTED_MAX
Row = dict[str, Any]


class AccountIn(msgspec.Struct, forbid_unknown_fields=True):
    """Where a creator wants to be paid. minimum: decimal text in the books' currency."""

    rail: Rail
    account: str
    holder: str
    country: str
    bic: str = ""
    minimum: str = ""


class VersionIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which version of an account was checked."""

    version: Annotated[int, msgspec.Meta(ge=1, le=payees_store.VERSIONS_MAX)]


class ReasonIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why."""

    reason: str


class TaxIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a creator declared, from one day to before another."""

    form: TaxForm
    country: str
    start: dt.date | None = msgspec.field(name="from", default=None)  # today
    end: dt.date | None = msgspec.field(name="to", default=None)
    treaty_ppm: int | None = None


class NumberIn(msgspec.Struct, forbid_unknown_fields=True):
    """A tax number, and of which country it is."""

    number: str
    country: str


class CheckIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which version of a declaration was checked. refuse: why it does not hold, "" where it does."""

    version: Annotated[int, msgspec.Meta(ge=1, le=2 * declarations_store.VERSIONS_MAX)]
    refuse: str = ""


class BatchIn(msgspec.Struct, forbid_unknown_fields=True):
    """What to propose."""

    rail: Rail
    dry_run: bool = False


class ReturnedIn(msgspec.Struct, forbid_unknown_fields=True):
    """A payment that the bank did not make, and why."""

    payment: str
    reason: str


class GivenBackIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why a payment came back: the bank's code, its words, or both. amount: what did, to be compared."""

    reason: str = ""
    code: str = ""
    amount: str = ""


class SettleIn(msgspec.Struct, forbid_unknown_fields=True):
    """What the bank did. payments: those it paid, null for all on their way that are not `returned`."""

    payments: list[str] | None = None
    returned: list[ReturnedIn] = []
    ref: str = ""


def payouts_router(engine: sa.Engine, paying: Paying, catalogue: Catalogue) -> Router:
    """Return /api/payees and /api/payouts."""
    return Router(
        "/api",
        route_handlers=[
            *_of_creators(engine, paying, catalogue),
            *_about_creators(paying, catalogue),
            *_of_batches(engine, paying),
        ],
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


def _of_creators(engine: sa.Engine, paying: Paying, catalogue: Catalogue) -> Sequence[BaseRouteHandler]:
    """What a creator may do, and an operator for anybody."""

    @get("/payees/{who:str}", guards=[requires(Action.READ_OWN_PAYOUTS)])
    async def payee(caller: NamedDependency[Principal], who: FromPath[str]) -> Row:
        """Where a creator is paid, what they declared, what is owed, and what keeps it from being paid."""
        creator = await of_pages(_creator, catalogue, caller, who)
        return {"creator": creator} | await of_pages(payee_row, paying, creator)

    @put("/payees/{who:str}/account", guards=[requires(Action.EDIT_OWN_PAYEE)])
    async def account(
        caller: NamedDependency[Principal], who: FromPath[str], data: JSONBody[AccountIn]
    ) -> Row:
        """Set where a creator is paid from now on; entered by themselves, an operator checks it first."""
        creator = await of_pages(_creator, catalogue, caller, who)
        made = payees.account(
            data.rail, data.account, holder=data.holder, country_code=data.country, bic_code=data.bic
        )
        known = await of_pages(
            paying.enter,
            creator,
            made,
            minimum=data.minimum,
            by=_name(caller),
            verified=caller.role == "operator",
        )
        return account_row(known)

    @put("/payees/{who:str}/tax", guards=[requires(Action.EDIT_OWN_PAYEE)])
    async def tax(caller: NamedDependency[Principal], who: FromPath[str], data: JSONBody[TaxIn]) -> Row:
        """Declare for tax: a creator's waits for an operator's check, an operator's holds.

        What is withheld by it, the operator's own table says.
        """
        creator = await of_pages(_creator, catalogue, caller, who)
        where, start = payees.country(data.country), data.start or paying.today()
        profile = payees.TaxProfile(data.form, where, data.treaty_ppm, start, data.end)
        kept, given = paying.payees(_name(caller)), paying.declarations(_name(caller))
        act = given.give if caller.role == "creator" else kept.declare
        changed = await of_pages(act, creator, profile)
        known, last = await of_pages(kept.tax_profiles, creator), await of_pages(given.last, creator)
        row = {"creator": creator, "changed": changed, "tax_profiles": tax_rows(known)}
        return row | {"tax_given": declaration_row(last) if last else None}

    @put("/payees/{who:str}/tax-number", guards=[requires(Action.EDIT_OWN_PAYEE)])
    async def number(caller: NamedDependency[Principal], who: FromPath[str], data: JSONBody[NumberIn]) -> Row:
        """Keep a tax number, sealed; shown is its end."""
        creator = await of_pages(_creator, catalogue, caller, who)
        numbers = paying.tax_numbers(_name(caller))
        changed = await of_pages(numbers.enter, creator, data.number, data.country)
        where, last4 = await of_pages(numbers.known, creator) or ("", "")
        return {"creator": creator, "country": where, "last4": last4, "changed": changed}

    @get("/payouts", guards=[requires(Action.READ_OWN_PAYOUTS)])
    async def payments(
        caller: NamedDependency[Principal],
        creator: FromQuery[str] = ME,
        cursor: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 20,
    ) -> Row:
        """A creator's payments, newest first: what became of each, and why it came back."""
        found = await of_pages(_creator, catalogue, caller, creator)
        before = place_in(cursor)
        told = await of_pages(payouts_store.of_creator, engine, found, before=before, limit=limit + 1)
        return page_of(told, limit, told_row, lambda one: (one.created_us, one.batch))

    return (payee, account, tax, number, payments)


def _about_creators(paying: Paying, catalogue: Catalogue) -> Sequence[BaseRouteHandler]:
    """What operators say of creators."""
    operators = [requires(Action.OPERATE)]

    @post("/payees/{who:str}/verify", guards=operators, status_code=200)
    async def verify(
        caller: NamedDependency[Principal], who: FromPath[str], data: JSONBody[VersionIn]
    ) -> Row:
        """Say that you have checked whose account this version is."""
        creator = await of_pages(_creator, catalogue, caller, who)
        changed = await of_pages(paying.payees(_name(caller)).verify, creator, data.version)
        return {"creator": creator, "version": data.version, "verified": True, "changed": changed}

    async def _hold(caller: Principal, who: str, reason: str, *, held: bool) -> Row:
        creator = await of_pages(_creator, catalogue, caller, who)
        kept = paying.payees(_name(caller))
        changed = await of_pages(kept.hold, creator, reason, held=held)
        return {"creator": creator, "held": held, "changed": changed}

    @post("/payees/{who:str}/hold", guards=operators, status_code=200)
    async def hold(caller: NamedDependency[Principal], who: FromPath[str], data: JSONBody[ReasonIn]) -> Row:
        """Pay a creator nothing until they are released; they read the reason."""
        return await _hold(caller, who, data.reason, held=True)

    @post("/payees/{who:str}/release", guards=operators, status_code=200)
    async def release(
        caller: NamedDependency[Principal], who: FromPath[str], data: JSONBody[ReasonIn]
    ) -> Row:
        """Let a creator be paid again."""
        return await _hold(caller, who, data.reason, held=False)

    @get("/payees", guards=operators)
    async def waiting(
        cursor: FromQuery[str] = "", limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 100
    ) -> Row:
        """Accounts and tax declarations that creators gave and that nobody has checked yet."""
        page, following = await of_pages(paying.to_check, _id(cursor), limit)
        return {"items": check_rows(page), "next_cursor": following}

    @post("/payees/{who:str}/tax/check", guards=operators, status_code=200)
    async def check(caller: NamedDependency[Principal], who: FromPath[str], data: JSONBody[CheckIn]) -> Row:
        """Accept what a creator declared for tax, or refuse it; they read why."""
        creator = await of_pages(_creator, catalogue, caller, who)
        given = paying.declarations(_name(caller))
        changed = await of_pages(given.check, creator, data.version, why=data.refuse)
        state = "refused" if data.refuse else "accepted"
        return {"creator": creator, "version": data.version, "state": state, "changed": changed}

    return (waiting, verify, hold, release, check)


def _of_batches(engine: sa.Engine, paying: Paying) -> Sequence[BaseRouteHandler]:
    """What operators do with batches."""
    operators = [requires(Action.OPERATE)]

    @post("/payouts/batches", guards=operators)
    async def create(
        caller: NamedDependency[Principal],
        data: JSONBody[BatchIn],
        key: Annotated[str, HeaderParameter(name="Idempotency-Key")] = "",
    ) -> Response[Row]:
        """Propose to pay everybody who can be paid today: 201 for a new batch, 200 for one that is open."""
        batch, is_new = await of_pages(
            paying.propose, data.rail, by=_name(caller), dry_run=data.dry_run, key=key
        )
        kept = bool(batch.payments) and not data.dry_run
        events = (await of_pages(payouts_store.batch, engine, batch.id))[1] if kept else []
        body = await of_pages(_whole, paying, batch, events) | {"kept": kept, "new": is_new}
        return Response(body, status_code=201 if is_new else 200)

    @get("/payouts/batches", guards=operators)
    async def batches(
        cursor: FromQuery[str] = "", limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 20
    ) -> Row:
        """Batches, newest first."""
        found = await of_pages(payouts_store.batches, engine, before=place_in(cursor), limit=limit + 1)
        return page_of(found, limit, lambda one: batch_row(*one), lambda one: (one[0].created_us, one[0].id))

    @get("/payouts/batches/{batch:str}", guards=operators)
    async def one(batch: FromPath[str]) -> Row:
        """One batch with its payments, who is not paid by it and why, and all that happened to it."""
        return await of_pages(lambda: _whole(paying, *payouts_store.batch(engine, _id(batch))))

    @post("/payouts/batches/{batch:str}/approve", guards=operators, status_code=200)
    async def approve(caller: NamedDependency[Principal], batch: FromPath[str]) -> Row:
        """Approve what somebody else proposed: it leaves what creators are owed."""
        _, changed = await of_pages(paying.payouts(_name(caller)).approve, _id(batch))
        return {"id": batch, "state": "approved", "changed": changed}

    @post("/payouts/batches/{batch:str}/cancel", guards=operators, status_code=200)
    async def cancel(
        caller: NamedDependency[Principal], batch: FromPath[str], data: JSONBody[ReasonIn]
    ) -> Row:
        """Take back a batch of which no file was written."""
        changed = await of_pages(paying.payouts(_name(caller)).cancel, _id(batch), data.reason)
        return {"id": batch, "state": "cancelled", "changed": changed}

    @post("/payouts/batches/{batch:str}/export", guards=operators, status_code=200)
    async def export(caller: NamedDependency[Principal], batch: FromPath[str]) -> Response[bytes]:
        """The file for the bank: XML for SEPA, CSV else; again, the same bytes."""
        found, content = await of_pages(paying.export, _id(batch), by=_name(caller))
        suffix = payout_files.SUFFIXES[found.rail]
        return Response(
            content,
            media_type="application/xml" if suffix == "xml" else "text/csv; charset=utf-8",
            headers={
                "content-disposition": f'attachment; filename="{payout_files.message_id(found)}.{suffix}"',
                "x-content-type-options": "nosniff",
                "digest": "sha-256=" + base64.b64encode(hashlib.sha256(content).digest()).decode(),
            },
        )

    @post("/payouts/batches/{batch:str}/settle", guards=operators, status_code=200)
    async def settle(
        caller: NamedDependency[Principal], batch: FromPath[str], data: JSONBody[SettleIn]
    ) -> Row:
        """Book what the bank did, in one go."""
        acts = paying.payouts(_name(caller))
        why = {one.payment: one.reason for one in data.returned}
        paid, back = await of_pages(acts.answer, _id(batch), paid=data.payments, returned=why, ref=data.ref)
        return {"id": batch, "settled": [one.id for one in paid], "returned": [one.id for one in back]}

    @post("/payouts/payments/{payment:str}/return", guards=operators, status_code=200)
    async def give_back(
        caller: NamedDependency[Principal], payment: FromPath[str], data: JSONBody[GivenBackIn]
    ) -> Row:
        """Book that a payment was refused or came back: all of it is owed to its creator again."""
        changed = await of_pages(
            paying.give_back,
            _id(payment),
            by=_name(caller),
            reason=data.reason,
            code=data.code,
            amount=data.amount,
        )
        return {"payment": payment, "state": "returned", "changed": changed}

    return (create, batches, one, approve, cancel, export, settle, give_back)


def _name(caller: Principal) -> str:
    """Who acts: a creator by their id, an operator by the name of their key."""
    return caller.creator_id or caller.name or caller.key_id


def _creator(catalogue: Catalogue, caller: Principal, who: str) -> str:
    """Return the id of the creator who is meant; for a creator nobody exists but themselves."""
    if caller.role == "creator":
        if who not in {ME, caller.creator_id}:
            raise NotFound(f"there is no creator '{who}'", remedy="`me` is you")
        return caller.creator_id
    if who == ME:
        raise BadRequest("an operator is no creator", remedy="name one, by id or ref", code="creator")
    return catalogue.creator(_id(who)).id


def _id(name: str) -> str:
    """A name from a path. Raises NotFound for one that no store could hold."""
    if not name.isprintable() or len(name) > NAME_CHARACTERS_MAX:
        raise NotFound("there is nothing of this name", remedy="take an id as it was given")
    return name


def _whole(paying: Paying, batch: Batch, events: Sequence[Event]) -> Row:
    return batch_row(batch, events) | {
        "payment_rows": payment_rows(batch, events, paying.accounts(batch)),
        "unpaid_rows": unpaid_rows(batch),
        "events": event_rows(events),
    }
