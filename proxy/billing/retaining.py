"""Lets answers go once a day, in the server, when the policy says that their periods are long over.

It works in a thread, a little at a time, and rests longer than it works: whoever waits for an answer is not
to notice. Told to stop, it ends at its next rest; what it had not come to is done the next day.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from proxy.billing import retention_store
from proxy.clock import Clock
from proxy.errors import Problem
from proxy.metering.trim_store import Seconds
from proxy.observability import get_log
from proxy.settings import Retention

FIRST_S: Final = 600  # after a start there is enough to do
EVERY_S: Final = 86_400
BY: Final = "policy"


class Retainer:
    """Run `run` as a task of one worker; cancelled, it tells its thread to stop."""

    def __init__(
        self,
        engine: sa.Engine,
        rules: Retention,
        data_dir: Path,
        *,
        seal: Callable[[bytes], str],
        clock: Clock,
        first_s: int = FIRST_S,
    ) -> None:
        """seal: signs a digest. first_s: how long after its start it looks for the first time."""
        self._engine, self._rules, self._data_dir = engine, rules, data_dir
        self._seal, self._clock, self._first_s = seal, clock, first_s
        self._stopping = threading.Event()
        self._log = get_log()

    async def run(self) -> None:
        """Look once a day, until cancelled."""
        wait_s = self._first_s
        try:
            while self._rules.usage_days:
                await asyncio.sleep(wait_s)
                wait_s = EVERY_S
                await asyncio.to_thread(self.once)
        finally:
            self._stopping.set()

    def once(self) -> None:
        """Let go of all that may leave now; what fails is told, and tried again the next day."""
        try:
            for left in retention_store.retain(
                self._engine,
                self._rules,
                self._data_dir,
                seal=self._seal,
                by=BY,
                now_us=self._clock.now_us(),
                pause=self._rest,
            ):
                self._log.info(
                    "answers_left",
                    period=left.standing.period,
                    answers=left.deleted,
                    sha256=left.digest.sha256,
                    archive=left.archive,
                )
        except _Stopped:
            return
        except Problem as problem:
            self._log.error("answers_not_let_go", code=problem.code, why=problem.cause)
        except OSError as error:
            self._log.error("answers_not_let_go", code="archive_unwritable", why=str(error))

    def _rest(self, seconds: Seconds) -> None:
        if self._stopping.wait(seconds):
            raise _Stopped


class _Stopped(Exception):
    """The server stops: the rest is done the next day."""
