from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.unfinished import EARLY_MAX, Unfinished, cut_by_crash
from proxy.metering.usage import PPM, Attributed


def seen(*records):
    unfinished = Unfinished()
    for segment, record in enumerate(records):
        unfinished.saw(record, segment, segment)
    return unfinished


def test_an_answer_is_open_until_both_its_facts_are_recorded(made):
    begun, used, attributed = made.answer(1)
    assert (seen(begun).begun(), seen(begun).used()) == ([begun], [])
    assert (seen(begun, used).begun(), seen(begun, used).used()) == ([], [used])
    assert len(seen(begun, used, attributed)) == 0


def test_shares_ahead_of_their_usage_close_it_too(made):
    begun, used, attributed = made.answer(1)
    assert len(seen(begun, attributed, used)) == 0
    assert len(seen(attributed, used)) == 0
    assert seen(begun, attributed).early("rct_1")


def test_a_late_copy_of_begun_does_not_undo_usage(made):
    begun, used, _ = made.answer(1)
    assert seen(begun, used, begun).used() == [used]


def test_an_open_answer_keeps_the_segment_of_its_newest_needed_record(made):
    begun, used, _ = made.answer(1)
    assert seen(begun, used).in_segments_before(1) == []
    assert seen(begun, used).in_segments_before(2) == [used]
    assert seen(begun, begun).in_segments_before(1) == []


def test_an_answer_waits_since_it_was_recorded_and_not_since_it_was_given(made):
    begun, used, attributed = made.answer(1)
    unfinished = seen(begun, begun, used, used)  # the copies are moved on with their segment
    assert unfinished.overdue(2, {}) == []
    assert unfinished.overdue(3, {}) == ["rct_1"]
    assert seen(begun).overdue(99, {}) == seen(begun, used, attributed).overdue(99, {}) == []


def test_of_a_former_process_it_waits_since_its_text_is_kept(made):
    unfinished = seen(made.begun(1), made.used(1))
    assert unfinished.overdue(0, {"rct_1": -5, "rct_unknown": -5}) == ["rct_1"]
    assert unfinished.overdue(0, {}) == ["rct_1"], "remembered"


def test_shares_without_usage_are_remembered_within_a_bound(made):
    unfinished = seen(*(made.attributed(number, works=0) for number in range(EARLY_MAX + 1)))
    assert not unfinished.early("rct_0")
    assert unfinished.early(f"rct_{EARLY_MAX}")
    assert len(unfinished) == 0


def test_a_cut_answer_is_booked_once_as_what_its_beginning_knew(made):
    used, attributed = cut_by_crash(made.begun(1))
    assert (used.outcome, used.estimated, used.input_tokens, used.output_tokens) == ("cut", True, 11, 0)
    assert (used.occurred_us, used.price_grains) == (made.begun(1).occurred_us, None)
    assert attributed == Attributed(id="rct_1", unattributed_ppm=PPM, reason="cut_by_crash")
    assert cut_by_crash(made.begun(1), attributed=True) == [used]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40))
def test_what_a_restart_books_leaves_nothing_in_flight(steps):
    from tests.proxy.metering.conftest import Made

    unfinished = seen(*(Made.answer(number)[kind] for number, kind in steps))
    for begun in unfinished.begun():
        for record in cut_by_crash(begun, attributed=unfinished.early(begun.id)):
            unfinished.saw(record, 100, 100)
    assert unfinished.begun() == []
