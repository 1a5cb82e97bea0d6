"""Answers that were metered, as /api finds them: which may be milliseconds old, and who may see one."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from proxy.access.keys import Principal
from proxy.metering.store import find_event
from proxy.metering.usage import MeteredEvent

CARRY_WAIT_S = 1.0  # an answer just given is in the journal; its carrier needs `carry_ms` and a transaction
CARRY_POLL_S = 0.1


async def carried(engine: sa.Engine, event_id: str) -> MeteredEvent | None:
    """Find an answer, giving the journal's carrier a moment: the reply may be milliseconds old."""
    loop = asyncio.get_running_loop()
    until = loop.time() + CARRY_WAIT_S
    while True:
        event = await asyncio.to_thread(find_event, engine, event_id)
        if event is not None or loop.time() >= until:
            return event
        await asyncio.sleep(CARRY_POLL_S)


def may_see(caller: Principal, event: MeteredEvent) -> bool:
    """Say whether a caller may see an answer's receipt.

    It names every work of the answer; a creator may see her own line only, so she sees none of it.
    """
    return caller.role == "operator" or (caller.role == "app" and event.app_id == caller.app_id)
