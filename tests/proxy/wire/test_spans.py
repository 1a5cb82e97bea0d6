"""Places in JSON bytes, checked against a real decoder."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.errors import WireError
from proxy.wire.spans import elements, is_empty_container, last_brace, member_of, members

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
INDENTS = st.sampled_from([None, 0, 2])


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5), INDENTS, st.booleans())
def test_every_member_is_found_where_it_is(value, indent, ascii_only):
    data = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = {
        json.loads(b'"' + key + b'"'): json.loads(data[first:last])
        for key, (first, last) in members(data, data.index(b"{"))
    }
    assert found == json.loads(data)


@given(st.lists(VALUES, max_size=5), INDENTS)
def test_every_element_is_found_where_it_is(value, indent):
    data = json.dumps(value, indent=indent).encode()
    assert [json.loads(data[first:last]) for first, last in elements(data, 0)] == value


def test_the_last_of_two_members_of_one_name_is_the_one_that_counts():
    data = b'{"a":1,"b":{"a":2},"a":[3]}'
    span = member_of(data, 0, b"a")
    assert span is not None
    assert data[slice(*span)] == b"[3]"
    assert member_of(data, 0, b"c") is None


@pytest.mark.parametrize(("data", "place"), [(b"{} \n", 1), (b"{}x", -1), (b"[]", -1), (b"", -1)])
def test_the_last_brace_counts_only_at_the_end(data, place):
    assert last_brace(data) == place


def test_an_empty_container_is_empty_with_space_in_it():
    assert is_empty_container(b"{ \n }", 4)
    assert not is_empty_container(b'{"a":1}', 6)


def test_a_long_flat_member_is_passed_over_in_one_step():
    data = b'{"a":[' + b'1,"x",' * 500_000 + b'0],"b":2}'
    span = member_of(data, 0, b"b")
    assert span is not None
    assert data[slice(*span)] == b"2"


def test_a_body_made_of_brackets_is_given_up_in_time():
    with pytest.raises(WireError, match="tokens"):
        member_of(b'{"a":[' + b"[]," * 300_000 + b"0]}", 0, b"b")


def test_what_is_no_json_after_all_ends_in_time_too():
    for data in [b'{"a":[' + b"a" * 5000 + b'"}', b'{"a":["' + b"\\\\" * 5000, b'{"a":[' + b'"' * 4999]:
        list(members(data, 0))
