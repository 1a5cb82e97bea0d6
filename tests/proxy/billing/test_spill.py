import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.spill import Fetched, Spilled


def spilled(items, folder=None):
    made = Spilled(str.encode, bytes.decode, folder)
    for item in items:
        made.append(item)
    return made


@given(st.lists(st.text(max_size=40), max_size=20))
def test_what_was_put_down_is_read_back_in_order_as_often_as_one_likes(items):
    made = spilled(items)
    assert list(made) == list(made) == items
    assert [made[place] for place in range(len(made))] == items
    assert made[1:3] == items[1:3]
    assert made == tuple(items)
    assert tuple(items) == made
    assert list(made.raw()) == [item.encode() for item in items]
    assert list(made.raw(reversed(range(len(items))))) == [item.encode() for item in items][::-1]


def test_items_longer_than_one_read_and_many_short_ones_are_all_read(monkeypatch):
    monkeypatch.setattr("proxy.billing.spill.READ_BYTES", 10)
    items = ["a" * 25, "", "b" * 4, "c" * 6, "d" * 10, "", "e" * 11, "f"]
    assert list(spilled(items).raw()) == [item.encode() for item in items]


def test_more_can_be_put_behind_what_was_read():
    made = spilled(["a"])
    assert made[-1] == "a"
    made.append("b")
    assert list(made) == ["a", "b"]
    assert made != ["a", "c"]
    assert made != ["a"]
    assert made != 5
    with pytest.raises(IndexError):
        made[2]


def test_no_name_leads_to_the_file(tmp_path):
    made = spilled(["x" * 10_000], tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert made[0] == "x" * 10_000


def test_items_of_the_store_are_asked_for_some_at_a_time():
    asked = []

    def fetch(keys):
        asked.append(list(keys))
        return map(int, keys)

    made = Fetched(lambda: ["1", "2", "3"], fetch, 2)
    assert asked == []
    assert (list(made), len(made), made[-1], made[1:]) == ([1, 2, 3], 3, 3, [2, 3])
    assert asked[:3] == [["1", "2"], ["3"], ["3"]]
    assert made == (1, 2, 3)
    assert made != [1, 2]
