import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.receipts.sums import SumTree
from proxy.receipts.verify import PARTS, Invalid, sum_key, sum_leaf, summed_root

SECRET = bytes(32)
STATEMENT = hashlib.sha256(b"a statement").digest()


def tree_of(sums, secret=SECRET):
    return SumTree("payee", {name: (grains, STATEMENT) for name, grains in sums.items()}, secret)


def roots(tree, name, grains, commitment=STATEMENT):
    found = set()
    for part, shown in enumerate(tree.openings(name, grains)):
        leaf = sum_leaf(sum_key("payee", name, part), shown.grains, commitment, shown.nonce)
        found.add(summed_root(leaf, shown.index, tree.size, shown.path))
    return found


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 10**15), min_size=1, max_size=12)
)
def test_everybody_is_in_it_once_and_its_sum_is_theirs(sums):
    tree = tree_of(sums)
    assert tree.size == PARTS * len(sums)
    assert tree.root.grains == sum(sums.values())
    for name, grains in sums.items():
        assert roots(tree, name, grains) == {tree.root}
        assert sum(shown.grains for shown in tree.openings(name, grains)) == grains
    assert tree_of(dict(reversed(sums.items()))).root == tree.root


def test_over_nobody_there_is_no_root():
    assert tree_of({}).root is None


def test_another_sum_or_statement_leads_to_another_root():
    tree = tree_of({"a": 100, "b": 200, "c": 300})
    assert roots(tree, "b", 200, hashlib.sha256(b"another").digest()) != {tree.root}
    shown = tree.openings("b", 200)[0]
    leaf = sum_leaf(sum_key("payee", "b", 0), shown.grains + 1, STATEMENT, shown.nonce)
    assert summed_root(leaf, shown.index, tree.size, shown.path) != tree.root


def test_a_sum_cannot_be_hidden_behind_a_negative_one_or_a_key_out_of_place():
    tree = tree_of({"a": 100, "b": 200, "c": 300})
    shown = tree.openings("b", 200)[1]
    leaf = sum_leaf(sum_key("payee", "b", 1), shown.grains, STATEMENT, shown.nonce)
    for changed in (
        replace(shown.path[0], grains=-1),
        replace(shown.path[0], first=leaf.first, last=leaf.first),
        replace(shown.path[0], digest=b""),
    ):
        with pytest.raises(Invalid):
            summed_root(leaf, shown.index, tree.size, (changed, *shown.path[1:]))


def test_a_neighbours_parts_tell_nothing_that_another_secret_would_not_change():
    sums = {"a": 100_000, "b": 200_000}
    here, there = tree_of(sums), tree_of(sums, b"\1" * 32)
    assert [one.grains for one in here.openings("a", 100_000)] != [
        one.grains for one in there.openings("a", 100_000)
    ]
    assert here.root.digest != there.root.digest


@pytest.mark.parametrize("grains", [-1, 1 << 63])
def test_a_sum_out_of_range_is_refused(grains):
    with pytest.raises(ValueError, match="a sum of"):
        tree_of({"a": grains})


def test_who_is_not_in_it_has_nothing_to_show():
    with pytest.raises(KeyError):
        tree_of({"a": 1}).openings("b", 1)
