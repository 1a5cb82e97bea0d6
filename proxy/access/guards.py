"""The door of our own routes: who is asking, and may they.

A guard runs before a handler's parameters are read, so a stranger's body is never parsed. The relay asks the
ring itself, because a mounted ASGI app sees neither guards nor dependencies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from proxy.access.keys import Action, Principal, Role, may, presented
from proxy.errors import Forbidden, Unauthenticated

RING = "key_ring"  # its name on app.state
_PRINCIPAL = "principal"  # its name on a connection's state

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], Awaitable[None]]


class Finds(Protocol):
    """What a door needs of a KeyRing."""

    async def find(self, secret: str) -> Principal | None:
        """Return who holds `secret`."""
        ...


async def identify(connection: Connection) -> Principal:
    """Return who is asking, and remember it on the connection.

    Raises Unauthenticated without a key or with one nobody holds; Unavailable when that cannot be told now.
    """
    remembered: Principal | None = connection.state.get(_PRINCIPAL)
    if remembered is not None:
        return remembered
    secret = presented(connection.scope["headers"])
    if not secret:
        raise Unauthenticated(
            "no key was sent", remedy="send Authorization: Bearer ec_...", code="no_api_key"
        )
    ring: Finds = connection.app.state[RING]
    principal = await ring.find(secret)
    if principal is None:
        raise Unauthenticated("nobody holds this key", remedy="`endcredits keys list` shows the living ones")
    connection.state[_PRINCIPAL] = principal
    return principal


def requires_role(*roles: Role) -> Guard:
    """Return a guard that lets in holders of these roles."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        principal = await identify(connection)
        if principal.role not in roles:
            wanted = " or ".join(roles)
            raise Forbidden(
                f"a key of role {principal.role} may not do this", remedy=f"use a key of role {wanted}"
            )

    return guard


def requires(action: Action) -> Guard:
    """Return a guard that lets in whoever may do `action`."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        principal = await identify(connection)
        if not may(principal, action):
            raise Forbidden(
                f"a key of role {principal.role} may not do this", remedy="use a key of another role"
            )

    return guard


async def provide_principal(request: Request[Any, Any, Any]) -> Principal:
    """Give handlers the Principal, as the dependency `principal: NamedDependency[Principal]`."""
    return await identify(request)
