"""Signing in by an identity provider: the way there and back, and the page on which one links an account.

Both ways out begin with a form of ours, so that nobody is sent on such a way by another site's page, and lead
over a page of ours, because the policy of our pages lets no form end elsewhere. The cookie that binds the way
back lives for ten minutes and is worth one way back; linking needs the session that began it besides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from litestar import Response, Router, get, post
from litestar import delete as on_delete
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Redirect

from proxy.access.guards import provide_principal, requires, requires_role
from proxy.access.identities_store import FLOW_US, Identities, Identity, session_hash
from proxy.access.keys import Action, Principal, Role
from proxy.access.oidc import NotBelieved, bound_to, is_same
from proxy.access.providers import Provider
from proxy.access.sessions import TOKEN_BYTES, has_token_shape, token_of, way_back
from proxy.access.sessions_store import Sessions
from proxy.asking import of_pages
from proxy.clock import iso_utc
from proxy.errors import NotFound
from proxy.observability import get_log
from proxy.portal.doors import COOKIE, Doors, inside, visitor
from proxy.portal.pages import AnyRequest, Pages

PLACE: Final = "/portal/sign-in/with"
FLOW_COOKIE: Final = "ec_oidc"
ME: Final = "/portal/me"
EVERYBODY: Final = [inside("app", "creator", "operator")]
PARAMETER_CHARACTERS_MAX: Final = 4_096  # of a code, or of why there is none
DONE: Final[Mapping[str, str]] = {
    "linked": "The account is linked. From now on it signs you in.",
    "again": "That account was linked already.",
    "removed": "The account is linked no more, and whoever was signed in with it is out.",
}
Row = dict[str, Any]


class IdentityIn(msgspec.Struct, forbid_unknown_fields=True):
    """An account (`sub`) at a provider and whose it is: a creator (id or ref), or of this name."""

    provider: str
    subject: str
    role: Role
    creator: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Ways:
    """What these pages lean on."""

    doors: Doors
    sessions: Sessions
    identities: Identities
    providers: Mapping[str, Provider]

    def provider(self, name: str) -> Provider:
        """Return a provider by its name. Raises NotFound."""
        found = self.providers.get(name)
        if found is None:
            raise NotFound(
                "there is no such provider", remedy="the operator names them in [[oidc.providers]]"
            )
        return found

    def title(self, issuer: str) -> str:
        """Return how a provider is called on pages; its issuer, for one that is configured no more."""
        titles = {one.issuer: one.title for one in self.providers.values()}
        return titles.get(issuer, issuer)


def identity_pages(pages: Pages, ways: Ways) -> Sequence[BaseRouteHandler]:
    """Return the pages."""
    return (*_sign_in(pages, ways), *_own(pages, ways))


def _sign_in(pages: Pages, ways: Ways) -> Sequence[BaseRouteHandler]:
    @post("/sign-in/with/{name:str}", status_code=200)
    async def leave(request: AnyRequest, name: FromPath[str]) -> Response[Any]:
        """Leave for a provider to sign in."""
        ways.doors.count(request)
        back = way_back(str((await request.form()).get("back", "")))
        return await _leave(request, pages, ways, ways.provider(name), back)

    @get("/sign-in/with/{name:str}/back")
    async def returned(request: AnyRequest, name: FromPath[str]) -> Response[Any]:
        """Come back from a provider: signed in, or with one more account."""
        ways.doors.count(request)
        provider, cookie = ways.provider(name), request.cookies.get(FLOW_COOKIE, "")
        said = request.query_params
        if not has_token_shape(cookie) or not is_same(bound_to(cookie).state, said.get("state", "")):
            raise NotBelieved("this sign-in was not begun in this browser, or too long ago")
        flow = await of_pages(ways.identities.take, cookie, provider=name)
        if flow is None:
            raise NotBelieved("this sign-in was ended already, or took too long")
        code = said.get("code", "")
        if "error" in said or not 0 < len(code) <= PARAMETER_CHARACTERS_MAX:
            raise NotBelieved(f"{provider.title} did not sign you in", remedy="try again there")
        try:
            subject = await provider.subject(cookie, code, said.get("iss"))
        except NotBelieved as refused:
            get_log().warning("oidc_refused", provider=name, cause=refused.cause)
            raise
        if flow.session:
            reply = await _linked(request, ways, provider, subject, flow.session)
        else:
            who, identity = await of_pages(ways.identities.who, provider.issuer, subject)
            reply = await ways.doors.signed_in(request, lambda: ways.sessions.begin(who, identity), flow.back)
        reply.set_cookie(ways.doors.cookie(request, FLOW_COOKIE, "", 0, PLACE))
        return reply

    return (leave, returned)


def _own(pages: Pages, ways: Ways) -> Sequence[BaseRouteHandler]:
    @get("/me", guards=EVERYBODY)
    async def me(
        request: AnyRequest, caller: NamedDependency[Principal], done: FromQuery[str] = ""
    ) -> Response[bytes]:
        """How one is signed in, and the accounts that sign one in."""
        found = await of_pages(ways.identities.of, caller)
        rows = [(one, ways.title(one.issuer)) for one in found]
        providers = [(one.name, one.title) for one in ways.providers.values()]
        return pages.page(
            request, "me.html.jinja", identities=rows, providers=providers, done=DONE.get(done, "")
        )

    @post("/me/with/{name:str}", guards=EVERYBODY, status_code=200)
    async def link(request: AnyRequest, name: FromPath[str]) -> Response[Any]:
        """Leave for a provider to link an account there."""
        ways.doors.count(request)
        session = request.cookies.get(COOKIE, "")
        return await _leave(request, pages, ways, ways.provider(name), ME, session)

    @post("/me/identities/{identity:str}/remove", guards=EVERYBODY)
    async def remove(caller: NamedDependency[Principal], identity: FromPath[str]) -> Response[Any]:
        """Link an account no more."""
        await of_pages(_removed, ways, identity, caller, of=caller)
        return Redirect(f"{ME}?done=removed", status_code=303)

    @post("/desk/identities/{identity:str}/remove", guards=[inside("operator")])
    async def remove_any(caller: NamedDependency[Principal], identity: FromPath[str]) -> Response[Any]:
        """Take somebody's link away."""
        await of_pages(_removed, ways, identity, caller)
        return Redirect("/portal/desk/people?done=unlinked", status_code=303)

    return (me, link, remove, remove_any)


def identities_router(ways: Ways) -> Router:
    """Return /api/identities."""

    @get("/", guards=[requires_role("app", "creator", "operator")])
    async def known(caller: NamedDependency[Principal]) -> Row:
        """The caller's linked accounts, everybody's for an operator, and the providers there are."""
        of = None if caller.role == "operator" else caller
        found = await of_pages(ways.identities.of, of)
        providers = [{"name": one.name, "issuer": one.issuer} for one in ways.providers.values()]
        return {"items": [_row(one) for one in found], "providers": providers}

    @post("/", guards=[requires(Action.OPERATE)])
    async def add(caller: NamedDependency[Principal], data: JSONBody[IdentityIn]) -> Row:
        """Link an account for somebody; an app's stands for its oldest living key."""
        issuer = ways.provider(data.provider).issuer
        whose = {"creator": data.creator, "name": data.name, "by": caller.name or caller.key_id}
        made, changed = await of_pages(ways.identities.link_for, issuer, data.subject, data.role, **whose)
        return _row(made) | {"changed": changed}

    @on_delete("/{identity:str}", guards=[requires_role("app", "creator", "operator")], status_code=200)
    async def remove(caller: NamedDependency[Principal], identity: FromPath[str]) -> Row:
        """Link an account no more, which ends what it signed in; one's own, anybody's for an operator."""
        of = None if caller.role == "operator" else caller
        return {"id": identity, "changed": await of_pages(_removed, ways, identity, caller, of=of)}

    return Router(
        "/api/identities",
        route_handlers=[known, add, remove],
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


async def _leave(
    request: AnyRequest, pages: Pages, ways: Ways, provider: Provider, back: str, session: str = ""
) -> Response[Any]:
    """Return the page that leads to a provider, with the cookie that binds the way back."""
    cookie = token_of(os.urandom(TOKEN_BYTES))
    address = await provider.way_out(cookie)
    await of_pages(ways.identities.begin, cookie, provider=provider.name, back=back, session=session)
    page = pages.page(request, "leaving.html.jinja", address=address, to=provider.title)
    page.set_cookie(ways.doors.cookie(request, FLOW_COOKIE, cookie, FLOW_US // 1_000_000, PLACE))
    return page


async def _linked(
    request: AnyRequest, ways: Ways, provider: Provider, subject: str, session: str
) -> Response[Any]:
    """Link an account to whoever is signed in, if it is they who left."""
    found = visitor(request)
    if found is None or not is_same(session_hash(request.cookies.get(COOKIE, "")), session):
        raise NotBelieved(
            "whoever began to link this account has signed out", remedy="sign in and begin again"
        )
    _, changed = await of_pages(ways.identities.link, provider.issuer, subject, found.principal)
    return Redirect(f"{ME}?done={'linked' if changed else 'again'}", status_code=303)


def _removed(ways: Ways, identity: str, caller: Principal, of: Principal | None = None) -> bool:
    if not identity.isprintable():
        return False
    return ways.identities.remove(identity, by=caller.name or caller.key_id, of=of)


def _row(one: Identity) -> Row:
    return {
        "id": one.id,
        "issuer": one.issuer,
        "subject": one.subject,
        "role": one.role,
        "creator": one.creator_id or None,
        "app": one.app_id or None,
        "name": one.name,
        "linked": iso_utc(one.linked_us),
        "linked_by": one.linked_by,
        "used": iso_utc(one.used_us) if one.used_us else None,
        "is_open": one.is_open,
    }
