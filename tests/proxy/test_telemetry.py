from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from proxy.clock import SystemClock
from proxy.settings import Backend
from proxy.telemetry import TOKEN_BUCKETS, Telemetry, opened, said
from tests.live import Live, live, settings_in

pytestmark = pytest.mark.anyio
CLIENTS_TRACE, CLIENTS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "bees and copper bells"


class Heard:
    """What a collector would have got."""

    def __init__(self, *, is_latest: bool = False) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.telemetry = Telemetry(
            SimpleSpanProcessor(self.exporter),
            TracerProvider(shutdown_on_exit=False),
            MeterProvider([self.reader], shutdown_on_exit=False),
            clock=SystemClock(),
            backends=(Backend(url="https://api.openai.com/v1"),),
            is_latest=is_latest,
        )
        self.metrics: dict[str, list[Any]] = {}

    def span(self, kind: SpanKind) -> Any:
        (found,) = (span for span in self.exporter.get_finished_spans() if span.kind is kind)
        return found

    def collect(self) -> None:
        """Read the metrics, once, while they can still be read."""
        for resource in self.reader.get_metrics_data().resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name: list(metric.data.data_points) for metric in scope.metrics}


async def asked(
    tmp_path, *, stream: bool = False, headers: dict[str, str] | None = None, is_latest: bool = False
) -> tuple[Heard, Live]:
    heard = Heard(is_latest=is_latest)
    told = heard.telemetry
    told._metering.shutdown = lambda _timeout: heard.collect()
    async with live(settings_in(tmp_path), telemetry=told) as app:
        app.answers(SECRET, stream=stream)
        answer = await app.chat({**app.key(), **(headers or {})}, stream=stream)
        assert answer.status_code == 200
    return heard, app


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_gives_a_server_span_and_below_it_a_client_span_of_the_conventions(tmp_path, stream):
    heard, _ = await asked(tmp_path, stream=stream)
    outer, inner = heard.span(SpanKind.SERVER), heard.span(SpanKind.CLIENT)
    assert outer.name == "POST /v1/chat/completions"
    assert outer.parent is None
    assert outer.attributes["http.response.status_code"] == 200
    assert inner.parent.span_id == outer.context.span_id
    assert inner.context.trace_id == outer.context.trace_id
    told = dict(inner.attributes)
    assert inner.name == f"chat {told['gen_ai.request.model']}"
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.response.model"]
    assert told["gen_ai.response.id"].startswith("chatcmpl")
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert told["gen_ai.usage.input_tokens"] > 0
    assert told["gen_ai.usage.output_tokens"] > 0
    assert "error.type" not in told
    assert SECRET not in repr([dict(span.attributes) for span in heard.exporter.get_finished_spans()])


async def test_the_clients_trace_is_continued_and_the_backend_is_told_of_the_span_that_asks_it(tmp_path):
    heard, app = await asked(tmp_path, headers={"traceparent": f"00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-01"})
    outer, inner = heard.span(SpanKind.SERVER), heard.span(SpanKind.CLIENT)
    assert f"{outer.context.trace_id:032x}" == CLIENTS_TRACE
    assert f"{outer.parent.span_id:016x}" == CLIENTS_SPAN
    upstream = app.backend.requests[-1].headers.get_list("traceparent")
    assert upstream == [f"00-{CLIENTS_TRACE}-{inner.context.span_id:016x}-01"]


async def test_a_client_that_does_not_sample_is_not_sampled_here_either_and_still_measured(tmp_path):
    heard, app = await asked(tmp_path, headers={"traceparent": f"00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-00"})
    assert heard.exporter.get_finished_spans() == ()
    assert app.backend.requests[-1].headers["traceparent"].endswith("-00")
    assert "gen_ai.client.token.usage" in heard.metrics


@pytest.mark.parametrize(
    "given", ["", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "nonsense", "ff-" + "a" * 49]
)
async def test_a_traceparent_that_is_none_begins_a_trace(tmp_path, given):
    heard, _ = await asked(tmp_path, headers={"traceparent": given})
    assert heard.span(SpanKind.SERVER).parent is None
    assert heard.span(SpanKind.SERVER).context.trace_id != 0


async def test_metrics_have_the_conventions_names_units_and_buckets(tmp_path):
    heard, _ = await asked(tmp_path, stream=True)
    tokens = heard.metrics["gen_ai.client.token.usage"]
    assert {point.attributes["gen_ai.token.type"] for point in tokens} == {"input", "output"}
    assert tuple(tokens[0].explicit_bounds) == TOKEN_BUCKETS == tuple(4.0**n for n in range(14))
    assert set(heard.metrics) == {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
    }


async def test_names_that_the_conventions_have_newly_taken_in_are_told_to_whoever_asks_for_them(tmp_path):
    heard, _ = await asked(tmp_path, is_latest=True)
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in heard.metrics["gen_ai.client.token.usage"]
    }
    for kind in ("input", "output"):
        (point,) = heard.metrics[f"gen_ai.client.inference.usage.{kind}_tokens"]
        assert point.sum == tokens[kind] > 0
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_METRICS_EXPORTER": "none"}
    wish = {"OTEL_SEMCONV_STABILITY_OPT_IN": "http,gen_ai_latest_experimental"}
    for environ, is_told in ((where, False), (where | wish, True)):
        made = opened(SystemClock(), (), environ)
        assert made is not None
        assert bool(made._usage) is is_told
        made.close()


async def test_what_is_passed_through_has_one_span_and_a_failure_is_an_error(tmp_path):
    heard = Heard()
    async with live(settings_in(tmp_path), telemetry=heard.telemetry) as app:
        app.backend.status = 503
        await app.client.get("/v1/files", headers=app.key())
    outer = heard.span(SpanKind.SERVER)
    assert (outer.name, outer.attributes["error.type"]) == ("GET", "503")
    told = app.backend.requests[-1].headers["traceparent"]
    assert f"{outer.context.span_id:016x}" in told


def test_ids_and_reasons_are_read_where_they_are_members_and_never_from_the_text():
    content = json.dumps({"id": "chatcmpl-1", "choices": [{"message": {"content": '"finish_reason": "x"'}}]})
    assert said(content.encode(), content.encode()) == {"gen_ai.response.id": "chatcmpl-1"}


@pytest.mark.parametrize(
    "environ", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}]
)
def test_it_is_off_unless_the_environment_says_where_to(environ):
    assert opened(SystemClock(), (), environ) is None


async def test_spans_and_metrics_go_where_the_environment_says(tmp_path, monkeypatch):
    posted: list[tuple[str, str]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            posted.append((self.path, self.headers["content-type"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        async with live(settings_in(tmp_path)) as app:
            app.answers(SECRET)
            await app.chat(app.key())
        collector.shutdown()
    assert set(posted) == {(f"/v1/{what}", "application/x-protobuf") for what in ("traces", "metrics")}


def test_off_it_is_not_even_imported():
    code = "import proxy.app, sys; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
