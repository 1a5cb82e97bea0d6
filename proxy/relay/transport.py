"""Ways to a backend: our own connections, or any transport of httpx; and ours behind httpx's interface.

The relay asks through `Way` and never sees httpx's objects: building them costs more than the rest of a
request. httpx's own transport is the way through a proxy of the environment and to HTTP/2; a transport that a
test hands in is another. `OwnTransport` is our connections for whoever wants httpx's interface, and what the
one suite that all transports must pass is run against.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import httpx

from proxy.relay.connection import WRITTEN_BYTES_MAX, Failed, FailureKind, Reply
from proxy.relay.connections import KEPT_ALIVE_S, Connections, Origin
from proxy.wire.headers import RawHeaders

URLS_KEPT = 256  # parsing one costs more than the rest of a request; routes without a query are few
NO_LIMIT_S = 86_400.0  # for a caller that names no time-out; a timer needs some end
_PORTS = {"http": 80, "https": 443}
_SAID_ANEW = frozenset({b"host", b"transfer-encoding"})


class ReplyLike(Protocol):
    """A reply whose head is here."""

    status: int
    headers: list[tuple[bytes, bytes]]

    async def read(self) -> bytes | None:
        """Return the next bytes, None at the end. Raises Failed."""
        ...

    def close(self) -> Any:
        """Let it go; what is returned, if anything, is awaited."""
        ...


class Way(Protocol):
    """How a backend is reached. See `Connections.ask` for what goes in and out."""

    @property
    def busy(self) -> int:
        """Connections that some request holds, where that is known."""
        ...

    async def ask(
        self,
        method: str,
        target: bytes,
        headers: RawHeaders,
        body: bytes | AsyncIterator[bytes],
        *,
        connect_s: float,
        first_byte_s: float,
        idle_s: float,
    ) -> ReplyLike:
        """Send a request; return when its reply's head is here. Raises Failed."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


def origin_of(url: httpx.URL, tls: ssl.SSLContext | None) -> Origin:
    """Return where a URL points. tls: used when its scheme is https."""
    port = url.port or _PORTS[url.scheme]
    return Origin(url.raw_host.decode("ascii"), port, url.netloc, tls if url.scheme == "https" else None)


def trust(*, verify: bool = True, ca_file: str = "") -> ssl.SSLContext:
    """Return what is believed of a backend's certificate: the system's authorities, a file's, or anything."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def httpx_transport(tls: ssl.SSLContext, proxy: str = "") -> httpx.AsyncBaseTransport:
    """Return httpx's own transport, which speaks HTTP/2 where h2 is installed, and to proxies."""
    return httpx.AsyncHTTPTransport(
        verify=tls,
        http2=importlib.util.find_spec("h2") is not None,
        # As many connections as there are requests, as ours; it would let the hundred and first wait.
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEPT_ALIVE_S
        ),
        proxy=httpx.Proxy(proxy) if proxy else None,
        trust_env=False,  # the proxy is named; the rest of it would add credentials from ~/.netrc
    )


class ThroughHttpx:
    """A transport of httpx as a way to one origin."""

    busy = 0  # its own affair

    def __init__(self, transport: httpx.AsyncBaseTransport, base: httpx.URL) -> None:
        self._transport = transport
        self._base = f"{base.scheme}://{base.netloc.decode('ascii')}"
        self._urls: dict[bytes, httpx.URL] = {}

    async def ask(
        self,
        method: str,
        target: bytes,
        headers: RawHeaders,
        body: bytes | AsyncIterator[bytes],
        *,
        connect_s: float,
        first_byte_s: float,
        idle_s: float,
    ) -> ReplyLike:
        """Send a request; return when its reply's head is here. Raises Failed, or what the body raised."""
        given = list(headers)
        if isinstance(body, bytes) and len(body) > WRITTEN_BYTES_MAX:
            given.append((b"content-length", b"%d" % len(body)))
            body = _slices(body)
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(first_byte_s)

        def put_off() -> None:
            limit.reschedule(loop.time() + first_byte_s)

        sent = None if isinstance(body, bytes) else _Sent(body, put_off)
        request = httpx.Request(
            method,
            self._url(target),
            headers=given,
            content=body if sent is None else sent.pieces(),
            extensions={"timeout": {"connect": connect_s, "read": max(first_byte_s, idle_s), "pool": None}},
        )
        try:
            async with limit:
                response = await self._transport.handle_async_request(request)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            if sent is not None and sent.broken is not None:
                raise sent.broken from error
            raise _failed(error, has_begun=False) from error
        return _HttpxReply(response, idle_s if idle_s < first_byte_s else None)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    def _url(self, target: bytes) -> httpx.URL:
        url = self._urls.get(target)
        if url is None:
            url = httpx.URL(self._base + target.decode("latin-1"))
            if b"?" not in target and len(self._urls) < URLS_KEPT:
                self._urls[target] = url
        return url


class _Sent:
    """A body on its way up: it takes its own time, and may break off by itself. Neither is the backend's."""

    def __init__(self, body: AsyncIterator[bytes], when_sent: Callable[[], None]) -> None:
        self._body = body
        self._when_sent = when_sent  # called when a piece has gone up
        self.broken: Exception | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                yield piece
                self._when_sent()
        except Exception as error:
            self.broken = error
            raise


class _HttpxReply:
    def __init__(self, response: httpx.Response, idle_s: float | None) -> None:
        self.status = response.status_code
        self.headers: list[tuple[bytes, bytes]] = response.headers.raw
        self._response = response
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)  # an async transport gives no other
        self._pieces: AsyncIterator[bytes] = aiter(stream)
        self._idle_s = idle_s  # None where the transport's own time-out, one for both waits, is as short

    async def read(self) -> bytes | None:
        try:
            if self._idle_s is None:
                return await anext(self._pieces, None)
            async with asyncio.timeout(self._idle_s):
                return await anext(self._pieces, None)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise _failed(error, has_begun=True) from error

    async def close(self) -> None:
        try:
            await self._response.aclose()
        except (httpx.HTTPError, OSError):
            return  # it is gone, which is what was wanted


def _failed(error: Exception, *, has_begun: bool) -> Failed:
    return Failed(_kind(error, has_begun=has_begun), type(error).__name__)


def _kind(error: Exception, *, has_begun: bool) -> FailureKind:
    if not has_begun and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "connect"
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return "timeout"
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" in str(error):
        return "cut"  # h11's words for a connection that was closed before or inside a reply
    if isinstance(error, httpx.RemoteProtocolError) and "peer closed connection" in str(error):
        return "cut"
    if isinstance(error, httpx.ProtocolError):
        return "protocol"
    return "cut"


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), WRITTEN_BYTES_MAX):
        yield body[start : start + WRITTEN_BYTES_MAX]


class OwnTransport(httpx.AsyncBaseTransport):
    """Our connections behind httpx's interface, to any origin."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, kept_alive_s: float = KEPT_ALIVE_S) -> None:
        self._tls = tls or trust()
        self._kept_alive_s = kept_alive_s
        self._origins: dict[tuple[str, str, int | None], Connections] = {}

    @property
    def busy(self) -> int:
        """Connections that some request holds."""
        return sum(connections.busy for connections in self._origins.values())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises httpx's exceptions. Its `pool` and `write` time-outs mean nothing here."""
        url = request.url
        place = (url.scheme, url.host, url.port)
        connections = self._origins.get(place)
        if connections is None:
            connections = Connections(origin_of(url, self._tls), kept_alive_s=self._kept_alive_s)
            self._origins[place] = connections
        body: bytes | AsyncIterator[bytes]
        stream, drops = request.stream, _SAID_ANEW
        if isinstance(stream, httpx.ByteStream):
            body, drops = request.content, drops | {b"content-length"}
        else:
            assert isinstance(stream, httpx.AsyncByteStream)
            body = aiter(stream)
        headers = [(name, value) for name, value in request.headers.raw if name.lower() not in drops]
        times: Mapping[str, float | None] = request.extensions.get("timeout", {})
        try:
            reply = await connections.ask(
                request.method,
                url.raw_path,
                headers,
                body,
                connect_s=_seconds(times, "connect"),
                first_byte_s=_seconds(times, "read"),
                idle_s=_seconds(times, "read"),
            )
        except Failed as failed:
            raise _as_httpx(failed, request) from failed
        return httpx.Response(
            reply.status, headers=reply.headers, stream=_ReplyStream(reply, request), request=request
        )

    async def aclose(self) -> None:
        """Close every connection."""
        for connections in self._origins.values():
            await connections.aclose()


class _ReplyStream(httpx.AsyncByteStream):
    def __init__(self, reply: Reply, request: httpx.Request) -> None:
        self._reply = reply
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self._reply.read()) is not None:
                yield piece
        except Failed as failed:
            raise _as_httpx(failed, self._request) from failed

    async def aclose(self) -> None:
        self._reply.close()


def _seconds(times: Mapping[str, float | None], name: str) -> float:
    seconds = times.get(name)
    return NO_LIMIT_S if seconds is None else seconds


_HTTPX: Mapping[FailureKind, type[httpx.TransportError]] = {
    "connect": httpx.ConnectError, "timeout": httpx.ReadTimeout, "cut": httpx.ReadError,
    "protocol": httpx.RemoteProtocolError,
}  # fmt: skip


def _as_httpx(failed: Failed, request: httpx.Request) -> httpx.TransportError:
    return _HTTPX[failed.kind](str(failed), request=request)
