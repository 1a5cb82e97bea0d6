"""Links between apps and creators in the store: set by an operator, kept with every change.

The app's own row says whose it is now; the history beside it says since which number of the registry, and
closing a period asks the history only.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from proxy.access.links import AppLinks
from proxy.access.store import AppLinkRow, AppRow
from proxy.clock import Clock
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import Conflict, NotFound

_app = AppRow.metadata.tables[str(AppRow.__tablename__)]
_link = AppLinkRow.metadata.tables[str(AppLinkRow.__tablename__)]


def link_app(engine: sa.Engine, app: str, creator_id: str, *, clock: Clock, actor: str = "operator") -> bool:
    """Say that an app (id or name) is a creator's own from now on, or nobody's when `creator_id` is "".

    False when it was so already. Raises NotFound, and Conflict for an app that is another creator's: it has
    to be unlinked first, so that no link is lost by a slip.
    """
    with registry_turn(engine) as connection:
        row = _find(connection, app)
        if row is None:
            raise NotFound(f"there is no app '{app}'", remedy="`endcredits keys list` shows them by name")
        if (row.owner_creator or "") == creator_id:
            return False
        _refuse_taken(row, creator_id)
        kind = "app_linked" if creator_id else "app_unlinked"
        now_us = clock.now_us()
        change = RegistryChange(kind, {"app": row.id, "creator": creator_id})
        seq = append_registry(connection, [change], actor=actor, at_us=now_us)
        values = {"app_id": row.id, "seq": seq, "creator_id": creator_id or None}
        connection.execute(sa.insert(_link), [values | {"decided_by": actor, "at_us": now_us}])
        owner = sa.update(_app).where(_app.c.id == row.id).values(owner_creator=creator_id or None)
        connection.execute(owner)
        return True


def refuse_taken_app(engine: sa.Engine, app: str, creator_id: str) -> None:
    """Raise Conflict when an app (id or name) is another creator's; one that is not there yet is free."""
    with engine.connect() as connection:
        row = _find(connection, app)
    if row is not None:
        _refuse_taken(row, creator_id)


def app_links(engine: sa.Engine) -> AppLinks:
    """Return whose own every app is and was."""
    history: dict[str, tuple[tuple[int, str], ...]] = {}
    with engine.connect() as connection:
        for row in connection.execute(sa.select(_link).order_by(_link.c.seq)):
            history[row.app_id] = (*history.get(row.app_id, ()), (int(row.seq), row.creator_id or ""))
    return AppLinks(history)


def owners_by_app_name(engine: sa.Engine) -> dict[str, str]:
    """Return {app's name: creator's id} of the apps that are somebody's own now."""
    query = sa.select(_app.c.name, _app.c.owner_creator).where(_app.c.owner_creator.is_not(None))
    with engine.connect() as connection:
        return {row.name: row.owner_creator for row in connection.execute(query)}


def _find(connection: sa.Connection, app: str) -> Any:
    # An id wins over another app's name that looks like it.
    named = sa.select(_app.c.id, _app.c.owner_creator).where(sa.or_(_app.c.id == app, _app.c.name == app))
    return connection.execute(named.order_by(sa.case((_app.c.id == app, 0), else_=1))).first()


def _refuse_taken(row: Any, creator_id: str) -> None:
    owner = row.owner_creator or ""
    if owner and creator_id and owner != creator_id:
        remedy = f"`endcredits keys unlink {row.id}` first"
        raise Conflict(f"{row.id} is {owner}'s own app", remedy=remedy)
