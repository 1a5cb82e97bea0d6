import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.numbers import NAME_BYTES, Found, Numbers

# Few letters, so that names come again and many share their words; some that no word can hold.
names = st.text("ab", max_size=3) | st.text("a\0é", max_size=2) | st.text("ab", min_size=30, max_size=34)


@given(st.lists(st.lists(names, max_size=40), max_size=6), st.lists(names, max_size=3))
def test_names_have_the_numbers_that_a_dictionary_gives_them_however_they_come(pages, single) -> None:
    numbers, expected = Numbers(slots=2), {}
    for name in single:
        assert numbers.of(name) == expected.setdefault(name, len(expected))
    for page in pages:
        assert numbers.of_all(page).tolist() == [expected.setdefault(name, len(expected)) for name in page]
    for name in single:
        assert numbers.of(name) == expected[name]
    assert (list(numbers), len(numbers)) == (list(expected), len(expected))


def test_thousands_of_names_are_each_found_again() -> None:
    numbers, works = Numbers(), [f"w_{n:026d}" for n in range(20_000)]
    assert numbers.of_all(works).tolist() == list(range(20_000))
    assert numbers.of_all(works[::-3]).tolist() == list(range(20_000))[::-3]


def test_names_that_share_every_slot_stay_apart(monkeypatch) -> None:
    monkeypatch.setattr("proxy.billing.numbers._SPREAD", (np.uint64(0),) * 3)
    numbers, works = Numbers(), [f"w{n}" for n in range(50)]
    assert numbers.of_all([*works, *works]).tolist() == [*range(50), *range(50)]


def test_a_name_that_is_cut_where_words_end_is_not_another() -> None:
    numbers, long = Numbers(), "w" * NAME_BYTES
    assert numbers.of_all([long]).tolist() == [0]
    assert numbers.of_all([f"{long}w", long, f"{long}w"]).tolist() == [1, 0, 1]


@given(st.lists(st.lists(names, max_size=9), max_size=9), st.integers(0, 9))
def test_what_is_known_of_a_name_is_asked_once_while_there_is_room(pages, most) -> None:
    asked = []

    def ask(new):
        asked.extend(sorted(new))
        return {name: len(name) for name in new}

    found = Found(ask, NAME_BYTES, most)
    for page in pages:
        assert found.of_all(page) == list(map(len, page))
    different = {name for page in pages for name in page}
    assert set(asked) == different
    assert len(different) > most or len(asked) == len(different)
