"""Identity providers that an operator named: what each says of itself, its keys, and a code exchanged there.

Documents are kept for an hour, and read again when a token is signed by a key that is not among them, though
not more often than each KEYS_AGAIN_S: whoever sends tokens with made-up keys must not make us a client that
never rests. All that is asked goes through one guarded way out, which is handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from proxy.access.oidc import (
    Discovered,
    Jwk,
    NotBelieved,
    UnknownKey,
    bound_to,
    exchange,
    library,
    read_discovered,
    read_keys,
    read_tokens,
    subject_of,
    way_out,
)
from proxy.clock import Clock, SystemClock
from proxy.errors import SettingsError, Unavailable
from proxy.settings import Oidc, OidcProvider

DOCUMENT_BYTES_MAX: Final = 262_144  # discovery, keys and tokens have some thousands
WITHIN_S: Final = 10.0  # somebody waits before their screen
KEPT_S: Final = 3_600.0
KEYS_AGAIN_S: Final = 60.0
WELL_KNOWN: Final = "/.well-known/openid-configuration"
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Answered(Protocol):
    """What came of a question."""

    @property
    def status(self) -> int:
        """Its HTTP status."""
        ...

    @property
    def body(self) -> bytes:
        """Its body, whole."""
        ...


class Asks(Protocol):
    """The way out (`proxy.outside.Outside`)."""

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes = b"",
        private: bool = False,
        bytes_max: int,
        within_s: float,
    ) -> Answered:
        """Return an answer. Raises Unavailable."""
        ...


class Provider:
    """One identity provider."""

    def __init__(self, rules: OidcProvider, address: str, outside: Callable[[], Asks], clock: Clock) -> None:
        """address: our own, as browsers reach it. outside: gives the way out, when it is needed first."""
        self.name, self.issuer = rules.name, rules.issuer
        self.title = rules.title or rules.name.capitalize()
        self._rules, self._clock, self._outside = rules, clock, outside
        self._client = (rules.client_id, _secret(rules))
        self._redirect = f"{address.rstrip('/')}/portal/sign-in/with/{rules.name}/back"
        self._found: Discovered | None = None
        self._keys: tuple[Jwk, ...] = ()
        self._found_s = self._keys_s = 0.0
        self._turn = asyncio.Lock()  # who comes while documents are read waits for them
        self._failed: tuple[float, Unavailable] | None = None  # when they were last read in vain, and why

    async def way_out(self, cookie: str) -> str:
        """Return where to send whoever holds this cookie. Raises Unavailable."""
        found = await self._discovered()
        rules = self._rules
        return way_out(found, rules.client_id, self._redirect, rules.scopes, bound_to(cookie))

    async def subject(self, cookie: str, code: str, iss: str | None) -> str:
        """Return who signed in there. Raises NotBelieved, and Unavailable when the provider is away.

        iss: what the way back said of the issuer, None for nothing.
        """
        found, bound = await self._discovered(), bound_to(cookie)
        if iss != self.issuer and (iss is not None or found.authorization_response_iss_parameter_supported):
            raise NotBelieved("another provider answered than was asked")
        headers, form = exchange(found, self._client, self._redirect, code, bound)
        answer = await self._ask("POST", found.token_endpoint, headers, form)
        if answer.status >= 500:
            raise self._away(f"answered {answer.status}")
        if answer.status != 200:
            raise NotBelieved(f"{self.title} did not confirm this sign-in")
        tokens = read_tokens(answer.body)

        def read(keys: tuple[Jwk, ...]) -> str:
            return subject_of(
                tokens,
                keys,
                issuer=self.issuer,
                client_id=self._rules.client_id,
                nonce=bound.nonce,
                now_s=self._clock.now_us() / 1_000_000,
            )

        try:
            return read(await self._published(found, KEPT_S))
        except UnknownKey:
            return read(await self._published(found, KEYS_AGAIN_S))

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> AsyncGenerator[None]:
        """Let one ask at a time; who waited while that came to nothing is told so, and asks nothing.

        Else each would wait for the questions of all before them, and a provider that is away for WITHIN_S
        each.
        """
        came_s = self._clock.monotonic_s()
        async with self._turn:
            if self._failed is not None and came_s < self._failed[0]:
                known = self._failed[1]
                raise Unavailable(known.cause, remedy=known.remedy, code=known.code)
            try:
                yield
            except Unavailable as error:
                self._failed = self._clock.monotonic_s(), error
                raise

    async def _discovered(self) -> Discovered:
        async with self._in_turn():
            now_s = self._clock.monotonic_s()
            if self._found is None or now_s - self._found_s >= KEPT_S:
                body = await self._document(self.issuer.rstrip("/") + WELL_KNOWN)
                self._found = read_discovered(body, self.issuer, private=self._rules.private)
                self._found_s = now_s
            return self._found

    async def _published(self, found: Discovered, age_s: float) -> tuple[Jwk, ...]:
        """Return the provider's keys, read again when they are older than `age_s`."""
        async with self._in_turn():
            now_s = self._clock.monotonic_s()
            if not self._keys or now_s - self._keys_s >= age_s:
                self._keys = read_keys(await self._document(found.jwks_uri), self.issuer)
                self._keys_s = now_s
            return self._keys

    async def _document(self, url: str) -> bytes:
        answer = await self._ask("GET", url, {"accept": "application/json"})
        if answer.status != 200:
            raise self._away(f"answered {answer.status}")
        return answer.body

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], form: bytes = b"") -> Answered:
        try:
            return await self._outside().ask(
                method,
                url,
                headers=headers,
                content=form,
                private=self._rules.private,
                bytes_max=DOCUMENT_BYTES_MAX,
                within_s=WITHIN_S,
            )
        except Unavailable as error:
            raise self._away(error.cause) from error

    def _away(self, cause: str) -> Unavailable:
        return Unavailable(
            f"{self.title} cannot be asked just now ({cause})",
            remedy="try again in a moment, or sign in by your key or link",
            code="oidc_unavailable",
        )


def providers_of(rules: Oidc, outside: Callable[[], Asks], clock: Clock) -> dict[str, Provider]:
    """Return {name: provider} of the settings. Raises SettingsError for what cannot work as written."""
    if not rules.providers:
        return {}
    library()
    _check_address(rules.address)
    found: dict[str, Provider] = {}
    for number, one in enumerate(rules.providers):
        place = f"oidc.providers[{number}]"
        _check_issuer(one, place)
        if one.name in found:
            raise SettingsError(f"{place}: two providers are named '{one.name}'", remedy="rename one of them")
        if "openid" not in one.scopes or not all(
            scope.isprintable() and " " not in scope for scope in one.scopes
        ):
            raise SettingsError(f"{place}.scopes lacks openid", remedy='write scopes = ["openid"]')
        found[one.name] = Provider(one, rules.address, outside, clock)
    return found


def check(rules: Oidc) -> tuple[str, ...]:
    """Return the names of the providers that would be used. Raises SettingsError as `providers_of`."""

    def nobody() -> Asks:
        raise AssertionError("nothing is asked to check settings")

    return tuple(providers_of(rules, nobody, SystemClock()))


def _check_address(address: str) -> None:
    parts: Any = urlsplit(address)
    fine = (
        parts.hostname and not parts.path.strip("/") and not (parts.query or parts.fragment or parts.username)
    )
    if not fine or (parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in LOOPBACK)):
        raise SettingsError(
            f"oidc.address is '{address}', and a provider sends people back there",
            remedy="write this server's own address as browsers reach it, like https://credits.example.org",
        )


def _check_issuer(one: OidcProvider, place: str) -> None:
    parts = urlsplit(one.issuer)
    fine = parts.hostname and not (parts.query or parts.fragment or parts.username)
    if not fine or parts.scheme not in ({"https", "http"} if one.private else {"https"}):
        raise SettingsError(
            f"{place}.issuer is '{one.issuer}'",
            remedy="write the provider's issuer as its discovery document has it, beginning with https://",
        )
    if not one.client_id:
        raise SettingsError(f"{place} has no client_id", remedy="write what the provider gave you")


def _secret(rules: OidcProvider) -> str:
    if rules.client_secret_env:
        secret = os.environ.get(rules.client_secret_env, "")
        where = f"the environment variable {rules.client_secret_env}"
    elif rules.client_secret_file:
        where = rules.client_secret_file
        try:
            secret = Path(where).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            secret = ""
    else:
        return ""  # a public client, which PKCE alone protects
    if not secret:
        raise SettingsError(
            f"the client secret of provider '{rules.name}' is not in {where}",
            remedy="put it there, or leave both keys out for a client without a secret",
        )
    return secret
