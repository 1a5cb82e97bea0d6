from hypothesis import given
from hypothesis import strategies as st

from proxy.access.links import AppLinks


def test_a_link_holds_from_its_number_until_the_next():
    links = AppLinks({"app_1": ((5, "c_a"), (9, ""), (12, "c_b"))})
    assert [links.creator_of("app_1", seq) for seq in (0, 4, 5, 8, 9, 11, 12, 99)] == [
        "", "", "c_a", "c_a", "", "", "c_b", "c_b",
    ]  # fmt: skip
    assert links.creator_of("app_2", 9) == ""
    assert AppLinks().creator_of("app_1", 9) == ""


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["", "c_a", "c_b"])), unique_by=lambda c: c[0]))
def test_it_is_the_last_change_that_is_not_later(changes):
    history = tuple(sorted(changes))
    links = AppLinks({"app": history})
    for seq in range(32):
        before = [creator for number, creator in history if number <= seq]
        assert links.creator_of("app", seq) == (before[-1] if before else "")
