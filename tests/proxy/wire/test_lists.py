from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.lists import behind, read_list, without

IDS = st.sampled_from(["file-1", "file-2", "file-3"])
ROWS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"id": IDS, "size": st.floats(allow_nan=False, allow_infinity=False), "name": st.text(max_size=3)}
        ),
        st.fixed_dictionaries({"object": st.just("new")}),
        st.integers(),
    ),
    max_size=6,
)


@given(ROWS, st.sets(IDS), st.booleans())
def test_rows_that_stay_are_as_they_came_and_in_their_order(rows, left_out, has_more):
    raws = [json.dumps(row, indent=1) for row in rows]  # a form that an encoder would not give again
    body = f'{{"object": "list", "data": [{", ".join(raws)}], "has_more": {json.dumps(has_more)}}}'.encode()
    page = read_list(body)
    assert page.has_more == has_more
    after = msgspec.json.decode(without(page, left_out), type=dict[str, msgspec.Raw])
    kept = [
        raw
        for row, raw in zip(rows, raws, strict=True)
        if not (isinstance(row, dict) and row.get("id") in left_out)
    ]
    assert [bytes(row).decode() for row in msgspec.json.decode(after["data"], type=list[msgspec.Raw])] == kept
    assert (bytes(after["object"]), bytes(after["has_more"])) == (b'"list"', json.dumps(has_more).encode())


def test_the_first_and_last_that_it_names_are_rows_that_are_left():
    rows = [{"id": f"file-{number}"} for number in range(4)]
    page = read_list(
        json.dumps({"data": rows, "first_id": "file-0", "last_id": "file-3", "has_more": True}).encode()
    )
    after = json.loads(without(page, {"file-0", "file-3"}))
    assert (after["first_id"], after["last_id"]) == ("file-1", "file-2")
    nothing = json.loads(without(page, {f"file-{number}" for number in range(4)}))
    assert (nothing["data"], nothing["last_id"]) == ([], "file-3")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"data":{}}', b'{"data":5}', b'{"id":"file-1"}', b"\xff"]
)
def test_what_is_no_list_has_no_rows(body):
    assert read_list(body) is None


@given(st.binary(max_size=80))
def test_no_bytes_make_it_fail(junk):
    read_list(b'{"data":[' + junk)


def test_the_next_page_is_asked_for_in_the_backends_own_way():
    assert behind(b"limit=2&after=a", b"/v1/files", "b&c") == b"limit=2&after=b%26c"
    assert behind(b"", b"/v1/batches", "b") == b"after=b"
    assert behind(b"after_id=a", b"/v1/messages/batches", "b") == b"after_id=b"
