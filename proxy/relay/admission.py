"""What a key's holder may still ask: endpoints, models, rates and the budget, before a request goes up.

Rates are kept in memory, each worker its part of them, so that no request waits for the store. Budgets are
kept in the store, because money must not depend on how many workers there are: only apps that have one pay
the round trip. A request reserves the most it can cost and pays what it did cost. Where that cannot be
foreseen (no price for the model, a path that is not metered) the operator chose: `[access] unpriced`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.access.keys import Principal
from proxy.access.limits import Bucket, filled, full, given_back, month_of, share, take
from proxy.asking import of_store
from proxy.clock import Clock
from proxy.errors import BadRequest, Forbidden, Problem
from proxy.metering.usage import Used
from proxy.relay.needs import PriceOf
from proxy.settings import Settings
from proxy.wire import Asked, Endpoint
from proxy.wire.errors import WireError
from proxy.wire.models import claims_in, may_use, the_one_place

BYTES_PER_TOKEN = 4  # a guess for rates, which are settled by what was used
UNREAD = Asked("")  # one answer, of which nothing is known


class LimitReached(Problem):
    """An app asks for more than it may have now."""

    status, code = 429, "rate_limit_exceeded"

    def __init__(self, cause: str, *, remedy: str, wait_us: int = 0, code: str = "") -> None:
        super().__init__(cause, remedy=remedy, code=code)
        self.retry_after_s = -(-wait_us // 1_000_000)


class BudgetsLike(Protocol):
    """Where months are kept (access.limits_store.Budgets). Calls block; they raise Unavailable."""

    def reserve(
        self, hold_id: str, app_id: str, *, month: str, grains: int, budget_grains: int, now_us: int
    ) -> bool:
        """Hold grains; False when they do not fit."""
        ...

    def settle(self, hold_id: str, grains: int | None) -> bool:
        """Turn what is held into what it cost; None: all of it."""
        ...


@dataclass(frozen=True, slots=True)
class Reserved:
    """What one request holds until it is metered."""

    principal: Principal
    tokens: int = 0
    hold_id: str = ""


class Admission:
    """The limits of every app, as this worker keeps them."""

    def __init__(
        self, settings: Settings, *, clock: Clock, price_of: PriceOf, log: Any, budgets: BudgetsLike | None
    ) -> None:
        self._assumed = settings.access
        self._workers = settings.server.workers
        self._clock = clock
        self._price_of = price_of
        self._log = log
        self._budgets = budgets
        self._requests: dict[str, Bucket] = {}  # by app, as many as have a rate
        self._tokens: dict[str, Bucket] = {}
        self._settling: set[asyncio.Task[None]] = set()  # as many as answers that just ended

    def admit(self, principal: Principal, *, is_known: bool) -> None:
        """Count a request. Raises Forbidden for an endpoint not the app's, LimitReached for a rate."""
        limits = principal.limits
        if limits.known_endpoints_only and not is_known:
            raise Forbidden(
                "this app may use metered endpoints and the list of models only",
                remedy="ask the operator, who can lift it",
                code="endpoint_not_allowed",
            )
        if limits.requests_per_min:
            per_min = share(limits.requests_per_min, self._workers)
            self._requests[principal.app_id] = self._taken(
                self._requests.get(principal.app_id), per_min, 1, "requests"
            )

    def check_model(self, principal: Principal, body: bytes | None, content_type: bytes = b"") -> None:
        """Raise when a key with an allow-list asks for another model, or for one that cannot be read."""
        patterns = principal.limits.models
        if not patterns:
            return
        claims = claims_in(body, content_type) if body is not None else None
        if claims is None or claims.model is None:
            raise BadRequest(
                "this key may use only some models, and the model of this request cannot be read",
                remedy="name it in a JSON body or a form",
                code="invalid_request",
            )
        try:
            the_one_place(body or b"", content_type)
        except WireError as error:
            raise BadRequest(error.cause, remedy=error.remedy, code=error.code) from error
        if not may_use(claims.model, patterns):
            raise _model_not_allowed(claims.model)

    def check_named_model(self, principal: Principal, model: str | None) -> None:
        """Raise when a key with an allow-list names another model in an address, or none."""
        patterns = principal.limits.models
        if patterns and model is None:
            raise BadRequest(
                "this key may use only some models, and this address names none", remedy="add ?model=NAME"
            )
        if model is not None and not may_use(model, patterns):
            raise _model_not_allowed(model)

    def check_price(self, principal: Principal, models: Iterable[str]) -> None:
        """Raise Forbidden when an app with a budget asks for what has no price."""
        if principal.limits.budget_grains is not None:
            self._dearest(models, (0, 0, 0, 0), principal.limits.currency)

    async def reserve(
        self,
        principal: Principal,
        event_id: str,
        body: bytes,
        models: Iterable[str] = (),
        *,
        content_type: bytes = b"",
        asked: Asked = UNREAD,
    ) -> Reserved:
        """Hold what a metered request may use at most. models: what its backends call the model.

        asked: as its endpoint reads it, which may be of more answers than its `n`, of images or of video. How
        long sound is that is sent nobody knows before, so its seconds are not held, and paid all the same.

        Raises LimitReached, Forbidden for a price that cannot be known, Unavailable when the store is away.
        """
        limits = principal.limits
        if not limits.tokens_per_min and limits.budget_grains is None:
            return Reserved(principal)
        claims = claims_in(body, content_type)
        model = (claims.model if claims else None) or ""
        said = claims.output_tokens if claims else None
        choices = max(asked.choices, claims.choices if claims else 1)
        tokens = 0
        if limits.tokens_per_min:
            tokens = len(body) // BYTES_PER_TOKEN + (said or 0) * choices
            per_min = share(limits.tokens_per_min, self._workers)
            self._tokens[principal.app_id] = self._taken(
                self._tokens.get(principal.app_id), per_min, tokens, "tokens"
            )
        if limits.budget_grains is None:
            return Reserved(principal, tokens)
        most = (self._assumed.output_tokens_max if said is None else said) * choices
        try:
            # A token is a byte at least, so there are no more of them in the request than bytes.
            used = (len(body), most, asked.images, asked.milliseconds)
            grains = self._dearest({model, *models}, used, limits.currency)
            await self._hold(principal, event_id, grains)
        except BaseException:
            self._give_back(principal, tokens, 0)
            raise
        return Reserved(principal, tokens, event_id)

    async def reserve_unread(self, principal: Principal, event_id: str) -> None:
        """Ask whether a request that is not metered may pass: never when its app's budget is used up."""
        if principal.limits.budget_grains is None:
            return
        if self._assumed.unpriced == "refuse":
            raise _unpriced("what is not metered has no price")
        await self._hold(principal, event_id, 0)
        self._settle_soon(event_id, 0)

    async def open_account(self, principal: Principal, event_id: str) -> None:
        """Ask whether answers may still be given whose number is not known yet; `charge` says what they cost.

        Raises LimitReached when the budget is used up.
        """
        if principal.limits.budget_grains is not None:
            await self._hold(principal, event_id, 0)

    async def pay(self, principal: Principal, event_id: str, tokens: int, grains: int) -> None:
        """Book what such answers used, and return when it is booked: the next may be asked for."""
        self._give_back(principal, 0, tokens)
        if principal.limits.budget_grains is not None:
            await self._settle(event_id, grains)

    def charge(self, principal: Principal, event_id: str, tokens: int, grains: int) -> None:
        """Book what such answers used. Never waits."""
        if tokens:
            self._give_back(principal, 0, tokens)
        if principal.limits.budget_grains is not None:
            self._settle_soon(event_id, grains)

    def settle(self, reserved: Reserved, used: Used | None) -> None:
        """Replace what was held by what was used; None: nothing was. Never waits."""
        if reserved.tokens or used is not None:
            tokens = 0 if used is None else used.input_tokens + used.output_tokens
            self._give_back(reserved.principal, reserved.tokens, tokens)
        if reserved.hold_id:
            self._settle_soon(reserved.hold_id, 0 if used is None else used.price_grains)

    async def aclose(self) -> None:
        """Wait for what is being settled."""
        if self._settling:
            await asyncio.wait(self._settling)

    def _taken(self, bucket: Bucket | None, per_min: int, amount: int, what: str) -> Bucket:
        now_us = self._clock.now_us()
        after, wait_us = take(bucket or full(per_min, now_us), per_min, amount, now_us)
        if wait_us:
            raise LimitReached(
                f"this app's {what} per minute are used up",
                remedy="wait as Retry-After says",
                wait_us=wait_us,
            )
        return after

    def _give_back(self, principal: Principal, held: int, used: int) -> None:
        per_min = share(principal.limits.tokens_per_min, self._workers)
        bucket = self._tokens.get(principal.app_id)
        if per_min and bucket is not None:
            now = filled(bucket, per_min, self._clock.now_us())
            self._tokens[principal.app_id] = given_back(now, per_min, held - used)

    def _dearest(self, models: Iterable[str], used: tuple[int, int, int, int], currency: str) -> int:
        """Return the highest price that is known. used: tokens in and out, images, milliseconds."""
        now_us = self._clock.now_us()
        prices: list[int] = []
        for model in models:
            _, grains, given = self._price_of(model, now_us, *used)
            if grains is not None and given == currency:
                prices.append(grains)
        if prices:
            return max(prices)
        if self._assumed.unpriced == "refuse":
            raise _unpriced("the model has no price in the currency of this app's budget")
        return 0

    async def _hold(self, principal: Principal, event_id: str, grains: int) -> None:
        assert self._budgets is not None  # whoever knows of budgets has handed them in
        budget_grains = principal.limits.budget_grains or 0
        now_us = self._clock.now_us()
        fits = await of_store(
            self._budgets.reserve,
            event_id,
            principal.app_id,
            month=month_of(now_us),
            grains=grains,
            budget_grains=budget_grains,
            now_us=now_us,
        )
        if not fits:
            raise LimitReached(
                "this app's budget for the month does not cover the most this request may cost",
                remedy="ask for fewer tokens, or ask the operator for more",
                code="insufficient_quota",
            )

    def _settle_soon(self, hold_id: str, grains: int | None) -> None:
        task = asyncio.get_running_loop().create_task(self._settle(hold_id, grains))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, hold_id: str, grains: int | None) -> None:
        assert self._budgets is not None
        try:
            await of_store(self._budgets.settle, hold_id, grains)
        except Problem as problem:  # the store is away: the sweep settles it from the metered event
            self._log.warning("budget_not_settled", id=hold_id, cause=problem.cause)


def _model_not_allowed(model: str) -> Forbidden:
    return Forbidden(
        f"this key may not use the model '{model[:128]}'",
        remedy="GET /v1/models lists those it may",
        code="model_not_allowed",
    )


def asked_in(endpoint: Endpoint, body: bytes, content_type: bytes) -> Asked:
    """Return what a request asks for, as its endpoint reads it; one that it refuses gets no answer."""
    try:
        return endpoint.read_request(body, content_type)
    except WireError:
        return UNREAD


def _unpriced(why: str) -> Forbidden:
    return Forbidden(
        f"this app has a budget, and this request's price cannot be known: {why}",
        remedy="ask the operator for a price, or for `[access] unpriced`",
        code="price_unknown",
    )
