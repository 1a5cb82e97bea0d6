"""Links between works: what can be said, and what cannot be so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.adapting import Original
from proxy.catalogue.linking import (
    KINDS,
    LINKS_MAX,
    back_from,
    checked,
    kind_of,
    parse,
    refuse_circle,
    refuse_unfit,
    resolved,
)
from proxy.catalogue.works import Link
from proxy.errors import BadRequest

BOOK = Original("w_book", commons=False, creator="c_ada", text_bytes=1_000)


def test_a_row_says_links_in_columns_called_like_their_kinds():
    row = {"recording_of": "song; w_2", "excerpt_of": '["w_3"]', "translation_of": ["w_4"], "title": "x"}
    assert parse(row) == (
        Link("recording_of", "song"),
        Link("recording_of", "w_2"),
        Link("excerpt_of", "w_3"),
        Link("translation_of", "w_4"),
    )
    assert parse({"recording_of": "", "excerpt_of": None}) == ()


@pytest.mark.parametrize("said", ["[", [1], {"w_1": 1}, ["w_1", ""], ["w_1", "w_1"], 5, True])
def test_what_cannot_be_meant_is_refused(said):
    with pytest.raises(BadRequest):
        parse({"excerpt_of": said})


def test_between_two_works_there_is_one_link_and_of_a_work_there_are_twenty():
    many = [Link("excerpt_of", f"w_{number}") for number in range(LINKS_MAX + 1)]
    assert checked(many[:-1]) == tuple(many[:-1])
    for wrong in (many, [Link("excerpt_of", "w_1"), Link("translation_of", "w_1")]):
        with pytest.raises(BadRequest):
            checked(wrong)
    assert [kind_of(kind) for kind in KINDS] == [*KINDS]
    with pytest.raises(BadRequest, match="recording_of"):
        kind_of("cover_of")


def test_a_ref_means_the_creators_own_work_before_anybody_elses():
    his = Original("w_his", commons=False, creator="c_bo", text_bytes=1_000)
    known = {"book": [his, BOOK], "w_his": [his], "hers": [his]}

    def of(ref, creator):
        return resolved([Link("translation_of", ref)], known, creator=creator, text_bytes=1)[0].of

    assert of("book", "c_ada") == "w_book"
    assert of("w_his", "c_ada") == of("hers", "c_ada") == "w_his"
    for ref, creator in (("book", "c_eve"), ("nowhere", "c_ada")):
        with pytest.raises(BadRequest):
            of(ref, creator)


def test_an_excerpt_is_no_longer_than_the_whole_and_a_recording_is_of_no_recording():
    recording = Original("w_tape", commons=False, text_bytes=1_000, is_recording=True)
    refuse_unfit("excerpt_of", BOOK, text_bytes=1_000)
    refuse_unfit("translation_of", recording, text_bytes=9_000, is_recorded=True)
    with pytest.raises(BadRequest, match="longer"):
        refuse_unfit("excerpt_of", BOOK, text_bytes=1_001)
    for of, is_recorded in ((recording, False), (BOOK, True)):
        with pytest.raises(BadRequest, match="another recording"):
            refuse_unfit("recording_of", of, text_bytes=5, is_recorded=is_recorded)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=40))
def test_whatever_is_linked_in_whatever_order_no_work_comes_from_itself(pairs):
    links: dict[str, tuple[Link, ...]] = {}
    for work, of in ((f"w_{one}", f"w_{other}") for one, other in pairs):
        try:
            refuse_circle(work, of, links)
        except BadRequest:
            # Refused only where it would have closed a circle.
            assert work == of or work in back_from(of, links)
            continue
        links[work] = (*links.get(work, ()), Link("excerpt_of", of))
    assert all(work not in back_from(work, links) for work in links)
