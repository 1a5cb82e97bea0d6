"""The one file that speaks HTTP to backends.

Bytes go up and down as they came: the path and query keep their escapes, headers their case, bodies their
encoding. A backend is asked over our own connections, or through a transport of httpx where its settings say
so, it is behind a proxy, or a test hands one in. The app's key never goes up; the backend's key never comes
down.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import quote, unquote_to_bytes, urlsplit

import httpx

from proxy.errors import BadRequest
from proxy.relay.connection import Failed, FailureKind
from proxy.relay.connections import Connections
from proxy.relay.transport import ReplyLike, ThroughHttpx, Way, httpx_transport, origin_of, trust
from proxy.settings import Backend
from proxy.wire.headers import RawHeaders, named_by_connection

# Empty segments, parameters, backslashes, and escapes of what needs none: RFC 3986, 2.3 and 6.2.2.2.
_READ_IN_TWO_WAYS = re.compile(
    rb"//|[\\;]|%(?:2[5DEF]|3[0-9B]|4[1-9A-F]|5[0-9ACF]|6[1-9A-F]|7[0-9AE])", re.IGNORECASE
)
TARGETS_KEPT = 256  # routes without a query are few

# On Azure these are asked of a deployment, named in the path; every other route is the resource's own.
_OF_A_DEPLOYMENT = frozenset({
    "/chat/completions", "/completions", "/embeddings", "/audio/speech", "/audio/transcriptions",
    "/audio/translations", "/images/generations", "/images/edits",
})  # fmt: skip
_KEYS = frozenset({b"authorization", b"x-api-key", b"api-key"})
# For whom a request is, as a proxy says it; anybody can write them, and backends believe them.
_CLAIMS = frozenset({
    b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port",
    b"x-real-ip",
})  # fmt: skip
_NOT_FORWARDED = _KEYS | {
    b"host", b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"expect",
}  # fmt: skip


def _drops() -> dict[tuple[bool, bool, bool], frozenset[bytes]]:
    """Return what is dropped when a body is whole, the answer is to be identity, the peer is vouched for."""
    made: dict[tuple[bool, bool, bool], frozenset[bytes]] = {}
    for is_whole in (False, True):
        for identity in (False, True):
            for is_vouched in (False, True):
                dropped = set(_NOT_FORWARDED if is_vouched else _NOT_FORWARDED | _CLAIMS)
                if is_whole:
                    dropped.add(b"content-length")  # said anew: the body may have changed
                if identity:
                    dropped.add(b"accept-encoding")
                made[is_whole, identity, is_vouched] = frozenset(dropped)
    return made


_DROPPED = _drops()


class UpstreamFailed(Exception):
    """A backend could not be reached, or broke off. `kind` decides what the client hears."""

    def __init__(self, kind: FailureKind, backend: str, detail: str) -> None:
        super().__init__(f"{backend}: {kind}: {detail}")
        self.kind: FailureKind = kind
        self.backend = backend


class BodyBroken(UpstreamFailed):
    """The request's body broke off while it went up: its sender's doing, and no word on the backend."""


class Answer:
    """A backend's answer: its head is here, its body comes as it is read."""

    __slots__ = ("_reply", "backend", "ends_s", "headers", "status")

    def __init__(self, backend: Backend, reply: ReplyLike, ends_s: float) -> None:
        self.backend = backend
        self.status = reply.status
        self.headers: list[tuple[bytes, bytes]] = reply.headers
        self._reply = reply
        # By the loop's clock. Whoever reads on keeps it around all of its waits: a timer a read is dear.
        self.ends_s = ends_s

    async def read(self) -> bytes | None:
        """Return the next bytes as the network gave them, None at the end. Raises UpstreamFailed."""
        try:
            return await self._reply.read()
        except Failed as failed:
            raise UpstreamFailed(failed.kind, self.backend.name, str(failed)) from failed

    async def aclose(self) -> None:
        """Let the connection go: free for the next if all has come, closed otherwise."""
        closing = self._reply.close()
        if closing is not None:
            await closing


class Upstream:
    """Opens requests to backends. `transport` stands in for the network in tests."""

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._keys = {b.name: environ.get(b.api_key_env, "") if b.api_key_env else "" for b in backends}
        self._given = transport
        self._proxies = {b.name: proxy_for(b.url, environ) if b.env_proxies else "" for b in backends}
        self._ways: dict[str, Way] = {}
        self._trusts: dict[tuple[bool, str], ssl.SSLContext] = {}  # reading the authorities takes a while
        self._targets: dict[tuple[str, bytes, str], bytes] = {}

    @property
    def busy(self) -> int:
        """Connections of our own that some request holds."""
        return sum(way.busy for way in self._ways.values())

    async def open(
        self,
        backend: Backend,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: RawHeaders,
        body: bytes | AsyncIterator[bytes],
        *,
        identity: bool,
        model: str | None = None,
        is_vouched: bool = False,
    ) -> Answer:
        """Send a request; return when the answer's head is there.

        raw_path: as the client sent it, with /v1. identity: ask for an answer that is not compressed, because
        it will be read. model: as the backend calls it; only Azure's paths name it. is_vouched: the peer is
        trusted to say for whom it asks. Raises UpstreamFailed; kind "connect": nothing was sent.
        """
        name, whole_s = backend.name, backend.whole_ms / 1000
        ends_s = asyncio.get_running_loop().time() + whole_s
        kept = upward(
            headers,
            key=self._keys[name],
            key_header=backend.key_header,
            identity=identity,
            body=body,
            is_vouched=is_vouched,
        )
        try:
            reply = await (self._ways.get(name) or self._way(backend)).ask(
                method,
                self._target(backend, raw_path, query, model),
                kept,
                body,
                connect_s=backend.connect_ms / 1000,
                first_byte_s=min(backend.first_byte_ms / 1000, whole_s),
                idle_s=backend.idle_ms / 1000,
            )
        except Failed as failed:
            raise UpstreamFailed(failed.kind, name, str(failed)) from failed
        except OSError as error:
            raise BodyBroken("cut", name, type(error).__name__) from error
        answer = Answer(backend, reply, ends_s)
        if not 200 <= answer.status <= 599:  # nobody asked to switch protocols, and servers know no others
            await answer.aclose()
            raise UpstreamFailed("protocol", name, f"status {answer.status}")
        return answer

    async def aclose(self) -> None:
        """Close every connection."""
        for way in self._ways.values():
            await way.aclose()
        self._ways.clear()

    def _way(self, backend: Backend) -> Way:
        base, proxy = httpx.URL(backend.url), self._proxies[backend.name]
        if self._given is not None:
            way: Way = ThroughHttpx(self._given, base)
        elif proxy or backend.transport == "httpx":
            # It offers HTTP/2 on the context that it is given: ours are never shared with it.
            tls = trust(verify=backend.tls_verify, ca_file=backend.ca_file)
            way = ThroughHttpx(httpx_transport(tls, proxy), base)
        else:
            way = Connections(origin_of(base, self._trust(backend) if base.scheme == "https" else None))
        self._ways[backend.name] = way
        return way

    def _trust(self, backend: Backend) -> ssl.SSLContext:
        whom = (backend.tls_verify, backend.ca_file)
        if whom not in self._trusts:
            self._trusts[whom] = trust(verify=backend.tls_verify, ca_file=backend.ca_file)
        return self._trusts[whom]

    def _target(self, backend: Backend, raw_path: bytes, query: bytes, model: str | None) -> bytes:
        deployment = model if backend.api_version and model else ""
        target = self._targets.get((backend.name, raw_path, deployment)) if not query else None
        if target is None:
            target = _target(backend, raw_path, query, deployment)
            if not query and len(self._targets) < TARGETS_KEPT:
                self._targets[backend.name, raw_path, deployment] = target
        return target


def _target(backend: Backend, raw_path: bytes, query: bytes, deployment: str) -> bytes:
    """Return path and query; on Azure models are deployments, and every request says a version."""
    path = raw_path.removeprefix(b"/v1")
    base = httpx.URL(backend.url).raw_path.rstrip(b"/")
    if backend.api_version:
        if deployment and path.decode("latin-1") in _OF_A_DEPLOYMENT:
            base += b"/deployments/" + quote(deployment, safe="").encode("ascii")
        if not any(part.partition(b"=")[0] == b"api-version" for part in query.split(b"&")):
            query += (b"&" if query else b"") + b"api-version=" + backend.api_version.encode("ascii")
    return (base + path or b"/") + (b"?" + query if query else b"")


def proxy_for(url: str, environ: Mapping[str, str]) -> str:
    """Return the proxy that the environment names for this address, "" for none."""
    parts = urlsplit(url)
    named = {name.lower(): value for name, value in environ.items() if name.lower().endswith("_proxy")}
    host = parts.hostname or ""
    for exception in named.get("no_proxy", "").lower().split(","):
        suffix = exception.strip().lstrip(".")
        if suffix == "*" or (suffix and (host == suffix or host.endswith("." + suffix))):
            return ""
    found = (named.get(f"{parts.scheme}_proxy") or named.get("all_proxy", "")).strip()
    return found if "://" in found or not found else f"http://{found}"


def check_path(raw_path: bytes) -> None:
    """Refuse a path that a backend could take for another than we do. Raises BadRequest.

    One that would leave /v1 there: HTTP clients resolve dot segments before sending. And one that is written
    so that it becomes the path of a metered route, or of what another app made, when somebody decodes it,
    merges its slashes or cuts off parameters. Names of models may hold slashes, and nothing hangs on them.
    """
    segments = unquote_to_bytes(raw_path).replace(b"\\", b"/").split(b"/")
    if b"." in segments or b".." in segments:
        raise BadRequest(
            "the path has a dot segment", remedy="send the path it resolves to", code="dot_segment"
        )
    if _READ_IN_TWO_WAYS.search(raw_path) and not raw_path.startswith(b"/v1/models/"):
        raise BadRequest(
            "the path can be read in two ways",
            remedy="send it without empty segments, `;`, and escapes of letters, digits, slashes and `%`",
            code="ambiguous_path",
        )


def upward(
    headers: RawHeaders,
    *,
    key: str,
    identity: bool,
    body: bytes | AsyncIterator[bytes],
    key_header: str = "authorization",
    is_vouched: bool = False,
) -> list[tuple[bytes, bytes]]:
    """Return the request headers a backend gets: the client's, less what is ours or only for our hop."""
    drops = _DROPPED[isinstance(body, bytes), identity, is_vouched]
    if named := named_by_connection(headers):
        drops |= named
    kept = [
        (name, value)
        for name, value in headers
        if (lower := name.lower()) not in drops and not lower.startswith(b"x-attribution")
    ]
    if identity:
        kept.append((b"accept-encoding", b"identity"))
    if key:
        scheme = b"Bearer " if key_header == "authorization" else b""
        kept.append((key_header.encode("ascii"), scheme + key.encode("latin-1")))
    return kept
