"""What is counted, traced and logged of one metered answer when it is over: facts, and never a word of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.telemetry import TRACE

if TYPE_CHECKING:
    from proxy.metering.usage import Used
    from proxy.relay.exchange import Exchange
    from proxy.relay.handler import Relay
    from proxy.relay.needs import Scope


def note(
    relay: Relay,
    exchange: Exchange,
    used: Used | None,
    scope: Scope,
    *,
    app: str,
    backend: str,
    http_status: int,
    settle_ms: float,
    seconds: float,
) -> None:
    """Note how an answer went.

    used: what was metered, None where nothing was. http_status: 0 where nothing was sent.
    """
    outcome = used.outcome if used is not None else "refused"
    name = exchange.endpoint.name
    tokens = (used.input_tokens, used.output_tokens) if used is not None else (0, 0)
    relay.metrics.requests.labels(name, outcome).inc()
    relay.metrics.request_seconds.labels(name).observe(seconds)
    if (trace := scope.get(TRACE)) is not None:
        trace.noted(
            endpoint=name,
            outcome=outcome,
            asked=exchange.asked.model if exchange.asked else "",
            model=exchange.model,
            backend=backend,
            tokens=tokens,
        )
    relay.log.info(
        "exchange_settled",
        id=exchange.id,
        app=app,
        backend=backend,
        model=exchange.model,
        http_status=http_status,
        outcome=outcome,
        attribution=exchange.status,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        settle_ms=settle_ms,
        duration_ms=round(seconds * 1000, 3),
    )
