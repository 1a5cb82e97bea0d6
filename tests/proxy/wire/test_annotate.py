"""One member in, every other byte as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.annotate import (
    AttributionView,
    Citation,
    EvidenceView,
    UrlCitation,
    WorkView,
    spliced,
    spliced_frame,
    with_citations,
    with_response_citations,
)
from proxy.wire.sse import SseDecoder

WORKS = (WorkView("w_a", "T", ("A", "B"), 400_000, "CC0-1.0", "https://a.example"),)
VIEW = AttributionView("rct_a", "settled", "endcredits/1 x", 600_000, WORKS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5).filter(lambda k: k != "attribution"), JSON, max_size=5),
       st.sampled_from([None, 1]), st.sampled_from(["", "\n", " \r\n "]))  # fmt: skip
def test_taking_the_field_out_again_leaves_the_bytes_of_the_backend(value, indent, tail):
    body = (json.dumps(value, indent=indent) + tail).encode()
    out = spliced(body, VIEW)
    assert json.loads(out) == {**value, "attribution": json.loads(out)["attribution"]}
    place = out.rindex(b'"attribution":{"id":"rct_a"')
    end = out.rindex(b"}") if tail else len(out) - 1
    comma = 1 if value else 0
    assert out[: place - comma] + out[end:] == body


@pytest.mark.parametrize("body", [b"[1]", b"", b"text", b"{} x", b'"}"'])
def test_what_is_no_object_stays_as_it_is(body):
    assert spliced(body, VIEW) == body


def test_an_attribution_of_the_backend_gives_way_in_its_place():
    out = spliced(b'{"attribution": {"old": [1]}, "a": {"attribution": 2}}', VIEW)
    assert out.startswith(b'{"attribution": {"id":"rct_a"')
    assert out.endswith(b'}, "a": {"attribution": 2}}')
    assert out.count(b"rct_a") == 1


@pytest.mark.parametrize(
    ("raw", "before", "after"),
    [
        (b'data: {"a":1}\n\n', b'data: {"a":1,', b"}\n\n"),
        (b'data:{"a":1}\r\n\r\n', b'data:{"a":1,', b"}\r\n\r\n"),
        (b': c}\nevent: x\ndata: {"a":1} \nid: 3\n\n', b': c}\nevent: x\ndata: {"a":1,', b"} \nid: 3\n\n"),
        (b'data: {"a":1}', b'data: {"a":1,', b"}"),
    ],
)
def test_a_frame_takes_the_field_into_its_data(raw, before, after):
    decoder = SseDecoder()
    frames = decoder.feed(raw)
    frame = frames[0] if frames else decoder.finish()
    out = spliced_frame(frame, VIEW)
    assert out.startswith(before + b'"attribution":')
    assert out.endswith(after)


def test_a_frame_of_several_data_lines_is_left_alone():
    frame = SseDecoder().feed(b'data: {"a":\ndata: 1}\n\n')[0]
    assert spliced_frame(frame, VIEW) == frame.raw


def test_evidence_and_verdict_are_written_only_when_they_are_there():
    plain = json.loads(spliced(b"{}", VIEW))["attribution"]
    assert list(plain) == ["id", "status", "method", "unattributed_ppm", "works"]
    assert list(plain["works"][0]) == ["work", "title", "creators", "share_ppm", "licence", "url"]
    full = WorkView(
        "w_a", "T", (), 1, "", "", verdict="prohibited", evidence=(EvidenceView("verbatim", (0, 5), 0.97),)
    )
    work = json.loads(spliced(b"{}", AttributionView("r", "settled", "m", 999_999, (full,))))["attribution"][
        "works"
    ][0]
    assert work["verdict"] == "prohibited"
    assert work["evidence"] == [{"kind": "verbatim", "output": [0, 5], "score": 0.97}]


def test_late_credits_say_null_and_nothing_else():
    view = json.loads(spliced(b"{}", AttributionView("r", "pending", "m", None)))["attribution"]
    assert view == {"id": "r", "status": "pending", "method": "m", "unattributed_ppm": None, "works": []}


CITED = [Citation(UrlCitation(0, 5, "T", "https://a.example"), "w_a")]


@pytest.mark.parametrize("message", ['{"content":"x"}', '{"annotations":null}', '{"annotations":[]}', "{}"])
def test_citations_join_the_annotations_of_their_choice(message):
    body = (
        '{"choices":[{"index":1,"message":' + message + '},{"index":0,"message":{"k":1}}],"z":1}'
    ).encode()
    out = json.loads(with_citations(body, {1: CITED}, b"message"))
    assert out["choices"][0]["message"]["annotations"] == [
        {"url_citation": {"start_index": 0, "end_index": 5, "title": "T", "url": "https://a.example"},
         "work": "w_a", "type": "url_citation"}
    ]  # fmt: skip
    assert out["choices"][1] == {"index": 0, "message": {"k": 1}}
    assert out["z"] == 1


def test_a_choice_without_a_number_gets_the_citations_of_its_place():
    body = b'{"choices":[{"message":{}},{"index":null,"message":{}}]}'
    out = json.loads(with_citations(body, {1: CITED}, b"message"))
    assert [len(choice["message"].get("annotations", [])) for choice in out["choices"]] == [0, len(CITED)]


def test_annotations_of_the_backend_stay_before_ours():
    out = json.loads(
        with_citations(b'{"choices":[{"message":{"annotations":[{"type":"x"}]}}]}', {0: CITED}, b"message")
    )
    assert [entry["type"] for entry in out["choices"][0]["message"]["annotations"]] == ["x", "url_citation"]


@pytest.mark.parametrize(
    "body", [b'{"choices":null}', b"{}", b'{"choices":[{"index":0}]}', b'{"choices":[{"message":null}]}']
)
def test_a_choice_without_a_place_for_citations_gets_none(body):
    assert with_citations(body, {0: CITED}, b"message") == body


WIDE = b"[" + b"[]," * 300_000 + b"0]"


@pytest.mark.parametrize(
    "body", [b'{"attribution":1,"a":' + WIDE + b"}", b'{"a":' + WIDE + b',"choices":[{"message":{}}]}']
)
def test_what_is_too_wide_to_walk_stays_as_it_is(body):
    assert with_citations(body, {0: CITED}, b"message") == body
    if b"attribution" in body:
        assert spliced(body, VIEW) == body


def final(response: bytes) -> bytes:
    return (
        b'event: response.completed\ndata: {"type":"response.completed","response":'
        + response
        + b',"sequence_number":9}\n\n'
    )


def test_the_field_goes_into_the_object_that_is_named():
    raw = final(b'{"id":"resp_1", "output":[ ]}')
    out = spliced_frame(SseDecoder().feed(raw)[0], VIEW, holder=b"response")
    place = out.index(b',"attribution":{"id":"rct_a"')
    _, length = json.JSONDecoder().raw_decode(out[place + 15 :].decode())
    assert out[:place] + out[place + 15 + length :] == raw
    data = json.loads(out.split(b"data: ")[1])
    assert list(data) == ["type", "response", "sequence_number"]
    assert data["response"]["attribution"]["id"] == "rct_a"


@pytest.mark.parametrize(
    "data", [b'{"type":"x"}', b'{"response":null}', b'{"response":[1]}', b"[1]", b"junk"]
)
def test_an_event_without_that_object_stays_as_it_came(data):
    raw = b"data: " + data + b"\n\n"
    assert spliced_frame(SseDecoder().feed(raw)[0], VIEW, holder=b"response") == raw


def test_citations_of_a_response_are_told_in_the_places_of_each_part():
    parts = [{"type": "output_text", "text": "Älpha ", "annotations": []}, {"type": "refusal", "refusal": "x"},
             {"type": "output_text", "text": "beta gamma"}]  # fmt: skip
    response = {"output": [{"type": "reasoning", "content": [{"type": "output_text", "text": "no"}]},
                           {"type": "message", "content": parts}]}  # fmt: skip
    cited = {0: [Citation(UrlCitation(3, 10, "T", "https://a.example"), "w_a")]}
    out = json.loads(with_response_citations(json.dumps(response).encode(), cited))
    first, _, second = out["output"][1]["content"]
    assert [(c["start_index"], c["end_index"], c["type"], c["work"]) for c in first["annotations"]] == [
        (3, 6, "url_citation", "w_a")
    ]
    assert [(c["start_index"], c["end_index"]) for c in second["annotations"]] == [(0, 4)]
    assert out["output"][0] == response["output"][0]


@pytest.mark.parametrize("body", [b"{}", b'{"output":5}', b'{"output":[5,{"type":"message","content":null}]}',
                                  b'{"output":[{"type":"message","content":[{"type":"output_text","text":5}]}]}'])  # fmt: skip
def test_a_response_without_a_place_for_citations_gets_none(body):
    assert with_response_citations(body, {0: CITED}) == body


def test_a_reason_is_told_only_where_there_is_one():
    view = AttributionView("r", "off", "m", None, reason="not_attributed")
    assert json.loads(spliced(b"{}", view))["attribution"]["reason"] == "not_attributed"
