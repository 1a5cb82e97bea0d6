"""Which policies hold and how many periods are closed, kept fresh in a process that meters.

Commands write to the store and tell nobody; the server looks at two numbers every REFRESH_MS. When the store
is away, what was known last goes on being used. The same loop destroys the keys of end users whose period
can no longer be commented on.
"""

from __future__ import annotations

import asyncio
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from proxy.access.subjects import SubjectKeys
from proxy.asking import of_store
from proxy.billing.periods_store import PeriodWindowRow
from proxy.billing.policies_store import ActivationRow, agenda
from proxy.billing.schemes import Terms
from proxy.billing.store import PeriodRow
from proxy.billing.users import Users, keys_end_below
from proxy.clock import Clock
from proxy.errors import Problem
from proxy.observability import get_log
from proxy.settings import Billing

REFRESH_MS: Final = 500  # a policy that is put in force acts within a second
FORGET_EVERY_S: Final = 3_600  # a window ends at some hour of a day: keys go within the next
_tables = PeriodRow.metadata.tables
_period, _activation = _tables[str(PeriodRow.__tablename__)], _tables[str(ActivationRow.__tablename__)]
_window = _tables[str(PeriodWindowRow.__tablename__)]


class UsersRefresher:
    """The current `users`; keep `run` going beside the server."""

    def __init__(self, engine: sa.Engine, billing: Billing, keys: SubjectKeys, clock: Clock) -> None:
        """Raises SettingsError for [billing] rules that cannot be read."""
        self._engine, self._billing, self._keys, self._clock = engine, billing, keys, clock
        self.users = Users(keys.key, Terms.from_settings(billing))
        self._seen = (0, 0)
        self._away = False

    def digest(self, app: str, model: str, endpoint: str, occurred_us: int, subject: str) -> str:
        """Return an end user's digest, by what is known now."""
        return self.users.digest(app, model, endpoint, occurred_us, subject)

    def policy_seq(self) -> int:
        """Return up to which activation policies are known, 0 for none."""
        return self._seen[0]

    async def refresh(self) -> bool:
        """Look once; True when something is new."""
        try:
            found = await of_store(self._look)
        except (SQLAlchemyError, Problem) as error:
            if not self._away:
                get_log().warning("policies_unread", error=type(error).__name__)
            self._away = True
            return False
        self._away = False
        if found is None:
            return False
        self.users, self._seen = found
        return True

    def _look(self) -> tuple[Users, tuple[int, int]] | None:
        last = (sa.func.max(_activation.c.seq), sa.func.max(_period.c.seq))
        with self._engine.connect() as connection:
            seen = tuple(int(connection.execute(sa.select(one)).scalar() or 0) for one in last)
        if seen == self._seen:
            return None
        known = agenda(self._engine, self._billing)
        return Users(self._keys.key, Terms.of_agenda(known), seen[1]), (known.seq, seen[1])

    async def run(self) -> None:
        """Look for ever; cancel it to stop."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_MS / 1_000)

    async def forget(self) -> None:
        """Destroy keys of users when it is time, for ever; one process of several is enough."""
        while True:
            try:
                gone = await asyncio.to_thread(forget_users, self._engine, self._keys, self._clock.now_us())
            except (SQLAlchemyError, OSError) as error:
                get_log().warning("subject_keys_not_destroyed", error=type(error).__name__)
            else:
                if gone:
                    get_log().info("subject_keys_destroyed", periods=len(gone))
            await asyncio.sleep(FORGET_EVERY_S)


def forget_users(engine: sa.Engine, keys: SubjectKeys, now_us: int) -> list[int]:
    """Destroy the keys of end users of all periods that are final; return which there were.

    A period is named by how many were closed before it.
    """
    query = sa.select(_period.c.seq, sa.func.coalesce(_window.c.until_us, 0))
    query = query.outerjoin(_window, _window.c.period_label == _period.c.label)
    with engine.connect() as connection:
        closed = [(int(seq), int(until_us)) for seq, until_us in connection.execute(query)]
    return keys.destroy(keys_end_below(closed, now_us))
