"""The pages' door: signing in by key or by link, signing out, and who may open which page.

One guard stands before every page. It looks up whose cookie this is, and refuses a form that was not made
for that cookie, or that a page of another site sent. So a page that is added without a thought is closed to
forged forms; who may open it, it says itself, by `inside`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from proxy.access.guards import RING, Connection, Finds, Guard
from proxy.access.keys import Principal, Role, has_shape
from proxy.access.sessions import (
    HOME,
    TOKEN_BYTES,
    Attempts,
    Visitor,
    form_token,
    has_token_shape,
    is_form_token,
    token_of,
    way_back,
)
from proxy.access.sessions_store import Sessions
from proxy.asking import of_pages
from proxy.clock import Clock
from proxy.errors import Forbidden, NotFound, Problem, TooOften, Unauthenticated
from proxy.portal.assets import PLACE as FILES
from proxy.portal.pages import AnyRequest, Pages
from proxy.settings import Settings, networks

COOKIE: Final = "ec_session"
FORM_HEADER: Final = "x-csrf-token"  # where a script of ours, which sends no form, puts a form's token
FORM_COOKIE: Final = "ec_form"  # of who is not signed in, so that signing in cannot be forged either
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SIGN_IN: Final = "/portal/sign-in"
HALF_HOUR_S: Final = 1_800
_VISITOR: Final = "visitor"  # its name on a connection's state
Menu = Sequence[tuple[str, str]]
MENUS: Final[Mapping[str, Menu]] = {
    "creator": (
        ("Overview", "/portal/"),
        ("My works", "/portal/works"),
        ("What used them", "/portal/uses"),
        ("Statements", "/portal/statements"),
        ("Money", "/portal/money"),
        ("Disputes and claims", "/portal/matters"),
    ),
    "operator": (
        ("Health", "/portal/"),
        ("Works", "/portal/desk/works"),
        ("Review", "/portal/desk/review"),
        ("Rules and prices", "/portal/desk/rules"),
        ("Periods", "/portal/desk/periods"),
        ("Payouts", "/portal/desk/payouts"),
        ("Disputes", "/portal/desk/matters"),
        ("People", "/portal/desk/people"),
        ("Log", "/portal/desk/log"),
    ),
    "app": (("Overview", "/portal/"), ("By day", "/portal/app/days"), ("Playground", "/portal/playground")),
}


class NotSignedIn(Unauthenticated):
    """A page that wants somebody, asked for by nobody; `wanted` is its address."""

    def __init__(self, wanted: str) -> None:
        super().__init__("this page is for who is signed in", remedy="sign in first")
        self.wanted = wanted


def visitor(connection: Connection | Request[Any, Any, Any]) -> Visitor | None:
    """Return who is signed in, as the guard found them."""
    found: Visitor | None = connection.state.get(_VISITOR)
    return found


def inside(*roles: Role) -> Guard:
    """Return a guard that lets in who is signed in as one of these."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        found = visitor(connection)
        if found is None:
            raise NotSignedIn(_address(connection))
        if found.principal.role not in roles:
            raise Forbidden("this page is for other people", remedy="sign in as one of them")

    return guard


async def provide_visitor(request: AnyRequest) -> Principal:
    """Give handlers who is signed in, as the dependency `caller: NamedDependency[Principal]`."""
    found = visitor(request)
    if found is None:
        raise NotSignedIn(_address(request))
    return found.principal


def told_of(request: AnyRequest) -> Mapping[str, Any]:
    """Return what every page knows of its reader."""
    found = visitor(request)
    if found is None:
        return {"token": form_token(request.cookies.get(FORM_COOKIE, ""))}
    return {"me": found.principal, "token": found.token, "menu": MENUS[found.principal.role]}


class Doors:
    """Signing in and out, and the guard of all pages."""

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        clock: Clock,
        providers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """providers: (name, title) of those by which one may sign in too."""
        self._sessions = sessions
        self._providers = providers
        self._clock = clock
        self._attempts = Attempts(settings.portal.sign_ins_per_min)
        self._trusted = networks(settings.server.trusted_proxies, "settings")

    def guard(self) -> Guard:
        """Return the guard of all pages: a plain function, because the framework copies what it is handed."""

        async def guard(connection: Connection, _: BaseRouteHandler) -> None:
            await self._look(connection)

        return guard

    async def _look(self, connection: Connection) -> None:
        """Find whose page this is, and refuse forms that were not made for them."""
        request = cast("AnyRequest", connection)
        if request.url.path.startswith(FILES):
            return
        cookie = request.cookies.get(COOKIE, "")
        found = await of_pages(self._sessions.find, cookie) if cookie else None
        connection.state[_VISITOR] = found
        if request.method in SAFE:
            return
        if not _same_site(request):
            raise Forbidden("this form came from another site", remedy="open the page here and send it again")
        holder = cookie if found is not None else request.cookies.get(FORM_COOKIE, "")
        sent = request.headers.get(FORM_HEADER) or (await request.form()).get("token", "")
        if not is_form_token(holder, sent if isinstance(sent, str) else ""):
            raise Forbidden("this form is too old", remedy="go back, load the page again, and send it again")

    def handlers(self, pages: Pages) -> Sequence[BaseRouteHandler]:
        """Return the pages of the door."""

        @get("/sign-in")
        async def ask(request: AnyRequest, back: FromQuery[str] = "") -> Response[Any]:
            """Where one signs in."""
            if visitor(request) is not None:
                return Redirect(way_back(back), status_code=303)
            return self._asked(request, pages, way_back(back))

        @post("/sign-in")
        async def sign_in(request: AnyRequest) -> Response[Any]:
            """Sign in by a key."""
            self.count(request)
            form = await request.form()
            back, secret = way_back(str(form.get("back", ""))), str(form.get("key", "")).strip()
            ring: Finds = request.app.state[RING]
            try:
                who = await ring.find(secret) if has_shape(secret) else None
            except Unauthenticated as refused:
                return self._asked(request, pages, back, refused)
            if who is None:
                refused = Unauthenticated("nobody holds this key", remedy="it may have been revoked")
                return self._asked(request, pages, back, refused)
            return await self.signed_in(request, lambda: self._sessions.begin(who), back)

        @get("/enter/{secret:str}")
        async def invited(
            request: AnyRequest, secret: FromPath[str], back: FromQuery[str] = ""
        ) -> Response[Any]:
            """What a link opens. Looking at it uses nothing up: programs look at links before people do."""
            if not has_token_shape(secret):
                raise NotFound("this link is not whole", remedy="open it as it was sent, to its last letter")
            known = {"secret": secret, "back": way_back(back)}
            return self.form_page(request, pages, "enter.html.jinja", known)

        @post("/enter/{secret:str}")
        async def enter(request: AnyRequest, secret: FromPath[str]) -> Response[Any]:
            """Sign in by a link, once."""
            self.count(request)
            back = way_back(str((await request.form()).get("back", "")))
            return await self.signed_in(request, lambda: self._sessions.enter(secret), back)

        @post("/sign-out")
        async def sign_out(request: AnyRequest) -> Response[Any]:
            """Sign out here."""
            await of_pages(self._sessions.end, request.cookies.get(COOKIE, ""))
            reply = Redirect(HOME, status_code=303)
            reply.set_cookie(self.cookie(request, COOKIE, "", 0))
            return reply

        return (ask, sign_in, invited, enter, sign_out)

    async def signed_in(
        self, request: AnyRequest, begin: Callable[[], tuple[str, int]], back: str
    ) -> Response[Any]:
        """Give whoever asks the session that `begin` makes, and send them to a page of ours."""
        # Whoever signs in gets a new session; one that a browser brought along ends.
        if before := request.cookies.get(COOKIE, ""):
            await of_pages(self._sessions.end, before)
        token, until_us = await of_pages(begin)
        reply = Redirect(back, status_code=303)
        seconds = (until_us - self._clock.now_us()) // 1_000_000
        reply.set_cookie(self.cookie(request, COOKIE, token, seconds))
        return reply

    def _asked(
        self, request: AnyRequest, pages: Pages, back: str, refused: Problem | None = None
    ) -> Response[Any]:
        known = {"back": back, "refused": refused, "providers": self._providers}
        page = self.form_page(
            request, pages, "sign-in.html.jinja", known, status=refused.status if refused else 200
        )
        if refused is not None and refused.retry_after_s:
            page.headers["retry-after"] = str(refused.retry_after_s)
        return page

    def form_page(
        self, request: AnyRequest, pages: Pages, template: str, known: Mapping[str, Any], status: int = 200
    ) -> Response[Any]:
        """Return a page whose form somebody who is not signed in may send."""
        if visitor(request) is not None:
            return pages.page(request, template, status=status, **known)
        held = request.cookies.get(FORM_COOKIE, "")
        cookie = held if has_token_shape(held) else token_of(os.urandom(TOKEN_BYTES))
        reply = pages.page(request, template, status=status, **({"token": form_token(cookie)} | dict(known)))
        reply.set_cookie(self.cookie(request, FORM_COOKIE, cookie, HALF_HOUR_S))
        return reply

    def cookie(
        self, request: AnyRequest, name: str, value: str, seconds: int, path: str = "/portal"
    ) -> Cookie:
        """Return a cookie that no script reads and no form of another site sends."""
        return Cookie(
            name,
            value=value,
            path=path,
            max_age=seconds,
            httponly=True,
            samesite="lax",  # strict would sign people out who come by a link in their mail
            secure=self._is_secure(request),
        )

    def count(self, request: AnyRequest) -> None:
        """Count an attempt to sign in. Raises TooOften."""
        wait_s = self._attempts.wait_s(self.peer(request), self._clock.now_us())
        if wait_s:
            raise TooOften("too many attempts to sign in", wait_s=wait_s, code="too_many_sign_ins")

    def _believes(self, request: AnyRequest) -> bool:
        host = request.client.host if request.client else ""
        try:
            peer = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(peer in network for network in self._trusted)

    def peer(self, request: AnyRequest) -> str:
        """Return the address that asks: the last one a trusted proxy names, else the socket's."""
        if self._believes(request):
            named = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
            if named:
                return named[:100]
        return request.client.host if request.client else ""

    def origin(self, request: AnyRequest) -> str:
        """Return our own address as the browser has it: scheme and host."""
        scheme = "https" if self._is_secure(request) else "http"
        return f"{scheme}://{request.headers.get('host', '')}"

    def _is_secure(self, request: AnyRequest) -> bool:
        if self._believes(request):
            said = request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip()
            return said == "https" or request.url.scheme == "https"
        return request.url.scheme == "https"


def to_sign_in(wanted: str) -> Response[Any]:
    """Send somebody to sign in, and back to `wanted` after that."""
    return Redirect(f"{SIGN_IN}?back={quote(way_back(wanted), safe='/')}", status_code=303)


def _same_site(request: AnyRequest) -> bool:
    """Tell whether a form came from a page of ours, as far as the browser says."""
    said = request.headers.get("sec-fetch-site")
    if said is not None:
        return said in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


def _address(connection: Connection | AnyRequest) -> str:
    return connection.url.path + (f"?{connection.url.query}" if connection.url.query else "")
