"""`/api/policies`, `/api/pools`, `/api/common`, `/api/terms`: by which rules use becomes money, over HTTP.

Rules are published: whoever holds a key reads every policy and what stands in the common account, because a
statement names the policies it was made by and can be computed again. What an app declared is for that app
and for operators. A creator says what their own works ask for, and reads what they said. The rest is the
operators', two of them where one declares or proposes and another approves: who acts is the key's name, or
its id where it has none.

Every POST may be sent again: what is done stays done. `Idempotency-Key` names a declaration that is to be
made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from proxy.access.guards import provide_principal, requires, requires_role
from proxy.access.keys import ROLES, Action, Principal
from proxy.asking import of_pages
from proxy.billing import common_store, policies_store, pools_store
from proxy.billing.common_store import Common
from proxy.billing.compensation_rows import (
    activation_row,
    carried_rows,
    policy_row,
    proposal_row,
    revenue_row,
    rules_row,
    term_row,
)
from proxy.billing.floors import OWN_KINDS
from proxy.billing.floors_store import AskedTerms, Scope, asked_terms, is_owner
from proxy.billing.policies import policy_of
from proxy.billing.policies_store import Policies
from proxy.billing.pools_store import Pools
from proxy.clock import Clock, Ids, parse_time_us
from proxy.errors import BadRequest, Forbidden, NotFound
from proxy.settings import Billing

if TYPE_CHECKING:
    import sqlalchemy as sa

Row = dict[str, Any]
PAGE_MAX = 500
OPERATORS = [requires(Action.OPERATE)]
ANYBODY = [requires_role(*ROLES)]


class PolicyIn(msgspec.Struct, forbid_unknown_fields=True):
    """A policy: a name, and keys of [billing] in `rules`."""

    name: str
    rules: Row = {}


class ActivateIn(msgspec.Struct, forbid_unknown_fields=True):
    """From when on a policy holds, now where it is empty."""

    since: str = msgspec.field(name="from", default="")


class RevenueIn(msgspec.Struct, forbid_unknown_fields=True):
    """What an app earned in a period. amount: decimal text in the books' currency."""

    app: str
    period: str
    amount: str
    kind: Literal["subscription", "ads", "other"] = "subscription"
    users: int | None = None
    why: str = ""


class DistributeIn(msgspec.Struct, forbid_unknown_fields=True):
    """What to propose."""

    period: str
    dry_run: bool = False


class TermIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a work asks for, or all works of a creator: an amount for a whole answer, words, or "none"."""

    kind: Literal["floor", "rate", "excerpt_words"]
    value: str
    work: str = ""
    creator: str = ""
    why: str = ""


def compensation_router(engine: sa.Engine, billing: Billing, *, clock: Clock, ids: Ids) -> Router:
    """Return /api/policies, /api/pools, /api/common and /api/terms."""
    return Router(
        "/api",
        route_handlers=[
            *_policies(engine, billing, clock),
            *_pools(engine, billing, clock, ids),
            *_common(engine, billing, clock, ids),
            *_terms(engine, billing, clock),
        ],
        dependencies={"caller": Provide(provide_principal)},
    )


def _policies(engine: sa.Engine, billing: Billing, clock: Clock) -> Sequence[BaseRouteHandler]:
    def desk(caller: Principal) -> Policies:
        return Policies(engine, clock=clock, by=_name(caller), currency=billing.currency)

    @get("/policies", guards=ANYBODY)
    async def policies() -> Row:
        """Every policy with the times from which it holds, and the one in force now with its rules."""
        known = await of_pages(policies_store.policies, engine)
        agenda = await of_pages(policies_store.agenda, engine, billing)
        return {
            "items": [policy_row(one) for one in known],
            "in_force": rules_row(agenda.at(clock.now_us())),
        }

    @get("/policies/{policy:str}", guards=ANYBODY)
    async def policy(policy: FromPath[str]) -> Row:
        """One policy with all its rules."""
        return rules_row(await of_pages(policies_store.policy, engine, policy))

    @post("/policies", guards=OPERATORS)
    async def add(caller: NamedDependency[Principal], data: JSONBody[PolicyIn]) -> Response[Row]:
        """Keep a policy: 201 for a new one, 200 for one that is known."""
        made = policy_of(data.name, data.rules)
        is_new = await of_pages(desk(caller).add, made)
        return Response(rules_row(made) | {"added": is_new}, status_code=201 if is_new else 200)

    @post("/policies/{policy:str}/activate", guards=OPERATORS, status_code=200)
    async def activate(
        caller: NamedDependency[Principal], policy: FromPath[str], data: JSONBody[ActivateIn]
    ) -> Row:
        """Let a policy hold from now on, or from a later time on."""
        try:
            from_us = parse_time_us(data.since) if data.since else None
        except ValueError as error:
            raise BadRequest("`from` is not a time", remedy="write 2026-12-01T12:00Z") from error
        return activation_row(await of_pages(desk(caller).activate, policy, from_us))

    return (policies, policy, add, activate)


def _pools(engine: sa.Engine, billing: Billing, clock: Clock, ids: Ids) -> Sequence[BaseRouteHandler]:
    def desk(caller: Principal) -> Pools:
        return Pools(engine, clock=clock, ids=ids, by=_name(caller), currency=billing.currency)

    @get("/pools", guards=[requires(Action.READ_OWN_USAGE)])
    async def revenues(caller: NamedDependency[Principal], period: FromQuery[str] = "") -> Row:
        """What was declared: an app's own, or everybody's for an operator."""
        found = await of_pages(pools_store.revenues, engine, period, caller.app_id)
        return {"items": [revenue_row(one) for one in found]}

    @post("/pools", guards=OPERATORS)
    async def declare(
        caller: NamedDependency[Principal],
        data: JSONBody[RevenueIn],
        key: Annotated[str, HeaderParameter(name="Idempotency-Key")] = "",
    ) -> Row:
        """Declare what an app earned in a period that is not closed; another operator approves it."""
        made = await of_pages(
            desk(caller).declare,
            data.app,
            data.period,
            data.amount,
            kind=data.kind,
            users=data.users,
            why=data.why,
            key=key,
        )
        return revenue_row(made)

    @post("/pools/{revenue:str}/approve", guards=OPERATORS, status_code=200)
    async def approve(caller: NamedDependency[Principal], revenue: FromPath[str]) -> Row:
        """Approve what somebody else declared."""
        known, is_new = await of_pages(desk(caller).decide, revenue, "approved")
        return revenue_row(known) | {"new": is_new}

    @post("/pools/{revenue:str}/withdraw", guards=OPERATORS, status_code=200)
    async def withdraw(caller: NamedDependency[Principal], revenue: FromPath[str]) -> Row:
        """Take back what nobody has approved."""
        known, is_new = await of_pages(desk(caller).decide, revenue, "withdrawn")
        return revenue_row(known) | {"new": is_new}

    return (revenues, declare, approve, withdraw)


def _common(engine: sa.Engine, billing: Billing, clock: Clock, ids: Ids) -> Sequence[BaseRouteHandler]:
    def desk(caller: Principal) -> Common:
        return Common(engine, clock=clock, ids=ids, by=_name(caller))

    @get("/common", guards=ANYBODY)
    async def common() -> Row:
        """What stands in the common account, by reason, and every distribution of it."""
        carried = await of_pages(common_store.carried, engine, billing.currency)
        known = await of_pages(common_store.proposals, engine)
        return {
            "carried": carried_rows(carried, billing.currency),
            "distributions": [proposal_row(one) for one in known],
        }

    @post("/common/distributions", guards=OPERATORS)
    async def distribute(caller: NamedDependency[Principal], data: JSONBody[DistributeIn]) -> Response[Row]:
        """Propose to give out a closed period's common money by the rule of the policy in force."""
        proposal, is_new = await of_pages(desk(caller).propose, data.period, billing, dry_run=data.dry_run)
        return Response(proposal_row(proposal) | {"new": is_new}, status_code=201 if is_new else 200)

    @post("/common/distributions/{distribution:str}/approve", guards=OPERATORS, status_code=200)
    async def approve_distribution(caller: NamedDependency[Principal], distribution: FromPath[str]) -> Row:
        """Approve what somebody else proposed: it is booked."""
        known, is_new = await of_pages(desk(caller).decide, distribution, "approved")
        return proposal_row(known) | {"new": is_new}

    @post("/common/distributions/{distribution:str}/cancel", guards=OPERATORS, status_code=200)
    async def cancel_distribution(caller: NamedDependency[Principal], distribution: FromPath[str]) -> Row:
        """Cancel what nobody has approved."""
        known, is_new = await of_pages(desk(caller).decide, distribution, "cancelled")
        return proposal_row(known) | {"new": is_new}

    return (common, distribute, approve_distribution, cancel_distribution)


def _terms(engine: sa.Engine, billing: Billing, clock: Clock) -> Sequence[BaseRouteHandler]:
    @get("/terms", guards=[requires(Action.EDIT_OWN_WORKS)])
    async def terms(
        caller: NamedDependency[Principal],
        work: FromQuery[str] = "",
        cursor: FromQuery[int] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 100,
    ) -> Row:
        """What a work asked for, or a creator of all their works; everything, for an operator."""
        if caller.role == "creator" and work:
            await of_pages(_check_owner, engine, caller, work)
        found = await of_pages(
            asked_terms, engine, work or caller.creator_id, after_seq=cursor, limit=limit + 1
        )
        following = found[limit - 1].seq if len(found) > limit else None
        return {"items": [term_row(one) for one in found[:limit]], "next_cursor": following}

    @post("/terms", guards=[requires(Action.EDIT_OWN_WORKS)], status_code=200)
    async def ask(caller: NamedDependency[Principal], data: JSONBody[TermIn]) -> Row:
        """Ask for something from now on; a creator for their own works, a rate only an operator."""
        if data.work and data.creator:
            raise BadRequest("a work and a creator are named", remedy="name one of them", code="terms")
        scope: Scope = "work" if data.work else "creator"
        of = data.work or data.creator or caller.creator_id
        if caller.role == "creator":
            if data.kind not in OWN_KINDS:
                raise Forbidden("a rate is agreed, not asked for", remedy="agree on it with the operator")
            if scope == "work":
                await of_pages(_check_owner, engine, caller, of)
            elif of != caller.creator_id:
                raise NotFound(f"there is no creator '{of}'", remedy="leave `creator` out: it is you")
        desk = AskedTerms(engine, clock=clock, by=_name(caller), currency=billing.currency)
        return term_row(await of_pages(desk.ask, scope, of, data.kind, data.value, why=data.why))

    return (terms, ask)


def _check_owner(engine: sa.Engine, caller: Principal, work: str) -> None:
    if not is_owner(engine, work, caller.creator_id):
        raise NotFound(f"there is no work '{work}'", remedy="`endcredits works list` shows them")


def _name(caller: Principal) -> str:
    """Who acts: a creator by their id, an operator by the name of their key."""
    return caller.creator_id or caller.name or caller.key_id
