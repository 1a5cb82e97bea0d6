"""Usage as others take it. What OpenAttribution Telemetry 0.1 asks of a document is said again here, as rules."""

from __future__ import annotations

import re
import uuid
from datetime import datetime

import msgspec
import pytest

from proxy.billing.interchange import (
    FORMS,
    USAGE_SETTLED,
    About,
    envelope,
    measured,
    rsl,
    session,
    usage_event,
)
from proxy.catalogue.rsl import read_rsl
from proxy.catalogue.works import Use
from proxy.metering.usage import Line
from tests.proxy.billing.conftest import make_event

HASH = "ab" * 32
WORKS = {"w_1": About("https://ada.example/lamp?a=1&b=2", HASH), "w_2": About()}
EVENT = make_event(
    7,
    (Line("w_1", 400_000), Line("w_2", 100_000, "free"), Line("w_3", 1, "prohibited")),
    subject_digest="d" * 64,
    images=2,
    milliseconds=8_471,
)
# Which values a member may have: a type, a pattern, or the words of a list; None where it may be null.
SESSION = {
    "document_type": "session", "schema_version": "0.1", "session_id": uuid.UUID, "agent_id": str,
    "started_at": datetime, "ended_at": datetime, "events": list,
}  # fmt: skip
EVENT_MEMBERS = {
    "id",
    "type",
    "timestamp",
    "turn_id",
    "source_role",
    "content_url",
    "content_id",
    "turn",
    "data",
}
TYPES = {"content_grounded", "content_cited", "turn_completed"}
ROLES = {"origin", "edge", "index", "agent"}
CITATIONS = {"direct_quote", "paraphrase", "reference", "contradiction", "unclassified"}
POSITIONS = {"primary", "supporting", "mentioned", "unclassified"}
MINIMAL = {"privacy_level", "response_tokens", "content_urls_cited"}  # nothing else at the level `minimal`


def is_time(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is not None and text.endswith("Z")


def check_session(told: dict) -> None:
    assert told.keys() == SESSION.keys()
    assert (told["document_type"], told["schema_version"]) == ("session", "0.1")
    uuid.UUID(told["session_id"])
    assert is_time(told["started_at"])
    assert is_time(told["ended_at"])
    assert [one["timestamp"] for one in told["events"]] == sorted(one["timestamp"] for one in told["events"])
    for event in told["events"]:
        check_event(event)


def check_event(event: dict) -> None:
    assert event.keys() <= EVENT_MEMBERS
    assert event["type"] in TYPES
    assert is_time(event["timestamp"])
    uuid.UUID(event["id"])
    if event["type"] == "turn_completed":
        assert event["turn"].keys() <= MINIMAL
        assert event["turn"]["privacy_level"] == "minimal"
        assert event["turn"]["response_tokens"] >= 0
        return
    assert event["source_role"] in ROLES
    assert event["content_url"] is None or re.match(r"https?://", event["content_url"])
    data = event["data"]
    assert data["media_type"] == "text"
    assert re.fullmatch(r"sha256:[a-f0-9]{64}", data.get("content_hash", "sha256:" + HASH))
    if event["type"] == "content_grounded":
        assert data["scope"] == "turn"
    else:
        assert data["citation_type"] in CITATIONS
        assert data["position"] in POSITIONS


def test_an_answer_is_a_session_of_one_turn_whose_works_grounded_it_and_are_cited():
    told = session(EVENT, WORKS)
    check_session(told)
    kinds = [
        (one["type"], one.get("content_id"), one.get("data", {}).get("share_ppm")) for one in told["events"]
    ]
    assert kinds == [
        ("content_grounded", "w_1", 400_000), ("content_cited", "w_1", 400_000),
        ("content_grounded", "w_2", 100_000), ("content_cited", "w_2", 100_000),
        ("content_grounded", "w_3", 1), ("content_cited", "w_3", 1), ("turn_completed", None, None),
    ]  # fmt: skip
    assert told["events"][0]["data"]["content_hash"] == f"sha256:{HASH}"
    assert told["events"][-1]["turn"]["content_urls_cited"] == [WORKS["w_1"].url]


def test_an_answer_that_drew_on_nothing_is_a_session_too():
    told = session(make_event(1), {})
    check_session(told)
    assert len(told["events"]) == 1


def test_the_same_answer_has_the_same_ids_and_another_has_others():
    first, again, other = (
        session(EVENT, WORKS),
        session(EVENT, {}),
        session(make_event(8, EVENT.lines), WORKS),
    )
    ids = [one["id"] for one in first["events"]]
    assert ids == [one["id"] for one in again["events"]]
    assert len({*ids, *(one["id"] for one in other["events"])}) == 2 * len(ids)


def test_a_cloudevent_has_its_required_members_and_a_name_that_never_changes():
    told = usage_event(EVENT, "credits.example/log")
    assert {"specversion", "id", "source", "type"} <= told.keys()
    assert (told["specversion"], told["type"], told["source"]) == (
        "1.0",
        USAGE_SETTLED,
        "credits.example/log",
    )
    assert (told["id"], told["subject"], told["datacontenttype"]) == (
        EVENT.id,
        EVENT.app_id,
        "application/json",
    )
    assert is_time(told["time"])
    assert (told["data"]["images"], told["data"]["milliseconds"]) == (2, 8_471)
    assert told["data"]["works"][0] == {"work": "w_1", "ppm": 400_000, "verdict": "paid"}
    assert "subject" not in envelope("e", "k", "s", 0, {})


@pytest.mark.parametrize(
    "made", [session(EVENT, WORKS), usage_event(EVENT, "s")], ids=["session", "cloudevent"]
)
def test_no_end_user_and_no_digest_of_a_text_of_theirs_is_in_it(made):
    said = msgspec.json.encode(made).decode()
    assert "dddd" not in said
    assert "digest" not in said


def test_measured_use_is_an_rsl_document_that_our_own_reader_reads():
    events = [EVENT, make_event(9, (Line("w_1", 5), Line("w_4", 6)))]
    uses = measured(events)
    assert {work: (one.answers, one.ppm_sum) for work, one in uses.items()} == {
        "w_1": (2, 400_005),
        "w_4": (1, 6),
    }
    assert uses["w_1"].first_us == EVENT.occurred_us < uses["w_1"].last_us
    document = "\n".join(rsl(uses, WORKS))
    assert 'ppm-sum="400005"' in document
    assert "w_2" not in document, "free use is measured by no payment"
    read = read_rsl(document.encode())
    assert {content.url for content in read} == {WORKS["w_1"].url, "urn:endcredits:w_4"}
    assert all(Use.OUTPUT_INFLUENCE in {term.use for term in content.terms} for content in read)


def test_every_form_is_known_to_the_command():
    from proxy.cli.money import FORMATS

    assert FORMATS == FORMS
