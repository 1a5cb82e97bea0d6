"""The one file that speaks HTTP to backends.

Bytes go up and down as they came: the path and query keep their escapes, headers their case, bodies their
encoding. So the transport is called directly (a client object on top would add, strip and re-quote), and
aiohttp under it is told to add nothing. The app's key never goes up; the backend's key never comes down.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, unquote_to_bytes, urlsplit

import aiohttp
import httpx
import yarl
from httpx_aiohttp import AiohttpTransport

from proxy.errors import BadRequest
from proxy.settings import Backend
from proxy.wire.headers import RawHeaders, named_by_connection

FailureKind = Literal["connect", "timeout", "cut", "protocol"]
URLS_KEPT = 256  # parsing one costs more than the rest of a request; routes without a query are few
WRITTEN_BYTES_MAX = 1 << 18  # of a long body at once: a backend that does not read holds up nobody else
# Servers close idle connections after 5 s or more (uvicorn: 5). We go first: a POST written on a connection
# that is just being closed cannot be repeated safely.
KEPT_ALIVE_S = 4.0

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


class UpstreamFailed(Exception):
    """A backend could not be reached, or broke off. `kind` decides what the client hears."""

    def __init__(self, kind: FailureKind, backend: str, detail: str) -> None:
        super().__init__(f"{backend}: {kind}: {detail}")
        self.kind: FailureKind = kind
        self.backend = backend


class Answer:
    """A backend's answer: its head is here, its body comes as it is read."""

    def __init__(self, backend: Backend, response: httpx.Response, ends_s: float) -> None:
        self.backend = backend
        self.status = response.status_code
        self.headers: list[tuple[bytes, bytes]] = response.headers.raw
        self._response = response
        self._pieces: AsyncIterator[bytes] = aiter(_async_stream(response))
        # By the loop's clock. Whoever reads on keeps it around all of its waits: a timer a read is dear.
        self.ends_s = ends_s
        # The transport's own read time-out covers both waits; a shorter one between bytes is kept here.
        self._idle_s = backend.idle_ms / 1000 if backend.idle_ms < backend.first_byte_ms else None

    async def read(self) -> bytes | None:
        """Return the next bytes as the network gave them, None at the end. Raises UpstreamFailed."""
        try:
            if self._idle_s is None:
                return await anext(self._pieces, None)
            async with asyncio.timeout(self._idle_s):
                return await anext(self._pieces, None)
        except (httpx.HTTPError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failed(error, self.backend.name, has_begun=True) from error

    async def aclose(self) -> None:
        """Let the connection go: back to the pool if all was read, closed otherwise."""
        try:
            await self._response.aclose()
        except (httpx.HTTPError, aiohttp.ClientError, OSError):
            return  # it is gone, which is what was wanted


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
        self._transports: dict[tuple[bool, str, str], httpx.AsyncBaseTransport] = {}
        self._urls: dict[tuple[str, bytes, str], httpx.URL] = {}

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
        ends_s = asyncio.get_running_loop().time() + backend.whole_ms / 1000
        kept = upward(
            headers,
            key=self._keys[backend.name],
            key_header=backend.key_header,
            identity=identity,
            body=body,
            is_vouched=is_vouched,
        )
        content = body
        if isinstance(body, bytes) and len(body) > WRITTEN_BYTES_MAX:
            kept.append((b"content-length", b"%d" % len(body)))
            content = _slices(body)
        request = httpx.Request(
            method,
            self._url(backend, raw_path, query, model),
            headers=kept,
            content=content,
            extensions={"timeout": {
                "connect": backend.connect_ms / 1000,
                "read": max(backend.first_byte_ms, backend.idle_ms) / 1000,
                "pool": None,
            }},
        )  # fmt: skip
        try:
            async with asyncio.timeout(min(backend.first_byte_ms, backend.whole_ms) / 1000):
                response = await self._transport(backend).handle_async_request(request)
        except (httpx.HTTPError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failed(error, backend.name, has_begun=False) from error
        answer = Answer(backend, response, ends_s)
        if not 200 <= answer.status <= 599:  # nobody asked to switch protocols, and servers know no others
            await answer.aclose()
            raise UpstreamFailed("protocol", backend.name, f"status {answer.status}")
        return answer

    async def aclose(self) -> None:
        """Close every connection."""
        for transport in self._transports.values():
            await transport.aclose()
        self._transports.clear()

    def _transport(self, backend: Backend) -> httpx.AsyncBaseTransport:
        if self._given is not None:
            return self._given
        way = (backend.tls_verify, backend.ca_file, self._proxies[backend.name])
        transport = self._transports.get(way)
        if transport is None:
            transport = self._transports[way] = faithful_transport(*way)
        return transport

    def _url(self, backend: Backend, raw_path: bytes, query: bytes, model: str | None) -> httpx.URL:
        deployment = model if backend.api_version and model else ""
        url = self._urls.get((backend.name, raw_path, deployment)) if not query else None
        if url is None:
            url = httpx.URL(_written(backend, raw_path, query, deployment))
            if not query and len(self._urls) < URLS_KEPT:
                self._urls[backend.name, raw_path, deployment] = url
        return url


def _written(backend: Backend, raw_path: bytes, query: bytes, deployment: str) -> str:
    """Return the address of a request; on Azure, models are deployments, and every request says a version."""
    path, asked = raw_path.removeprefix(b"/v1").decode("latin-1"), query.decode("latin-1")
    base = backend.url.rstrip("/")
    if backend.api_version:
        if deployment and path in _OF_A_DEPLOYMENT:
            base += "/deployments/" + quote(deployment, safe="")
        if not any(part.partition("=")[0] == "api-version" for part in asked.split("&")):
            asked += ("&" if asked else "") + "api-version=" + backend.api_version
    return base + path + ("?" + asked if asked else "")


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), WRITTEN_BYTES_MAX):
        yield body[start : start + WRITTEN_BYTES_MAX]


def proxy_for(url: str, environ: Mapping[str, str]) -> str:
    """Return the proxy that the environment names for this address, "" for none."""
    parts = urlsplit(url)
    named = {name.lower(): value for name, value in environ.items() if name.lower().endswith("_proxy")}
    host = parts.hostname or ""
    for exception in named.get("no_proxy", "").lower().split(","):
        suffix = exception.strip().lstrip(".")
        if suffix == "*" or (suffix and (host == suffix or host.endswith("." + suffix))):
            return ""
    return named.get(f"{parts.scheme}_proxy") or named.get("all_proxy", "")


def faithful_transport(
    verify: bool = True,  # noqa: FBT002  the setting's own name and default
    ca_file: str = "",
    proxy: str = "",
) -> httpx.AsyncBaseTransport:
    """Return aiohttp behind httpx's interface, told to add nothing, decode nothing and remember nothing."""
    trust = ssl.create_default_context(cafile=ca_file) if ca_file and verify else verify

    def session() -> aiohttp.ClientSession:
        made = aiohttp.ClientSession(
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, ssl=trust, keepalive_timeout=KEPT_ALIVE_S),
            trust_env=False,  # a proxy is named above; the rest of it would add credentials from ~/.netrc
        )
        # Private, and the only way in: aiohttp would quote an already quoted path once more.
        vars(made)["_build_url"] = _as_written
        return made

    return AiohttpTransport(client=session, proxy=httpx.Proxy(proxy) if proxy else None)


def _as_written(url: Any) -> Any:
    return yarl.URL(url, encoded=True) if isinstance(url, str) else url


def check_path(raw_path: bytes) -> None:
    """Refuse a path that would leave /v1 on the backend: HTTP clients resolve dot segments before sending.

    Encoded dots and slashes count too, because a backend may decode them. Raises BadRequest.
    """
    segments = unquote_to_bytes(raw_path).replace(b"\\", b"/").split(b"/")
    if b"." in segments or b".." in segments:
        raise BadRequest(
            "the path has a dot segment", remedy="send the path it resolves to", code="dot_segment"
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
    drops = _NOT_FORWARDED | named_by_connection(headers)
    if not is_vouched:
        drops |= _CLAIMS
    if isinstance(body, bytes):
        drops |= {b"content-length"}  # said anew: the body may have changed
    if identity:
        drops |= {b"accept-encoding"}
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


def _failed(error: BaseException, backend: str, *, has_begun: bool) -> UpstreamFailed:
    return UpstreamFailed(_kind(error, has_begun=has_begun), backend, type(error).__name__)


def _kind(error: BaseException, *, has_begun: bool) -> FailureKind:
    # ServerDisconnectedError reaches httpx's names as a connect time-out; nothing was answered, much may be
    # sent.
    cause = error.__cause__
    if isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) and not isinstance(
        cause, aiohttp.ClientConnectorError
    ):
        return "cut"
    if not has_begun and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "connect"
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return "timeout"
    if isinstance(error, httpx.ProtocolError | aiohttp.ClientResponseError):
        return "protocol"
    return "cut"


def _async_stream(response: httpx.Response) -> httpx.AsyncByteStream:
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)  # an async transport gives no other
    return stream
