"""What operators do with money, on pages: rules and prices, periods, payouts, disputes and comments.

What is done here is done by the functions behind /api, two people where those want two. Each step that books
something is shown before it is done, and leads to the page that shows that it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from proxy.access.keys import Principal
from proxy.asking import of_pages
from proxy.billing import payout_files, payouts_store, periods_store, policies_store
from proxy.billing.compensation_rows import policy_row, rules_row
from proxy.billing.declarations_store import WHY
from proxy.billing.disputes import Part
from proxy.billing.matter_rows import case_row, comment_row
from proxy.billing.money import PPM
from proxy.billing.payees import Rail
from proxy.billing.payout_answers import WORDS
from proxy.billing.payout_rows import batch_row, check_rows, event_rows, payment_rows, unpaid_rows
from proxy.billing.payouts import Batch
from proxy.billing.policies_store import Policies
from proxy.billing.prices import PriceTable
from proxy.clock import iso_utc, parse_time_us
from proxy.errors import BadRequest
from proxy.portal.closing import Closer
from proxy.portal.creators import Office, cases_page
from proxy.portal.operators import OPERATORS, name_of, named
from proxy.portal.pages import AnyRequest
from proxy.portal.previews import Asked, Previewer
from proxy.portal.rulebook import changed, told_rules

BATCHES_SHOWN: Final = 50
CHECKS_SHOWN: Final = 50
MATTERS_SHOWN: Final = 20  # comments, each with its form, and disputes, each with all that was said
CODES: Final = (("", "None that is listed"), *((code, f"{code}: {said}") for code, said in WORDS.items()))
DIFFERENCES_SHOWN: Final = 20
DONE: Final[Mapping[str, str]] = {
    "active": "The policy holds from that time on.",
    "closed": "The month is closed. Its statements are drafts, and creators may comment on them.",
    "proposed": "The batch is proposed. Somebody else approves it.",
    "approved": "The batch is approved: it has left what creators are owed. Write its file next.",
    "cancelled": "The batch is cancelled; everything in it is owed again.",
    "paid": "The payments are booked as made.",
    "returned": "The payment is booked back: all of it is owed to its creator again.",
    "checked": "It is checked, and counts from now on.",
    "refused": "It does not count. Its creator reads why.",
    "answered": "Your answer is kept.",
    "settled": "The dispute is settled.",
}


def desk_pages(office: Office, prices: PriceTable) -> Sequence[BaseRouteHandler]:
    """Return the handlers of operators' pages about money."""
    money = (*_payouts(office), *_singly(office), *_matters(office))
    return (*_rules(office, prices), *_periods(office), *money)


def _rules(office: Office, prices: PriceTable) -> Sequence[BaseRouteHandler]:
    pages, engine, billing = office.pages, office.engine, office.settings.billing
    previewer = Previewer(office.settings)

    @get("/desk/rules", guards=OPERATORS)
    async def rules(request: AnyRequest, done: FromQuery[str] = "") -> Response[bytes]:
        """Policies with what they would change, and prices by version."""

        def read() -> dict[str, Any]:
            style = pages.style(request)
            in_force = rules_row(policies_store.agenda(engine, billing).at(office.clock.now_us()))
            flat = _flat(in_force)
            known = policies_store.policies(engine)
            return {
                "in_force": in_force,
                "rules": told_rules(flat, style),
                "policies": [
                    policy_row(one) | {"changes": changed(flat, _flat(rules_row(one.policy)), style)}
                    for one in known
                ],
                "periods": [one.label for one in periods_store.summaries(engine, office.clock.now_us())],
                "prices": [
                    {"version": one.version, "currency": one.currency, "from_us": one.effective_from_us,
                     "models": len(one.models)}
                    for one in reversed(prices.lists)
                ],
            }  # fmt: skip

        known = await of_pages(read)
        return pages.page(request, "rules.html.jinja", done=DONE.get(done, ""), **known)

    @post("/desk/rules/{policy:str}/preview", guards=OPERATORS, status_code=200)
    async def preview(request: AnyRequest, policy: FromPath[str]) -> Response[bytes]:
        """Say what a period would have paid by it; nothing is written."""
        period = str((await request.form()).get("period", "")).strip()
        found = await previewer.preview(Asked(period=period, policy=policy, limit=DIFFERENCES_SHOWN))
        named = await of_pages(policies_store.policy, engine, policy)
        return pages.page(request, "preview.html.jinja", found=found, name=named.name)

    @post("/desk/rules/{policy:str}/activate", guards=OPERATORS)
    async def activate(
        request: AnyRequest, caller: NamedDependency[Principal], policy: FromPath[str]
    ) -> Response[Any]:
        """Let a policy hold from a day on."""
        since = str((await request.form()).get("since", "")).strip()
        try:
            from_us = parse_time_us(since) if since else None
        except ValueError as error:
            raise BadRequest("this is no day", remedy="write it like 2026-12-01") from error
        desk = Policies(engine, clock=office.clock, by=name_of(caller), currency=billing.currency)
        await of_pages(desk.activate, policy, from_us)
        return Redirect("/portal/desk/rules?done=active", status_code=303)

    return (rules, preview, activate)


def _flat(rules: Mapping[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] | None = rules.get("rules")
    return dict(inner) if inner is not None else {k: v for k, v in rules.items() if k != "id"}


def _periods(office: Office) -> Sequence[BaseRouteHandler]:
    pages, closer = office.pages, Closer(office.settings)

    def listed() -> list[dict[str, Any]]:
        now_us, until = office.clock.now_us(), periods_store.windows(office.engine)
        return [
            {"label": one.label, "state": one.state, "currency": one.currency,
             "closed": iso_utc(one.closed_us), "statements": one.statements, "totals": one.totals,
             "until": until.get(one.label, 0)}
            for one in periods_store.summaries(office.engine, now_us)
        ]  # fmt: skip

    async def shown(request: AnyRequest, **known: Any) -> Response[bytes]:
        rows = await of_pages(listed)
        told: dict[str, Any] = {"periods": rows, "label": "", "found": None, "done": ""} | known
        return pages.page(request, "periods.html.jinja", **told)

    @get("/desk/periods", guards=OPERATORS)
    async def periods(request: AnyRequest, done: FromQuery[str] = "") -> Response[bytes]:
        """Closed periods, and the first step of closing another."""
        return await shown(request, label=iso_utc(office.clock.now_us())[:7], done=DONE.get(done, ""))

    @post("/desk/periods/preview", guards=OPERATORS)
    async def preview(request: AnyRequest) -> Response[bytes]:
        """Say what closing would book; nothing is written."""
        label = str((await request.form()).get("label", "")).strip()
        return await shown(request, label=label, found=await closer.close(label, dry_run=True))

    @post("/desk/periods/close", guards=OPERATORS)
    async def close(request: AnyRequest) -> Response[Any]:
        """Close it, when that was said twice."""
        form = await request.form()
        if form.get("sure") != "yes":
            raise BadRequest("a closed period stays closed", remedy="tick the box that says that you looked")
        await closer.close(str(form.get("label", "")).strip(), dry_run=False)
        return Redirect("/portal/desk/periods?done=closed", status_code=303)

    return (periods, preview, close)


def _payouts(office: Office) -> Sequence[BaseRouteHandler]:
    pages, engine, paying = office.pages, office.engine, office.paying

    @get("/desk/payouts", guards=OPERATORS)
    async def batches(request: AnyRequest, done: FromQuery[str] = "") -> Response[bytes]:
        """Batches, newest first, and the first step of another."""
        found = await of_pages(payouts_store.batches, engine, before=None, limit=BATCHES_SHOWN)
        rows = [batch_row(batch, events) for batch, events in found]
        waiting, more = await of_pages(paying.to_check, limit=CHECKS_SHOWN)
        people = await of_pages(named, office, {one.creator for one in waiting})
        known: dict[str, Any] = {"batches": rows, "rails": paying.rails(), "done": DONE.get(done, "")}
        known |= {
            "waiting": check_rows(waiting),
            "people": people,
            "more": more is not None,
            "why": list(WHY.items()),
        }
        return pages.page(request, "payouts.html.jinja", **known)

    @post("/desk/payouts", guards=OPERATORS)
    async def propose(request: AnyRequest, caller: NamedDependency[Principal]) -> Response[Any]:
        """Show who would be paid and who not; or propose it."""
        form = await request.form()
        rail: Rail | None = next((one for one in paying.rails() if one == form.get("rail")), None)
        if rail is None:
            raise BadRequest("this way of paying is not offered here", remedy="choose one of the list")
        dry_run = form.get("step") != "propose"
        batch, _ = await of_pages(paying.propose, rail, by=name_of(caller), dry_run=dry_run)
        if dry_run or not batch.payments:
            known: dict[str, Any] = {
                "batch": batch_row(batch, []),
                "people": await of_pages(named, office, _creators(batch)),
                "payments": payment_rows(batch, []),
                "unpaid": unpaid_rows(batch),
                "events": [],
                "dry_run": True,
                "done": "",
            }
            return pages.page(request, "batch.html.jinja", **known)
        return Redirect(f"/portal/desk/payouts/{batch.id}?done=proposed", status_code=303)

    @get("/desk/payouts/{batch:str}", guards=OPERATORS)
    async def one(request: AnyRequest, batch: FromPath[str], done: FromQuery[str] = "") -> Response[bytes]:
        """One batch with its payments and all that happened to it."""

        def read() -> dict[str, Any]:
            found, events = payouts_store.batch(engine, batch)
            return {
                "batch": batch_row(found, events),
                "people": named(office, _creators(found)),
                "payments": payment_rows(found, events, paying.accounts(found)),
                "unpaid": unpaid_rows(found),
                "events": event_rows(events),
            }

        known = await of_pages(read)
        known |= {"done": DONE.get(done, ""), "codes": CODES}
        return pages.page(request, "batch.html.jinja", dry_run=False, **known)

    @post("/desk/payouts/{batch:str}/approve", guards=OPERATORS)
    async def approve(caller: NamedDependency[Principal], batch: FromPath[str]) -> Response[Any]:
        """Approve what somebody else proposed."""
        await of_pages(paying.payouts(name_of(caller)).approve, batch)
        return Redirect(f"/portal/desk/payouts/{batch}?done=approved", status_code=303)

    @post("/desk/payouts/{batch:str}/cancel", guards=OPERATORS)
    async def cancel(
        request: AnyRequest, caller: NamedDependency[Principal], batch: FromPath[str]
    ) -> Response[Any]:
        """Take back a batch of which no file was written."""
        reason = str((await request.form()).get("reason", ""))
        await of_pages(paying.payouts(name_of(caller)).cancel, batch, reason)
        return Redirect(f"/portal/desk/payouts/{batch}?done=cancelled", status_code=303)

    @post("/desk/payouts/{batch:str}/export", guards=OPERATORS)
    async def export(caller: NamedDependency[Principal], batch: FromPath[str]) -> Response[bytes]:
        """The file for the bank."""
        found, content = await of_pages(paying.export, batch, by=name_of(caller))
        suffix = payout_files.SUFFIXES[found.rail]
        name = f"{payout_files.message_id(found)}.{suffix}"
        media_type = "application/xml" if suffix == "xml" else "text/csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=media_type, headers=headers)

    @post("/desk/payouts/{batch:str}/paid", guards=OPERATORS)
    async def paid(
        request: AnyRequest, caller: NamedDependency[Principal], batch: FromPath[str]
    ) -> Response[Any]:
        """Book that the bank paid all of it that is on its way."""
        ref = str((await request.form()).get("ref", ""))
        acts = paying.payouts(name_of(caller))
        await of_pages(acts.answer, batch, paid=None, returned={}, ref=ref)
        return Redirect(f"/portal/desk/payouts/{batch}?done=paid", status_code=303)

    return (batches, propose, one, approve, cancel, export, paid)


def _singly(office: Office) -> Sequence[BaseRouteHandler]:
    """What is said of one payment, or of what one creator gave."""
    paying = office.paying

    @post("/desk/payouts/{batch:str}/returned", guards=OPERATORS)
    async def returned(
        request: AnyRequest, caller: NamedDependency[Principal], batch: FromPath[str]
    ) -> Response[Any]:
        """Book that one payment was refused or came back, by the amount that did."""
        form = await request.form()
        said = {name: str(form.get(name, "")).strip() for name in ("payment", "amount", "code", "reason")}
        if not said["amount"]:
            raise BadRequest("the amount is missing", remedy="write what came back, as the bank says it")
        await of_pages(paying.give_back, said.pop("payment"), by=name_of(caller), **said)
        return Redirect(f"/portal/desk/payouts/{batch}?done=returned", status_code=303)

    @post("/desk/payees/{creator:str}/account", guards=OPERATORS)
    async def account(
        request: AnyRequest, caller: NamedDependency[Principal], creator: FromPath[str]
    ) -> Response[Any]:
        """Say that one has checked with a creator whose account it is."""
        kept, version = paying.payees(name_of(caller)), _version(await request.form())
        await of_pages(kept.verify, creator, version)
        return Redirect("/portal/desk/payouts?done=checked", status_code=303)

    @post("/desk/payees/{creator:str}/tax", guards=OPERATORS)
    async def tax(
        request: AnyRequest, caller: NamedDependency[Principal], creator: FromPath[str]
    ) -> Response[Any]:
        """Accept what a creator declared for tax, or say why not."""
        form = await request.form()
        given, why = paying.declarations(name_of(caller)), str(form.get("why", ""))
        await of_pages(given.check, creator, _version(form), why=why)
        return Redirect(f"/portal/desk/payouts?done={'refused' if why else 'checked'}", status_code=303)

    return (returned, account, tax)


def _creators(batch: Batch) -> set[str]:
    return {one.creator for one in batch.payments} | {one.creator for one in batch.unpaid}


def _version(form: Mapping[str, Any]) -> int:
    said = str(form.get("version", ""))
    if not (said.isascii() and said.isdecimal() and len(said) <= 6):
        raise BadRequest("no version is named", remedy="use the form of the page")
    return int(said)


def _matters(office: Office) -> Sequence[BaseRouteHandler]:
    pages = office.pages

    @get("/desk/matters", guards=OPERATORS)
    async def matters(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        before: FromQuery[str] = "",
        done: FromQuery[str] = "",
    ) -> Response[bytes]:
        """Disputes, and comments that wait for an answer."""

        def read() -> dict[str, Any]:
            cases = cases_page(office, caller, before, MATTERS_SHOWN)
            comments = office.comments(caller).waiting(limit=MATTERS_SHOWN + 1)
            who = {one["creator"] for one in cases["items"]} | {one.by for one in comments}
            return {
                "cases": cases["items"],
                "following": cases["next_cursor"],
                "comments": [comment_row(one) for one in comments[:MATTERS_SHOWN]],
                "more": len(comments) > MATTERS_SHOWN,
                "labels": periods_store.periods_of(office.engine, [one.statement for one in comments]),
                "people": named(office, who),
            }

        known = await of_pages(read)
        return pages.page(request, "desk-matters.html.jinja", before=before, done=DONE.get(done, ""), **known)

    @get("/desk/matters/{case:str}", guards=OPERATORS)
    async def matter(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        case: FromPath[str],
        done: FromQuery[str] = "",
    ) -> Response[bytes]:
        """One dispute with all that was said."""
        found = await of_pages(office.disputes(caller).case, case)
        row = case_row(*found, office.clock.now_us())
        who = {row["opened_by"], *(one["by"] for one in row["events"])}
        known: dict[str, Any] = {"people": await of_pages(named, office, who), "done": DONE.get(done, "")}
        return pages.page(request, "desk-matter.html.jinja", case=row, **known)

    @post("/desk/matters/{case:str}/answer", guards=OPERATORS)
    async def answer(
        request: AnyRequest, caller: NamedDependency[Principal], case: FromPath[str]
    ) -> Response[Any]:
        """Answer a dispute."""
        text = str((await request.form()).get("text", ""))
        found, _ = await of_pages(office.disputes(caller).answer, case, text)
        return Redirect(f"/portal/desk/matters/{found.id}?done=answered", status_code=303)

    @post("/desk/matters/{case:str}/settle", guards=OPERATORS)
    async def settle(
        request: AnyRequest, caller: NamedDependency[Principal], case: FromPath[str]
    ) -> Response[Any]:
        """Say where what a dispute holds goes, once."""
        form = await request.form()
        to = str(form.get("to", "")).strip()
        parts, reason = [Part(to=to, ppm=PPM)], str(form.get("reason", ""))
        found, _ = await of_pages(office.disputes(caller).settle, case, parts, reason)
        return Redirect(f"/portal/desk/matters/{found.id}?done=settled", status_code=303)

    @post("/desk/comments/{statement:str}", guards=OPERATORS)
    async def reply(
        request: AnyRequest, caller: NamedDependency[Principal], statement: FromPath[str]
    ) -> Response[Any]:
        """Answer a comment on a draft."""
        text = str((await request.form()).get("text", ""))
        await of_pages(office.comments(caller).say, statement, text)
        return Redirect("/portal/desk/matters?done=answered", status_code=303)

    return (matters, matter, answer, settle, reply)
