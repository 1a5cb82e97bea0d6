"""Ids of a batch's answers: the same every time, and no two alike."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.batches import line_id


def test_an_id_has_the_shape_of_all_others_and_never_changes():
    assert re.fullmatch("rct_[a-z2-7]{26}", line_id("openai", "file-1", "request-1"))
    assert line_id("openai", "file-1", "request-1") == line_id("openai", "file-1", "request-1", 0)


PLACES = st.tuples(st.text(max_size=4), st.text(max_size=4), st.text(max_size=4), st.integers(0, 3))


@given(PLACES, PLACES)
def test_two_places_have_two_ids(one, other):
    clean = [tuple(str(part).replace("\0", "") for part in place) for place in (one, other)]
    ids = [line_id(a, b, c, int(n)) for a, b, c, n in clean]
    assert (ids[0] == ids[1]) == (clean[0] == clean[1])


@given(st.text(st.characters(codec=None), max_size=8))
def test_any_name_has_an_id(custom_id):
    line_id("b", "f", custom_id)
