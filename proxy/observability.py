"""What the running proxy says of itself: structured events, and metrics with their units.

Events are facts in the past tense with units in their field names; never an output's text, a prompt or a key.
docs/operations.md lists every metric; tests/house compares.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values

from proxy.lines import Lines

_encode = msgspec.json.Encoder(enc_hook=str).encode
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


def _dump(event: Any, **_: Any) -> bytes:
    return _encode(event)


# Until `configure_logging` is called, as in every command: standard output belongs to the command's answer.
structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


class _AsEvent(logging.Formatter):
    """What a library logs, as one JSON line like ours: its words may hold quotes and line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "event": "library_logged",
            "level": record.levelname.lower(),
            "library": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return _encode(event).decode()


def _told_at_once(lines: Lines, level: str) -> type[Any]:
    """Return structlog's logger with a shorter way for `info`: every answer is told by one.

    The same line as from the processors, in which an `info` meets nothing else: it carries no exception.
    """
    filtering = structlog.make_filtering_bound_logger(getattr(logging, level.upper()))
    if level not in {"debug", "info"}:
        return filtering

    class Told(filtering):
        def info(self, event: str, **fields: object) -> None:
            now = dt.datetime.now(dt.UTC)
            lines.info(_encode({**fields, "event": event, "level": "info", "at": now}))

    return Told


def configure_logging(level: str) -> None:
    """Send structlog's JSON lines to stderr, and the standard library's warnings the same way."""
    lines = Lines(sys.stderr.buffer)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dump),
        ],
        wrapper_class=_told_at_once(lines, level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsEvent())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def get_log() -> structlog.stdlib.BoundLogger:
    """Return the process's event logger."""
    return structlog.get_logger()


class _Counter(Counter):
    """A counter that finds the parts it has by their labels without a lock: they are never taken away."""

    def labels(self, *values: Any, **named: Any) -> Any:
        parts: dict[Any, Any] = cast("Any", self)._metrics  # noqa: SLF001  # of its base
        return parts.get(values) or super().labels(*values, **named)


class _Histogram(Histogram):
    """The same for a histogram."""

    def labels(self, *values: Any, **named: Any) -> Any:
        parts: dict[Any, Any] = cast("Any", self)._metrics  # noqa: SLF001  # of its base
        return parts.get(values) or super().labels(*values, **named)


class Metrics:
    """Every metric of one app, in a registry of its own so that two apps in one process do not meet.

    Several workers keep their values in files of one folder, where each can read them all. A worker's files
    are named for its slot, not its process: the one that replaces it counts on, so that no sum ever falls.
    """

    def __init__(self, folder: Path | None = None, slot: int = 0) -> None:
        self._folder = folder
        if folder is not None:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # where the library's values look for it
            kept: Any = values  # its values come without types
            values.ValueClass = kept.MultiProcessValue(lambda: slot)
        registry = CollectorRegistry()
        self.registry = registry
        self.requests = _Counter(
            "endcredits_requests_total",
            "Requests answered",
            ["endpoint", "outcome"],
            registry=registry,
        )
        self.request_seconds = _Histogram(
            "endcredits_request_seconds",
            "From request to last byte",
            ["endpoint"],
            registry=registry,
            buckets=SECONDS,
        )
        self.first_byte_seconds = _Histogram(
            "endcredits_first_byte_seconds",
            "From request to the backend's first byte",
            ["backend"],
            registry=registry,
            buckets=SECONDS,
        )
        self.settle_seconds = Histogram(
            "endcredits_settle_seconds",
            "From last token to shares",
            registry=registry,
            buckets=SECONDS,
        )
        self.attributions = _Counter(
            "endcredits_attributions_total",
            "Answers attributed, by status",
            ["status"],
            registry=registry,
        )
        self.guarded = Counter(
            "endcredits_guarded_total",
            "Answers the replication guard flagged, cut, or could not see in time",
            ["result"],
            registry=registry,
        )
        self.promises_open = Gauge(
            "endcredits_promises_open",
            "Background answers that are looked for",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.promises = Counter(
            "endcredits_promises_total",
            "Background answers no longer looked for, by how that ended",
            ["result"],
            registry=registry,
        )
        self.batch_lines = Counter(
            "endcredits_batch_lines_total",
            "Lines of batches' outputs, by what became of them",
            ["result"],
            registry=registry,
        )
        self.backlog_bytes = Gauge(
            "endcredits_backlog_bytes",
            "Texts waiting for their shares",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.events = _Counter(
            "endcredits_events_total",
            "Usage events made durable",
            ["outcome"],
            registry=registry,
        )
        self.journal_lag = Gauge(
            "endcredits_journal_lag_records",
            "Records durable in the journal, not yet in the store",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.journal_sync_seconds = Histogram(
            "endcredits_journal_sync_seconds",
            "One group fdatasync",
            registry=registry,
            buckets=SECONDS,
        )
        self.backend_errors = Counter(
            "endcredits_backend_errors_total",
            "Backend failures, by kind",
            ["backend", "kind"],
            registry=registry,
        )
        self.backend_retries = Counter(
            "endcredits_backend_retries_total",
            "Attempts after the first, by the backend asked",
            ["backend"],
            registry=registry,
        )
        self.backend_circuit_open = Gauge(
            "endcredits_backend_circuit_open",
            "1 while a backend is left alone or tried by one request, else 0",
            ["backend"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.client_left = Counter(
            "endcredits_clients_left_total",
            "Clients gone mid-answer",
            registry=registry,
        )

    def exposed(self) -> bytes:
        """Return Prometheus's text format: of this process, or of all workers together."""
        if self._folder is None:
            return generate_latest(self.registry)
        # Here, not above: one process alone has no use for it.
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        everybody = CollectorRegistry()
        MultiProcessCollector(everybody, path=str(self._folder))
        return generate_latest(everybody)
