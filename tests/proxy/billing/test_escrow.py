from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.escrow import named, unclaimed_ppm
from proxy.billing.money import PPM
from proxy.billing.statements import UNCLAIMED

NAMES = ("c_a", "c_b", "c_c", UNCLAIMED)


@st.composite
def splits(draw):
    cuts = sorted(draw(st.lists(st.integers(0, PPM), min_size=3, max_size=3)))
    sizes = [high - low for low, high in zip([0, *cuts], [*cuts, PPM], strict=True)]
    return tuple((name, size) for name, size in zip(NAMES, sizes, strict=True) if size)


def test_whoever_is_named_for_the_whole_of_it_gets_all_that_waited():
    before = (("c_a", 500_000), (UNCLAIMED, 500_000))
    assert named(101, before, (("c_a", 500_000), ("c_b", 500_000)), "s") == {"c_b": 101}
    assert named(101, before, (("c_a", PPM),), "s") == {"c_a": 101}
    assert named(101, before, (("c_c", PPM),), "s") == {"c_c": 101}, "an upheld claim"


def test_for_a_part_of_it_a_part_goes_and_the_rest_waits_on():
    before = (("c_a", 500_000), (UNCLAIMED, 500_000))
    now = (("c_a", 500_000), ("c_b", 300_000), (UNCLAIMED, 200_000))
    assert named(1_000, before, now, "s") == {"c_b": 600}
    assert named(400, now, (("c_a", 500_000), ("c_b", 300_000), ("c_c", 200_000)), "s") == {"c_c": 400}


def test_parties_that_only_trade_among_themselves_get_nothing_of_it():
    before = (("c_a", 300_000), ("c_b", 200_000), (UNCLAIMED, 500_000))
    assert named(1_000, before, (("c_a", 400_000), ("c_b", 100_000), (UNCLAIMED, 500_000)), "s") == {}
    assert named(1_000, before, (("c_a", 300_000), (UNCLAIMED, 700_000)), "s") == {}


@given(st.integers(0, 2**60), splits(), splits())
def test_no_more_leaves_than_is_there_and_all_when_nothing_is_unclaimed_any_more(grains, before, now):
    shares = named(grains, before, now, "s")
    assert all(part > 0 for part in shares.values())
    assert UNCLAIMED not in shares
    assert set(shares) <= {party for party, ppm in now if ppm > dict(before).get(party, 0)}
    if not unclaimed_ppm(now) and unclaimed_ppm(before):
        assert sum(shares.values()) == grains
    if unclaimed_ppm(now) >= unclaimed_ppm(before):
        assert shares == {}


@given(st.lists(st.tuples(st.integers(0, 2**40), splits()), min_size=1, max_size=8))
def test_whatever_happens_to_a_split_what_came_in_is_what_went_out_and_what_is_there(periods):
    there, came, went, before = 0, 0, 0, ((UNCLAIMED, PPM),)
    for earned, now in [*periods, (0, (("c_c", PPM),))]:
        given_out = sum(named(there, before, now, "s").values())
        there, went = there - given_out, went + given_out
        waits = earned * unclaimed_ppm(now) // PPM
        there, came, before = there + waits, came + waits, now
    # Somebody has all of it at last: nothing waits any more.
    assert (there, went) == (0, came)
