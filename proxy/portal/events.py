"""Answers that were metered, as /api finds them: which may be milliseconds old, and who may see one."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from proxy.access.keys import Principal
from proxy.asking import of_pages
from proxy.errors import NotFound
from proxy.metering.gone_store import gone_ids
from proxy.metering.store import find_event, store_errors
from proxy.metering.usage import MeteredEvent

CARRY_WAIT_S = 1.0  # an answer just given is in the journal; its carrier needs `carry_ms` and a transaction
CARRY_POLL_S = 0.1


async def carried(engine: sa.Engine, event_id: str) -> MeteredEvent | None:
    """Find an answer, giving the journal's carrier a moment: the reply may be milliseconds old.

    Raises NotFound with status 410 (code "answer_archived") for one that has left the store.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + CARRY_WAIT_S
    if await of_pages(_has_left, engine, event_id):
        raise NotFound(
            f"the answer {event_id} was settled long ago and is no longer in the store",
            remedy="the receipt that came with it stays valid; the operator has the archive of its period",
            code="answer_archived",
            status=410,
        )
    while True:
        event = await of_pages(find_event, engine, event_id)
        if event is not None or loop.time() >= until:
            return event
        await asyncio.sleep(CARRY_POLL_S)


def _has_left(engine: sa.Engine, event_id: str) -> bool:
    with store_errors(), engine.connect() as connection:
        return bool(gone_ids(connection, [event_id]))


def may_see(caller: Principal, event: MeteredEvent) -> bool:
    """Say whether a caller may see an answer's receipt.

    It names every work of the answer; a creator may see her own line only, so she sees none of it.
    """
    return caller.role == "operator" or (caller.role == "app" and event.app_id == caller.app_id)
