"""OpenID Connect as values: where somebody is sent to sign in, and whether what comes back is believed.

Only one way is spoken: an authorization code, with PKCE, for an ID token that its provider signed. Three
secrets bind the way out to the way back (state, nonce and PKCE's verifier), all made from the random token
in the browser's cookie, so that nothing secret of it lies in the store. Of an ID token one thing is taken:
whose it is, the subject that its issuer gives them. What they may do here is asked of our own store, and an
e-mail address, of which nobody knows who has checked it, is never looked at.

Source: OpenID Connect Core 1.0, 3.1; Discovery 1.0; RFC 7636 (PKCE); RFC 9207 (`iss`); RFC 8725 (which
signatures are believed); RFC 9700.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec

from proxy.addresses import is_address, is_public
from proxy.errors import SettingsError, Unauthenticated, Unavailable

# What may sign an ID token: the kind of its key, and the curve. All are checked by a public key: what anybody
# could make who knows that key (HS256), or what nobody signed (none), is in no list.
ALGORITHMS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
RSA_BITS_MIN: Final = 2_048
LEEWAY_S: Final = 60  # between our clock and the provider's
TOKEN_CHARACTERS_MAX: Final = 16_384  # some providers write all of somebody's groups into it
SUBJECT_CHARACTERS_MAX: Final = 255  # OpenID Connect Core, 2
URL_CHARACTERS_MAX: Final = 2_000
KEYS_MAX: Final = 100  # of one provider at once; a few are usual


class NotBelieved(Unauthenticated):
    """What a provider or a browser brought does not prove who came."""

    def __init__(self, cause: str, *, remedy: str = "sign in again from the beginning") -> None:
        super().__init__(cause, remedy=remedy, code="oidc_refused")


class UnknownKey(NotBelieved):
    """A signature by a key that is not among those we have read; the provider may have a new one."""


class Discovered(msgspec.Struct, frozen=True):
    """What a provider says of itself, as far as we use it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    id_token_signing_alg_values_supported: tuple[str, ...] = ()
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Jwk(msgspec.Struct, frozen=True):
    """One of a provider's keys: its public parts only."""

    kty: str
    kid: str = ""
    alg: str = ""
    use: str = "sig"
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""


class Header(msgspec.Struct, frozen=True):
    """An ID token's header. crit: what it asks to be understood; we understand nothing more."""

    alg: str
    kid: str = ""
    crit: Any = None


class Claims(msgspec.Struct, frozen=True):
    """What an ID token says, as far as we use it. Times are seconds since the epoch."""

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    exp: float
    iat: float
    nbf: float | None = None
    nonce: str = ""
    azp: str = ""
    at_hash: str = ""


class Tokens(msgspec.Struct, frozen=True):
    """What a code was exchanged for."""

    id_token: str
    access_token: str = ""


class _Keys(msgspec.Struct, frozen=True):
    keys: tuple[msgspec.Raw, ...]


class Bound(msgspec.Struct, frozen=True):
    """The secrets of one sign-in, made from the token in the cookie of whoever began it."""

    state: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        """What the provider is shown of the verifier."""
        return _unpadded(hashlib.sha256(self.verifier.encode()).digest())


def bound_to(cookie: str) -> Bound:
    """Return the secrets of the sign-in that this cookie was given for."""

    def made(what: str) -> str:
        return _unpadded(hmac.new(cookie.encode(), f"oidc {what}".encode(), hashlib.sha256).digest())

    return Bound(made("state"), made("nonce"), made("verifier"))


def is_same(one: str, other: str) -> bool:
    """Compare two secrets, telling nothing by the time it takes."""
    return hmac.compare_digest(one.encode(), other.encode())


def checked_endpoint(url: str, issuer: str, *, private: bool) -> str:
    """Return an address that a provider names. Raises Unavailable for one that nobody may be sent to.

    A provider in a private network may name addresses of its own host only, so that no document of it leads
    us about in there.
    """
    try:
        parts, home = urlsplit(url), urlsplit(issuer)
        whole = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.username is None
        whole = whole and not parts.fragment and parts.port != 0
        plain = url.isascii() and url.isprintable() and not set(url) & set(" \"'<>\\")
        host = parts.hostname or ""
        if private:
            fits = (parts.scheme, parts.netloc) == (home.scheme, home.netloc)
        else:
            fits = parts.scheme == "https" and (not is_address(host) or is_public(host))
    except ValueError:
        whole = plain = fits = False
    if not (whole and plain and fits and len(url) <= URL_CHARACTERS_MAX):
        raise Unavailable(
            f"{issuer} names an address that is not used: {url[:200]!r}",
            remedy="look at its discovery document",
            code="oidc_unavailable",
        )
    return url


def read_discovered(body: bytes, issuer: str, *, private: bool) -> Discovered:
    """Return what a discovery document says. Raises Unavailable for one that is not this issuer's."""
    try:
        found = msgspec.json.decode(body, type=Discovered)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(f"{issuer}'s discovery document cannot be read: {error}") from error
    if found.issuer != issuer:
        raise _unreadable(f"the discovery document of {issuer} is {found.issuer[:200]!r}'s")
    for url in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
        checked_endpoint(url, issuer, private=private)
    signs = found.id_token_signing_alg_values_supported
    if signs and not set(signs) & set(ALGORITHMS):
        raise _unreadable(f"{issuer} signs by {', '.join(signs)[:100]}, none of which is believed")
    return found


def read_keys(body: bytes, issuer: str) -> tuple[Jwk, ...]:
    """Return the keys of a JWKS that could sign; those of kinds we do not know are passed over."""
    try:
        found = msgspec.json.decode(body, type=_Keys).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(f"{issuer}'s keys cannot be read: {error}") from error
    if len(found) > KEYS_MAX:
        raise _unreadable(f"{issuer} has {len(found)} keys; up to {KEYS_MAX} are read")
    keys: list[Jwk] = []
    for one in found:
        try:
            key = msgspec.json.decode(one, type=Jwk)
        except msgspec.DecodeError:
            continue
        if key.use == "sig" and any(_fits(key, alg) for alg in ALGORITHMS):
            keys.append(key)
    return tuple(keys)


def way_out(found: Discovered, client_id: str, redirect: str, scopes: Sequence[str], bound: Bound) -> str:
    """Return the address of the provider's page where somebody signs in."""
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect,
        "scope": " ".join(scopes),
        "state": bound.state,
        "nonce": bound.nonce,
        "code_challenge": bound.challenge,
        "code_challenge_method": "S256",
    }
    joint = "&" if urlsplit(found.authorization_endpoint).query else "?"
    return f"{found.authorization_endpoint}{joint}{urlencode(asked)}"


def exchange(
    found: Discovered, client: tuple[str, str], redirect: str, code: str, bound: Bound
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the form that exchange a code. client: (id, secret or "")."""
    client_id, secret = client
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect,
        "code_verifier": bound.verifier,
    }
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    ways = found.token_endpoint_auth_methods_supported
    if not secret:
        form["client_id"] = client_id
    elif "client_secret_basic" in ways:
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    elif "client_secret_post" in ways:
        form |= {"client_id": client_id, "client_secret": secret}
    else:
        raise _unreadable(f"{found.issuer} takes no client secret: {', '.join(ways)[:100]}")
    return headers, urlencode(form).encode()


def read_tokens(body: bytes) -> Tokens:
    """Return what a code was exchanged for. Raises NotBelieved for what holds no ID token."""
    try:
        return msgspec.json.decode(body, type=Tokens)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotBelieved("the provider answered without an ID token") from error


def subject_of(
    tokens: Tokens, keys: Sequence[Jwk], *, issuer: str, client_id: str, nonce: str, now_s: float
) -> str:
    """Return whose ID token this is. Raises NotBelieved, and UnknownKey where new keys may help."""
    if len(tokens.id_token) > TOKEN_CHARACTERS_MAX:
        raise NotBelieved("the ID token is too long")
    alg, payload = _signed(tokens.id_token, keys)
    try:
        claims = msgspec.json.decode(payload, type=Claims)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotBelieved("the ID token does not say what it must") from error
    audience = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
    earliest = max(claims.iat, claims.nbf or claims.iat)
    wrong = {
        "is another issuer's": claims.iss != issuer,
        "is for another service": client_id not in audience,
        "is for several services and does not say whose it is": len(audience) > 1 and not claims.azp,
        "was given to another service": bool(claims.azp) and claims.azp != client_id,
        "has no time": not all(map(math.isfinite, (claims.exp, claims.iat, earliest))),
        "has ended": not now_s < claims.exp + LEEWAY_S,
        "is not valid yet": not earliest - LEEWAY_S <= now_s,
        "was not asked for by this browser": not is_same(claims.nonce, nonce),
        "belongs to another access token": bool(claims.at_hash)
        and not is_same(claims.at_hash, access_hash(tokens.access_token, alg)),
        "names nobody": not 0 < len(claims.sub) <= SUBJECT_CHARACTERS_MAX or not claims.sub.isprintable(),
    }
    for what, is_so in wrong.items():
        if is_so:
            raise NotBelieved(f"the ID token {what}")
    return claims.sub


def access_hash(access_token: str, alg: str) -> str:
    """Return the left half of an access token's hash: `at_hash`."""
    size = {"256": "sha256", "384": "sha384"}.get(alg[-3:], "sha512")  # EdDSA by Ed25519 is SHA-512
    digest = hashlib.new(size, access_token.encode("utf-8", "surrogateescape")).digest()
    return _unpadded(digest[: len(digest) // 2])


def library() -> Any:
    """Return what checks signatures. Raises SettingsError where the extra is not installed."""
    try:
        return importlib.import_module("jwt")
    except ImportError as error:
        raise SettingsError(
            "[oidc] names providers, and what checks their signatures is not installed",
            remedy="pip install 'endcredits[oidc]'",
        ) from error


def _signed(token: str, keys: Sequence[Jwk]) -> tuple[str, bytes]:
    """Return (algorithm, payload) of a token that one of these keys signed."""
    header = _header(token)
    if header.alg not in ALGORITHMS:
        raise NotBelieved("the ID token is not signed in a way that is believed")
    if header.crit is not None:
        raise NotBelieved("the ID token asks for what is not understood")
    fitting = [one for one in keys if _fits(one, header.alg) and header.kid in {"", one.kid}]
    if len(fitting) != 1:  # none, or several and no name to tell them by
        raise UnknownKey("the ID token is signed by a key that its provider does not publish")
    jwt = library()
    try:
        key = jwt.PyJWK(msgspec.to_builtins(fitting[0]), algorithm=header.alg)
        if fitting[0].kty == "RSA" and key.key.key_size < RSA_BITS_MIN:
            raise NotBelieved("the provider's key is too short to be believed")
        payload: bytes = jwt.PyJWS().decode(token, key, algorithms=[header.alg])
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise NotBelieved("the ID token's signature is not its provider's") from error
    return header.alg, payload


def _header(token: str) -> Header:
    first = token.partition(".")[0]
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)), type=Header)
    except (ValueError, msgspec.DecodeError) as error:
        raise NotBelieved("the ID token cannot be read") from error


def _fits(key: Jwk, alg: str) -> bool:
    kty, curve = ALGORITHMS[alg]
    return key.kty == kty and (not curve or key.crv == curve) and key.alg in {"", alg}


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _unreadable(cause: str) -> Unavailable:
    return Unavailable(cause, remedy="ask whoever runs the provider", code="oidc_unavailable")
