"""`/api` for comments, corrections and disputes: creators about what is theirs, operators about everything.

A creator comments on her own draft statements, disputes lines of her own, answers what was opened about her
money, and reads corrections of her account; what is not hers is answered like what does not exist. The rest
is the operators': who acts is the key's name, or its id where it has none. Ids are hashes of what is said, so
every POST may be sent again and does nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Response, Router, get, post
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.billing import adjustments_store
from proxy.billing.adjustments_store import Adjustments
from proxy.billing.disputes import HoldWhat, Part
from proxy.billing.disputes_store import Disputes
from proxy.billing.matter_rows import Row, adjustment_row, case_row, comment_row
from proxy.billing.periods_store import Comments
from proxy.clock import Clock
from proxy.errors import NotFound
from proxy.portal.cursors import page_of, place_in
from proxy.settings import Billing

if TYPE_CHECKING:
    import sqlalchemy as sa

READERS = [requires(Action.READ_OWN_STATEMENTS)]
OPERATORS = [requires(Action.OPERATE)]
PAGE_MAX = 100  # a dispute is told with all that was said about it


class TextIn(msgspec.Struct, forbid_unknown_fields=True):
    """What is said."""

    text: str


class ReasonIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why."""

    reason: str


class DisputeIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which lines of a statement are disputed: those named, those of a work, or all; whose money waits."""

    statement: str
    reason: str
    work: str = ""
    lines: list[int] = []
    hold: HoldWhat = "own"


class SettleIn(msgspec.Struct, forbid_unknown_fields=True):
    """Where what is held goes: "holder", "common" or a creator's id, in ppm that make the whole."""

    parts: list[Part]
    reason: str


class AdjustmentIn(msgspec.Struct, forbid_unknown_fields=True):
    """What is corrected: grains to the creator, negative to take; other: common:P:R, app:A or platform."""

    corrects: str
    creator: str
    currency: str
    amount_grains: int
    other: str
    reason: str


def matters_router(engine: sa.Engine, billing: Billing, clock: Clock) -> Router:
    """Return /api/statements/{id}/comments, /api/comments, /api/disputes and /api/adjustments."""
    return Router(
        "/api",
        route_handlers=[
            *_of_comments(engine, clock),
            *_of_disputes(engine, billing, clock),
            *_of_adjustments(engine, clock),
        ],
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


def _of_comments(engine: sa.Engine, clock: Clock) -> Sequence[BaseRouteHandler]:
    def of(caller: Principal) -> Comments:
        return Comments(engine, clock=clock, creator=caller.creator_id, by=_name(caller))

    @get("/statements/{statement:str}/comments", guards=READERS)
    async def said(caller: NamedDependency[Principal], statement: FromPath[str]) -> Row:
        """What was said about a statement, oldest first."""
        found = await of_pages(of(caller).of, statement)
        shown = [comment_row(one) for one in found]
        if caller.creator_id:
            shown = [row | {"by": row["side"]} for row in shown]
        return {"items": shown}

    @post("/statements/{statement:str}/comments", guards=READERS)
    async def say(
        caller: NamedDependency[Principal], statement: FromPath[str], data: JSONBody[TextIn]
    ) -> Response[Row]:
        """Comment on one's own statement while it is a draft; an operator answers."""
        one, is_new = await of_pages(of(caller).say, statement, data.text)
        return Response(comment_row(one) | {"new": is_new}, status_code=201 if is_new else 200)

    @get("/comments", guards=OPERATORS)
    async def waiting(
        caller: NamedDependency[Principal],
        cursor: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 50,
    ) -> Row:
        """Comments that wait for an answer, the oldest first."""
        found = await of_pages(of(caller).waiting, after=place_in(cursor), limit=limit + 1)
        return page_of(found, limit, comment_row, lambda one: (one.at_us, one.statement))

    return (said, say, waiting)


def _of_disputes(engine: sa.Engine, billing: Billing, clock: Clock) -> Sequence[BaseRouteHandler]:
    def of(caller: Principal) -> Disputes:
        return Disputes(engine, clock=clock, creator=caller.creator_id, by=_name(caller))

    def shown(caller: Principal, case_id: str) -> Row:
        return case_row(*of(caller).case(case_id), clock.now_us())

    @get("/disputes", guards=READERS)
    async def cases(
        caller: NamedDependency[Principal],
        cursor: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 50,
        *,
        open_only: FromQuery[bool] = False,
    ) -> Row:
        """Disputes about one's own statements or money, or everybody's for an operator, newest first."""
        now_us, before = clock.now_us(), place_in(cursor)
        found = await of_pages(of(caller).cases, open_only=open_only, before=before, limit=limit + 1)
        return page_of(
            found, limit, lambda one: case_row(*one, now_us), lambda one: (one[0].opened_us, one[0].id)
        )

    @get("/disputes/{case:str}", guards=READERS)
    async def one(caller: NamedDependency[Principal], case: FromPath[str]) -> Row:
        """One dispute with everything that was said."""
        return await of_pages(shown, caller, case)

    @post("/disputes", guards=READERS)
    async def open_case(caller: NamedDependency[Principal], data: JSONBody[DisputeIn]) -> Response[Row]:
        """Dispute lines of a statement; what they paid and is still owed waits, as `hold` says."""
        case, is_new = await of_pages(
            of(caller).open,
            data.statement,
            data.reason,
            work=data.work,
            lines=data.lines,
            hold=data.hold,
            answer_days=billing.answer_days,
        )
        row = await of_pages(shown, caller, case.id)
        return Response(row | {"new": is_new}, status_code=201 if is_new else 200)

    @post("/disputes/{case:str}/answer", guards=READERS, status_code=200)
    async def answer(caller: NamedDependency[Principal], case: FromPath[str], data: JSONBody[TextIn]) -> Row:
        """Answer a dispute that somebody else opened, once."""
        _, is_new = await of_pages(of(caller).answer, case, data.text)
        return await of_pages(shown, caller, case) | {"new": is_new}

    @post("/disputes/{case:str}/withdraw", guards=READERS, status_code=200)
    async def withdraw(
        caller: NamedDependency[Principal], case: FromPath[str], data: JSONBody[ReasonIn]
    ) -> Row:
        """Take back what one opened; all that it holds is owed again."""
        _, changed = await of_pages(of(caller).withdraw, case, data.reason)
        return await of_pages(shown, caller, case) | {"changed": changed}

    @post("/disputes/{case:str}/settle", guards=OPERATORS, status_code=200)
    async def settle(
        caller: NamedDependency[Principal], case: FromPath[str], data: JSONBody[SettleIn]
    ) -> Row:
        """Divide what a dispute holds, once."""
        _, changed = await of_pages(of(caller).settle, case, data.parts, data.reason)
        return await of_pages(shown, caller, case) | {"changed": changed}

    return (cases, one, open_case, answer, withdraw, settle)


def _of_adjustments(engine: sa.Engine, clock: Clock) -> Sequence[BaseRouteHandler]:
    def of(caller: Principal) -> Adjustments:
        return Adjustments(engine, clock=clock, by=_name(caller))

    def shown(adjustment: str) -> Row:
        return adjustment_row(*adjustments_store.adjustment(engine, adjustment))

    @get("/adjustments", guards=READERS)
    async def listed(
        caller: NamedDependency[Principal],
        cursor: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 50,
    ) -> Row:
        """Corrections of one's own account, or everybody's for an operator, newest first."""
        who, before = caller.creator_id, place_in(cursor)
        found = await of_pages(adjustments_store.listed, engine, creator=who, before=before, limit=limit + 1)
        return page_of(
            found,
            limit,
            lambda one: _for(caller, adjustment_row(*one)),
            lambda one: (one[0].proposed_us, one[0].id),
        )

    @get("/adjustments/{adjustment:str}", guards=READERS)
    async def one(caller: NamedDependency[Principal], adjustment: FromPath[str]) -> Row:
        """One correction with what happened to it."""
        row = await of_pages(shown, adjustment)
        if caller.creator_id and row["creator"] != caller.creator_id:
            raise NotFound(f"no adjustment {adjustment}", remedy="`endcredits adjustments list` shows them")
        return _for(caller, row)

    @post("/adjustments", guards=OPERATORS)
    async def propose(caller: NamedDependency[Principal], data: JSONBody[AdjustmentIn]) -> Row:
        """Correct what a closed period booked; what takes waits for another person's approval."""
        made, _ = await of_pages(
            of(caller).propose,
            corrects=data.corrects,
            creator=data.creator,
            currency=data.currency,
            grains=data.amount_grains,
            other=data.other,
            reason=data.reason,
        )
        return await of_pages(shown, made.id)

    @post("/adjustments/{adjustment:str}/approve", guards=OPERATORS, status_code=200)
    async def approve(caller: NamedDependency[Principal], adjustment: FromPath[str]) -> Row:
        """Book what takes from a creator and was proposed by somebody else."""
        _, changed = await of_pages(of(caller).approve, adjustment)
        return await of_pages(shown, adjustment) | {"changed": changed}

    @post("/adjustments/{adjustment:str}/reject", guards=OPERATORS, status_code=200)
    async def reject(
        caller: NamedDependency[Principal], adjustment: FromPath[str], data: JSONBody[ReasonIn]
    ) -> Row:
        """Say that it is not booked."""
        changed = await of_pages(of(caller).reject, adjustment, data.reason)
        return await of_pages(shown, adjustment) | {"changed": changed}

    return (listed, one, propose, approve, reject)


def _name(caller: Principal) -> str:
    return caller.name or caller.key_id


def _for(caller: Principal, row: Row) -> dict[str, Any]:
    """A creator reads what was corrected and why, not which operators did it."""
    if not caller.creator_id:
        return row
    return row | {
        "proposed_by": "operator",
        "events": [event | {"by": "operator"} for event in row["events"]],
    }
