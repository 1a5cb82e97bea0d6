"""OpenTelemetry for those who want it: GenAI spans and metrics of metered requests, never their text.

Off unless the extra `otel` is installed and the standard OTEL_ variables say where to; then not even
imported. A request only notes times and hands them on. Its spans are made by a thread of their own, from a
bounded queue: a collector that is slow or away costs telemetry, not answers. The ids are made first, because
the backend must be told of its parent (W3C traceparent) before there is anything to say.

Each metered request gives two spans: SERVER, as the application sees it, and CLIENT below it, named
`chat MODEL` as the convention has it. A request that is passed through gives the first.

Source: OpenTelemetry semantic conventions for generative AI (in development) and HTTP; W3C Trace Context.
"""

from __future__ import annotations

import os
import queue
import re
import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from proxy import __version__
from proxy.clock import Clock
from proxy.observability import get_log
from proxy.settings import Backend
from proxy.wire import endpoint_for

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

QUEUE_MAX = 10_000  # requests not told yet: some seconds at the highest rate, a few megabytes
# Of a reply's first and last pieces, read for its id and how it finished; the end may come in several.
KEPT_BYTES_MAX, ENDED_BYTES_MAX = 65_536, 4_096
TRACE = "endcredits.trace"  # where in an ASGI scope a request's trace lies
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)
TOKEN_BUCKETS = tuple(4.0**power for power in range(14))  # 1 to 67,108,864
SECOND_BUCKETS = tuple(0.01 * 2**power for power in range(14))  # 0.01 to 81.92
OPERATIONS = {"completions": "text_completion", "embeddings": "embeddings"}
CHATS = {"chat.completions", "responses", "messages"}
OPT_IN, LATEST = "OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental"
WHERE = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)

Message = Mapping[str, Any]
Scope = Mapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(slots=True)
class Trace:
    """What one request notes as it goes: times in nanoseconds since 1970, and what was metered."""

    trace_id: int
    span_id: int
    inner_id: int  # of the CLIENT span, which the backend is told
    parent_id: int
    sampled: bool
    method: str
    path: str
    started_ns: int
    first_ns: int = 0
    ended_ns: int = 0
    status: int = 0
    head: bytes = b""
    tail: bytes = b""
    is_stream: bool = False
    chunks: int = 0  # events of a stream
    endpoint: str = ""  # metered, once it is known what it was
    outcome: str = ""
    asked_model: str = ""
    model: str = ""
    backend: str = ""
    input_tokens: int = 0
    output_tokens: int = 0

    def noted(
        self, *, endpoint: str, outcome: str, asked: str, model: str, backend: str, tokens: tuple[int, int]
    ) -> None:
        """Take what the request turned out to be."""
        self.endpoint, self.outcome, self.asked_model, self.model = endpoint, outcome, asked, model
        self.backend, (self.input_tokens, self.output_tokens) = backend, tokens


class Telemetry:
    """Makes spans and metrics of what requests note; `opened` makes it as the environment wants it.

    spans: takes finished spans. tracing: says which requests are sampled, and who we are. is_latest: metrics
    by names that the conventions have newly taken in are told too.
    """

    def __init__(
        self,
        spans: SpanProcessor,
        tracing: TracerProvider,
        metering: MeterProvider,
        *,
        clock: Clock,
        backends: Sequence[Backend],
        is_latest: bool = False,
    ) -> None:
        self._spans, self._tracing, self._metering, self._clock = spans, tracing, metering, clock
        self._hosts = {backend.name: urlsplit(backend.url) for backend in backends}
        meter = metering.get_meter("endcredits", __version__)

        def histogram(name: str, unit: str, buckets: Sequence[float], says: str) -> Any:
            return meter.create_histogram(name, unit, says, explicit_bucket_boundaries_advisory=buckets)

        self._tokens = histogram(
            "gen_ai.client.token.usage", "{token}", TOKEN_BUCKETS, "Tokens of one answer"
        )
        self._seconds = {
            name: histogram(f"gen_ai.{name}", "s", SECOND_BUCKETS, says)
            for name, says in (
                ("client.operation.duration", "From the request to the answer's last byte"),
                ("client.operation.time_to_first_chunk", "From the request to a stream's first byte"),
                ("server.request.duration", "From the request to the answer's last byte"),
                ("server.time_to_first_token", "From the request to a stream's first byte"),
                ("client.operation.time_per_output_chunk", "Between two events of a stream, their mean"),
                ("server.time_per_output_token", "Between two tokens of a stream after the first"),
            )
        }
        self._usage = {
            kind: histogram(
                f"gen_ai.client.inference.usage.{kind}_tokens",
                "{token}",
                TOKEN_BUCKETS,
                "Tokens of one answer",
            )
            for kind in (("input", "output") if is_latest else ())
        }
        self._queue: queue.SimpleQueue[Trace | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def traced(self, app: App) -> App:
        """Return the ASGI application that serves as `app` does and notes what it sees."""

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            trace = self._begin(scope)
            headers = [(name, value) for name, value in scope["headers"] if name != b"traceparent"]
            headers.append((b"traceparent", _header(trace)))
            now_ns = self._now_ns

            async def seen(message: Message) -> None:
                if message["type"] == "http.response.start":
                    trace.status = message["status"]
                elif body := message.get("body", b""):
                    if not trace.first_ns:
                        trace.first_ns = now_ns()
                        trace.head = body[:KEPT_BYTES_MAX]
                        trace.is_stream = message.get("more_body", False)
                    trace.tail = (trace.tail[-ENDED_BYTES_MAX:] + body)[-KEPT_BYTES_MAX:]
                    if trace.is_stream:
                        trace.chunks += body.count(b"\ndata:") + body.startswith(b"data:")
                await send(message)

            try:
                await app({**scope, "headers": headers, TRACE: trace}, receive, seen)
            finally:
                trace.ended_ns = now_ns()
                if self._queue.qsize() < QUEUE_MAX:
                    self._queue.put(trace)

        return serve

    def close(self) -> None:
        """Tell what was noted and let the exporters send it; blocks on the collector, seconds at most."""
        self._queue.put(None)
        self._thread.join(5.0)
        self._spans.shutdown()
        self._metering.shutdown(5_000)

    def _now_ns(self) -> int:
        return self._clock.now_us() * 1_000

    def _begin(self, scope: Scope) -> Trace:
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        found = TRACEPARENT.fullmatch(given.decode("latin-1"))
        trace_id, parent_id = (int(found[1], 16), int(found[2], 16)) if found else (0, 0)
        if not (trace_id and parent_id):  # all zeros are no ids
            trace_id, parent_id = secrets.randbits(128) or 1, 0
        sampled = bool(int(found[3], 16) & 1) if found and parent_id else self._samples(trace_id)
        outer = inner = secrets.randbits(64) or 1
        path = scope["raw_path"].decode("latin-1")
        if endpoint_for(scope["method"], path) is not None:  # what is passed through has one span
            inner = secrets.randbits(64) or 1
        now_ns = self._now_ns()
        return Trace(trace_id, outer, inner, parent_id, sampled, scope["method"], path, now_ns)

    def _samples(self, trace_id: int) -> bool:
        return self._tracing.sampler.should_sample(None, trace_id, "").decision.is_sampled()

    # --- on its own thread ---

    def _run(self) -> None:
        while (trace := self._queue.get()) is not None:
            try:
                self._tell(trace)
            except Exception:  # noqa: BLE001  # one odd reply must not end the telemetry of all others
                get_log().warning("telemetry_failed", exc_info=True)

    def _tell(self, trace: Trace) -> None:
        if trace.endpoint:
            self._measure(trace)
        if trace.sampled:
            self._span(trace)

    def _common(self, trace: Trace) -> dict[str, Any]:
        host = self._hosts.get(trace.backend)
        kind = OPERATIONS.get(trace.endpoint, "chat" if trace.endpoint in CHATS else "generate_content")
        common: dict[str, Any] = {
            "gen_ai.operation.name": kind,
            "gen_ai.provider.name": _provider(trace, host.hostname or "" if host else ""),
            "gen_ai.request.model": trace.asked_model,
        }
        if trace.model:
            common["gen_ai.response.model"] = trace.model
        if host is not None and host.hostname:
            common["server.address"] = host.hostname
            common["server.port"] = host.port or (443 if host.scheme == "https" else 80)
        if trace.outcome != "complete":
            common["error.type"] = str(trace.status) if trace.status >= 400 else trace.outcome
        return common

    def _measure(self, trace: Trace) -> None:
        common = self._common(trace)
        whole_s = (trace.ended_ns - trace.started_ns) / 1e9
        for name in ("client.operation.duration", "server.request.duration"):
            self._seconds[name].record(whole_s, common)
        if trace.is_stream and trace.first_ns:
            first_s = (trace.first_ns - trace.started_ns) / 1e9
            for name in ("client.operation.time_to_first_chunk", "server.time_to_first_token"):
                self._seconds[name].record(first_s, common)
            if trace.output_tokens > 1:
                each_s = (trace.ended_ns - trace.first_ns) / 1e9 / (trace.output_tokens - 1)
                self._seconds["server.time_per_output_token"].record(each_s, common)
            if trace.chunks > 1:
                each_s = (trace.ended_ns - trace.first_ns) / 1e9 / (trace.chunks - 1)
                self._seconds["client.operation.time_per_output_chunk"].record(each_s, common)
        for kind, tokens in (("input", trace.input_tokens), ("output", trace.output_tokens)):
            if tokens:
                self._tokens.record(tokens, {**common, "gen_ai.token.type": kind})
            if tokens and kind in self._usage:
                self._usage[kind].record(tokens, common)

    def _span(self, trace: Trace) -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  # the extra; see above

        http: dict[str, Any] = {
            "http.request.method": trace.method,
            "http.response.status_code": trace.status,
        }
        name = trace.method
        if trace.endpoint:
            http["http.route"] = trace.path
            name = f"{trace.method} {trace.path}"
        if trace.status >= 500:
            http["error.type"] = str(trace.status)
        self._put(trace, name, SpanKind.SERVER, trace.span_id, trace.parent_id, http)
        if not trace.endpoint:
            return
        told = self._common(trace)
        told |= {
            "gen_ai.usage.input_tokens": trace.input_tokens,
            "gen_ai.usage.output_tokens": trace.output_tokens,
        }
        told |= said(trace.head, trace.tail)
        name = f"{told['gen_ai.operation.name']} {trace.asked_model}".strip()
        self._put(trace, name, SpanKind.CLIENT, trace.inner_id, trace.span_id, told)

    def _put(
        self, trace: Trace, name: str, kind: Any, span_id: int, parent_id: int, attributes: dict[str, Any]
    ) -> None:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415  # the extra; see above
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415
        from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags  # noqa: PLC0415

        def context(of: int, *, is_remote: bool) -> SpanContext:
            return SpanContext(trace.trace_id, of, is_remote, TraceFlags(TraceFlags.SAMPLED))

        is_error = "error.type" in attributes
        span = ReadableSpan(
            name,
            context(span_id, is_remote=False),
            context(parent_id, is_remote=parent_id == trace.parent_id) if parent_id else None,
            self._tracing.resource,
            attributes,
            kind=kind,
            status=Status(StatusCode.ERROR if is_error else StatusCode.UNSET),
            start_time=trace.started_ns,
            end_time=trace.ended_ns,
            instrumentation_scope=InstrumentationScope("endcredits", __version__),
        )
        self._spans.on_end(span)


def said(head: bytes, tail: bytes) -> dict[str, Any]:
    """Return the reply's id and how its choices finished, from its first and its last piece; never text."""
    found: dict[str, Any] = {}
    if (its_id := re.search(rb'"id"\s*:\s*"([\w.:-]{1,200})"', head)) is not None:
        found["gen_ai.response.id"] = its_id[1].decode("ascii")
    reasons = re.findall(rb'"(?:finish_reason|stop_reason)"\s*:\s*"([a-z_]{1,40})"', tail)
    if reasons:
        found["gen_ai.response.finish_reasons"] = tuple(reason.decode("ascii") for reason in reasons)
    return found


def _provider(trace: Trace, host: str) -> str:
    """Return a well-known name where the address tells it, else the backend's own."""
    if host.endswith(".openai.azure.com"):
        return "azure.ai.openai"
    if host == "api.openai.com":
        return "openai"
    return "anthropic" if trace.endpoint == "messages" else trace.backend or "openai"


def _header(trace: Trace) -> bytes:
    return b"00-%032x-%016x-%02x" % (trace.trace_id, trace.inner_id, trace.sampled)


def opened(
    clock: Clock, backends: Sequence[Backend], environ: Mapping[str, str] = os.environ
) -> Telemetry | None:
    """Return telemetry as the OTEL_ variables want it; None when they want none, or the extra is missing."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(environ.get, WHERE)):
        return None
    try:  # the extra `otel`, which most have not installed
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor, TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        get_log().warning("telemetry_not_installed", remedy="pip install 'endcredits[otel]'")
        return None
    name = environ.get("OTEL_SERVICE_NAME", "endcredits")
    identity: dict[str, str] = {
        "service.name": name,
        "service.version": __version__,
        "service.instance.id": secrets.token_hex(16),  # a worker's own
    }
    resource = Resource.create(identity)
    tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans: SpanProcessor = SynchronousMultiSpanProcessor()
    if environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp":
        spans = BatchSpanProcessor(OTLPSpanExporter())
    readers: list[Any] = []
    if environ.get("OTEL_METRICS_EXPORTER", "otlp") == "otlp":
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    metering = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    is_latest = LATEST in environ.get(OPT_IN, "").split(",")
    return Telemetry(spans, tracing, metering, clock=clock, backends=backends, is_latest=is_latest)
