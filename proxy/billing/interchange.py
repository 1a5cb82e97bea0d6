"""Usage in the words of others: OpenAttribution Telemetry, RSL and CloudEvents.

Each is what was metered, no more: which registered works an answer drew on and how much of it, which app and
model gave it, and when. A text, an end user and a name are in none of them. Ids are made of the answer's own,
so that the same answer exported twice is known for the same. docs/interchange.md says which version of each
was taken and what our figures mean in its words.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args
from xml.sax.saxutils import quoteattr

from proxy.clock import iso_utc
from proxy.metering.usage import MeteredEvent

Form = Literal["openattribution", "rsl", "cloudevents"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
OPENATTRIBUTION_VERSION: Final = "0.1"
CLOUDEVENTS_VERSION: Final = "1.0"
USAGE_SETTLED: Final = "endcredits.usage.settled"
RSL: Final = "https://rslstandard.org/rsl"
MEASURED: Final = "urn:endcredits:measured-use:1"  # RSL leaves the measuring of use to whoever measures
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """What is told of a work beside its id. text_sha256: of the registered text, hex; url: "" for none."""

    url: str = ""
    text_sha256: str = ""


def session(event: MeteredEvent, works: Mapping[str, About]) -> Row:
    """Return a settled answer as an OpenAttribution session of one turn."""
    at = iso_utc(event.occurred_us)
    told: list[Row] = []
    for line in event.lines:
        about = works.get(line.work, About())
        common: Row = {
            "timestamp": at,
            "turn_id": "1",
            "source_role": "agent",
            "content_url": about.url or None,
            "content_id": line.work,
        }
        measured = {"media_type": "text", "share_ppm": line.ppm, "verdict": line.verdict}
        if about.text_sha256:
            measured["content_hash"] = f"sha256:{about.text_sha256}"
        for kind, data in (
            ("content_grounded", {"scope": "turn"}),
            ("content_cited", {"citation_type": "unclassified", "position": "unclassified"}),
        ):
            made = {"id": _uuid(f"{event.id}/{kind}/{line.work}"), "type": kind}
            told.append(made | common | {"data": data | measured})
    urls = [about.url for line in event.lines if (about := works.get(line.work)) and about.url]
    turn: Row = {"privacy_level": "minimal", "response_tokens": event.output_tokens}
    if urls:
        turn["content_urls_cited"] = urls
    ended = {"id": _uuid(f"{event.id}/turn_completed"), "type": "turn_completed", "timestamp": at}
    told.append(ended | {"turn_id": "1", "turn": turn})
    return {
        "document_type": "session",
        "schema_version": OPENATTRIBUTION_VERSION,
        "session_id": _uuid(event.id),
        "agent_id": event.app_id,
        "started_at": at,
        "ended_at": at,
        "events": told,
    }


def _uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:endcredits:{name}"))


def envelope(event_id: str, kind: str, source: str, time_us: int, data: Row, *, subject: str = "") -> Row:
    """Return a CloudEvent in structured JSON. source and event_id together name it, for ever."""
    made: Row = {
        "specversion": CLOUDEVENTS_VERSION,
        "id": event_id,
        "source": source,
        "type": kind,
        "time": iso_utc(time_us),
        "datacontenttype": "application/json",
        "data": data,
    }
    return made | {"subject": subject} if subject else made


def usage_event(event: MeteredEvent, source: str) -> Row:
    """Return a settled answer as a CloudEvent; its data is a line of `usage --json`, without the price."""
    data: Row = {
        "id": event.id,
        "app": event.app_id,
        "model": event.model,
        "endpoint": event.endpoint,
        "occurred": iso_utc(event.occurred_us),
        "outcome": event.outcome,
        "tokens": {"input": event.input_tokens, "output": event.output_tokens, "estimated": event.estimated},
        "images": event.images,
        "milliseconds": event.milliseconds,
        "unattributed_ppm": event.unattributed_ppm,
        "works": [{"work": line.work, "ppm": line.ppm, "verdict": line.verdict} for line in event.lines],
        "reason": event.reason,
    }
    return envelope(event.id, USAGE_SETTLED, source, event.occurred_us, data, subject=event.app_id)


@dataclass(slots=True)
class Measured:
    """How much one work was used that pays: answers, the sum of its shares, the first and the last one."""

    answers: int = 0
    ppm_sum: int = 0
    first_us: int = 0
    last_us: int = 0

    def add(self, ppm: int, occurred_us: int) -> None:
        """Count one answer; they come oldest first."""
        self.first_us = self.first_us or occurred_us
        self.answers, self.ppm_sum, self.last_us = self.answers + 1, self.ppm_sum + ppm, occurred_us


def measured(events: Iterable[MeteredEvent]) -> dict[str, Measured]:
    """Return {work: its use} of the lines that pay."""
    found: dict[str, Measured] = {}
    for event in events:
        for line in event.lines:
            if line.verdict == "paid":
                found.setdefault(line.work, Measured()).add(line.ppm, event.occurred_us)
    return found


def rsl(uses: Mapping[str, Measured], works: Mapping[str, About]) -> Iterator[str]:
    """Yield an RSL document line by line: what is licensed by payment for use, and how much it was used."""
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f"<rsl xmlns={quoteattr(RSL)} xmlns:m={quoteattr(MEASURED)}>"
    for work in sorted(uses):
        use, url = uses[work], works.get(work, About()).url or f"urn:endcredits:{work}"
        yield f"  <content url={quoteattr(url)}>"
        yield '    <license><permits type="usage">ai-input</permits><payment type="use"/></license>'
        yield (
            f'    <m:use work={quoteattr(work)} answers="{use.answers}" ppm-sum="{use.ppm_sum}" '
            f'first="{iso_utc(use.first_us)}" last="{iso_utc(use.last_us)}"/>'
        )
        yield "  </content>"
    yield "</rsl>"
