"""Where a page ends: what comes back is what went out, and everything else is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest
from proxy.portal.cursors import INT64_MAX, cursor_of, page_of, place_in

NAMES = st.text(st.characters(categories=["L", "N"], include_characters="_ "), min_size=1, max_size=40)
ROWS = st.lists(st.tuples(st.integers(0, INT64_MAX), NAMES), max_size=30, unique=True)


@given(at_us=st.integers(0, INT64_MAX), name=NAMES)
def test_a_cursor_leads_back_to_its_row(at_us, name):
    assert place_in(cursor_of(at_us, name)) == (at_us, name)


def test_the_first_page_begins_nowhere():
    assert place_in("") is None


@given(st.text())
def test_what_was_no_cursor_is_refused_or_is_a_place(text):
    try:
        place = place_in(text)
    except BadRequest:
        return
    assert place is None or (0 <= place[0] <= INT64_MAX and place[1].isprintable())


@pytest.mark.parametrize("said", ["-1 a", f"{INT64_MAX + 1} a", "1 a\0", "x a"])
def test_a_place_that_no_store_has_is_refused(said):
    with pytest.raises(BadRequest):
        place_in(base64.urlsafe_b64encode(said.encode()).decode())


@given(rows=ROWS, limit=st.integers(1, 9))
def test_pages_together_are_the_list(rows, limit):
    rows = sorted(rows, reverse=True)
    read, cursor = [], ""
    while cursor is not None:
        before = place_in(cursor)
        found = [row for row in rows if before is None or row < before][: limit + 1]
        page = page_of(found, limit, lambda row: row, lambda row: row)
        read += page["items"]
        cursor = page["next_cursor"]
    assert read == rows
