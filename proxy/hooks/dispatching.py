"""Looks what happened, tells it to whoever wants to know, and tries again what did not arrive.

One worker does it. A message is written down before it is sent and marked after its answer, so that a kill
between the two sends it twice and never loses it; its id says that it is the same one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from proxy.clock import Clock
from proxy.errors import Problem
from proxy.hooks.sending import Sender
from proxy.hooks.signing import headers
from proxy.hooks.store import Due, Webhooks, webhooks_in
from proxy.observability import get_log

LOOK_EVERY_S: Final = 5.0
AT_ONCE: Final = 8  # messages on their way; a slow receiver holds up no more than these
GONE: Final = "410"  # a receiver that says so wants nothing more


class Sends(Protocol):
    """What a Sender does."""

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[bool, str]:
        """Post a message."""
        ...


async def tell(engine: sa.Engine, data_dir: Path, clock: Clock) -> None:
    """Tell what happens, for ever; cancel it to stop."""
    sender = Sender()
    try:
        await Dispatcher(webhooks_in(engine, data_dir, clock), sender, clock).run()
    finally:
        await sender.aclose()


class Dispatcher:
    """Keep `run` going beside the server."""

    def __init__(
        self, webhooks: Webhooks, sender: Sends, clock: Clock, *, every_s: float = LOOK_EVERY_S
    ) -> None:
        self._webhooks, self._sender, self._clock, self._every_s = webhooks, sender, clock, every_s
        self._log = get_log()
        self._is_away = False

    async def run(self) -> None:
        """Look for ever; cancel it to stop."""
        while True:
            try:
                while await self.turn() == AT_ONCE:
                    pass
                self._is_away = False
            except (SQLAlchemyError, Problem, OSError) as error:
                if not self._is_away:
                    self._log.warning("webhooks_not_looked_at", error=type(error).__name__)
                self._is_away = True
            await asyncio.sleep(self._every_s)

    async def turn(self) -> int:
        """Look once and send what is due; return how many messages were tried."""
        await asyncio.to_thread(self._webhooks.collect)
        due = await asyncio.to_thread(self._webhooks.due, AT_ONCE)
        async with asyncio.TaskGroup() as sending:
            for message in due:
                sending.create_task(self._send(message))
        return len(due)

    async def _send(self, message: Due) -> None:
        signed = headers(message.id, self._clock.now_us() // 1_000_000, message.body, message.secret)
        is_taken, answer = await self._sender.send(message.url, message.body, signed)
        if is_taken:
            await asyncio.to_thread(self._webhooks.told, message, answer)
            return
        again_s = await asyncio.to_thread(self._webhooks.failed, message, answer)
        if answer == GONE:
            await asyncio.to_thread(self._webhooks.end, message.webhook)
        if again_s is None or answer == GONE:
            self._log.warning("webhook_given_up", webhook=message.webhook, message=message.id, answer=answer)
