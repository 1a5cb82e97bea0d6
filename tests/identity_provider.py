"""A little identity provider on loopback: real HTTP, real signatures, and every way to lie that a test asks for.

It speaks OpenID Connect's code flow with PKCE as a provider should, and signs with `cryptography` alone, so that
what checks the tokens is not what made them. `claims` and `header` change what its tokens say, `documents` what
it publishes, `sign` how it signs.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from proxy.clock import SystemClock
from proxy.settings import OidcProvider

CLIENT, SECRET = "credits", "a secret: with/odd+signs"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@functools.cache
def rsa_key(name: str = "", bits: int = 2_048) -> rsa.RSAPrivateKey:
    """One key for each name, because making one takes a tenth of a second."""
    return rsa.generate_private_key(65_537, bits)


@functools.cache
def ec_key(name: str = "") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def ed_key(name: str = "") -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str = "", **more: Any) -> dict[str, Any]:
    """A public key as providers publish it."""
    named = ({"kid": kid} if kid else {}) | {"use": "sig"} | more
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        parts = public.public_numbers()
        return {"kty": "RSA", "n": number(parts.n), "e": number(parts.e)} | named
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)} | named
    parts = public.public_numbers()
    at = {"x": b64(parts.x.to_bytes(32, "big")), "y": b64(parts.y.to_bytes(32, "big"))}
    return {"kty": "EC", "crv": "P-256"} | at | named


def signature(alg: str, key: Any, said: bytes) -> bytes:
    """Sign, or do what alg says that is none: HS256 takes the public key's PEM for its secret."""
    if alg == "none":
        return b""
    if alg.startswith("HS"):
        pem = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hmac.digest(pem, said, "sha256")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(said)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(said, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if alg.startswith("PS"):
        salted = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        return key.sign(said, salted, hashes.SHA256())
    return key.sign(said, padding.PKCS1v15(), hashes.SHA256())


def token(claims: dict[str, Any], key: Any, *, alg: str = "RS256", kid: str = "k1", **header: Any) -> str:
    """A compact JWS of these claims; None leaves something out."""
    head = {"alg": alg, "typ": "JWT", "kid": kid} | header
    parts = [{name: value for name, value in part.items() if value is not None} for part in (head, claims)]
    said = ".".join(b64(json.dumps(part).encode()) for part in parts)
    return f"{said}.{b64(signature(alg, key, said.encode()))}"


@dataclass
class IdentityProvider:
    """What it is asked and what it answers. subject: who is at its page."""

    issuer: str
    subject: str = "sub-1"
    client: str = CLIENT
    secret: str = SECRET
    kid: str = "k1"
    alg: str = "RS256"
    key: Any = field(default_factory=rsa_key)
    published: list[dict[str, Any]] | None = None  # instead of `key`
    claims: dict[str, Any] = field(default_factory=dict)  # over what a token says; None leaves it out
    header: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)  # over what discovery says
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # by path, instead of its own
    asked: list[tuple[str, str]] = field(default_factory=list)  # method and path of every request
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)  # why a code was not exchanged
    altered: Callable[[str], str] = str  # the last word on an ID token

    def rules(self, **more: Any) -> OidcProvider:
        """Return this provider as an operator would configure it."""
        wanted = {"name": "acme", "issuer": self.issuer, "client_id": self.client, "private": True}
        return OidcProvider(**(wanted | more))

    def times(self, path: str) -> int:
        return sum(asked == path for _, asked in self.asked)

    def reply(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes, str]:
        """(status, body, location) of one request."""
        parts = urlsplit(target)
        self.asked.append((method, parts.path))
        if parts.path in self.answers:
            return *self.answers[parts.path], ""
        query = dict(parse_qsl(parts.query))
        match parts.path:
            case "/.well-known/openid-configuration":
                return 200, json.dumps(self._discovery() | self.documents).encode(), ""
            case "/keys":
                keys = [jwk(self.key, self.kid)] if self.published is None else self.published
                return 200, json.dumps({"keys": keys}).encode(), ""
            case "/authorize":
                return self._authorize(query)
            case "/token":
                return *self._token(headers, dict(parse_qsl(body.decode()))), ""
        return 404, b"{}", ""

    def agreed(self, address: str) -> str:
        """Sign in at the page of this address; return where its provider sends the browser."""
        parts = urlsplit(address)
        status, _, location = self._authorize(dict(parse_qsl(parts.query)))
        assert status == 302, status
        return location

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "response_types_supported": ["code"],
        }

    def _authorize(self, query: dict[str, str]) -> tuple[int, bytes, str]:
        right = query.get("client_id") == self.client and query.get("response_type") == "code"
        right = right and "openid" in query.get("scope", "").split()
        if not right or query.get("code_challenge_method") != "S256":
            return 400, b"", ""
        code = secrets.token_urlsafe(16)
        self.codes[code] = query | {"subject": self.subject}
        told = {"code": code, "state": query["state"], "iss": self.issuer}
        return 302, b"", f"{query['redirect_uri']}?{urlencode(told)}"

    def _token(self, headers: dict[str, str], form: dict[str, str]) -> tuple[int, bytes]:
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        named = headers.get("authorization", "").removeprefix("Basic ")
        pair = base64.b64decode(named).decode().split(":") if named else []
        given = [unquote_plus(part) for part in pair] or [
            form.get("client_id", ""),
            form.get("client_secret", ""),
        ]
        wrong = {
            "client": given != [self.client, self.secret],
            "code": asked is None,
            "verifier": asked is not None and challenge != asked["code_challenge"],
            "redirect": asked is not None and form.get("redirect_uri") != asked["redirect_uri"],
        }
        refused = [what for what, is_so in wrong.items() if is_so]
        if refused or asked is None:
            self.refusals += refused
            return 400, b'{"error": "invalid_grant"}'
        access, now_s = secrets.token_urlsafe(16), SystemClock().now_us() // 1_000_000
        said = {
            "iss": self.issuer, "sub": asked["subject"], "aud": self.client, "nonce": asked["nonce"],
            "iat": now_s, "exp": now_s + 300,
            "at_hash": b64(hashlib.sha256(access.encode()).digest()[:16]),
            "email": "ada@example.org", "email_verified": True, "roles": ["operator"],
        }  # fmt: skip
        made = token(said | self.claims, self.key, alg=self.alg, kid=self.kid, **self.header)
        tokens = {"access_token": access, "token_type": "Bearer", "id_token": self.altered(made)}
        return 200, json.dumps(tokens).encode()


@asynccontextmanager
async def identity_provider(**how: Any) -> AsyncIterator[IdentityProvider]:
    """Serve one on a free port of loopback."""
    made = IdentityProvider("", **how)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, target, _ = first.split()
            status, answer, location = made.reply(method, target, headers, body)
            kind = "text/html" if answer.startswith(b"<") else "application/json"
            more = f"location: {location}\r\n" if location else ""
            writer.write(
                f"HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\ncontent-length: {len(answer)}\r\n"
                f"connection: close\r\n{more}\r\n".encode()
                + answer
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # who asked had read enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.issuer = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()
