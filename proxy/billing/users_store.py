"""Which policies hold and how many periods are closed, kept fresh in a process that meters.

Commands write to the store and tell nobody; the server looks at two numbers every REFRESH_MS. When the store
is away, what was known last goes on being used.
"""

from __future__ import annotations

import asyncio
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from proxy.billing.policies_store import ActivationRow, agenda
from proxy.billing.schemes import Terms
from proxy.billing.store import PeriodRow
from proxy.billing.users import Users
from proxy.errors import Problem
from proxy.observability import get_log
from proxy.settings import Billing

REFRESH_MS: Final = 500  # a policy that is put in force acts within a second
_tables = PeriodRow.metadata.tables
_period, _activation = _tables[str(PeriodRow.__tablename__)], _tables[str(ActivationRow.__tablename__)]


class UsersRefresher:
    """The current `users`; keep `run` going beside the server."""

    def __init__(self, engine: sa.Engine, billing: Billing, key: bytes) -> None:
        """Raises SettingsError for [billing] rules that cannot be read."""
        self._engine, self._billing, self._key = engine, billing, key
        self.users = Users(key, Terms.from_settings(billing))
        self._seen = (0, 0)
        self._away = False

    def digest(self, app: str, model: str, endpoint: str, occurred_us: int, subject: str) -> str:
        """Return an end user's digest, by what is known now."""
        return self.users.digest(app, model, endpoint, occurred_us, subject)

    async def refresh(self) -> bool:
        """Look once; True when something is new."""
        try:
            found = await asyncio.to_thread(self._look)
        except (SQLAlchemyError, Problem) as error:
            if not self._away:
                get_log().warning("policies_unread", error=type(error).__name__)
            self._away = True
            return False
        self._away = False
        if found is None:
            return False
        self.users = found
        return True

    def _look(self) -> Users | None:
        last = (sa.func.max(_activation.c.seq), sa.func.max(_period.c.seq))
        with self._engine.connect() as connection:
            seen = tuple(int(connection.execute(sa.select(one)).scalar() or 0) for one in last)
        if seen == self._seen:
            return None
        terms = Terms.of_agenda(agenda(self._engine, self._billing))
        self._seen = (seen[0], seen[1])
        return Users(self._key, terms, seen[1])

    async def run(self) -> None:
        """Look for ever; cancel it to stop."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_MS / 1_000)
