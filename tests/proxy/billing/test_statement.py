import pytest

from proxy.billing.money import PPM
from proxy.billing.statement import SplitSet, canonical, statement_id


def test_a_split_that_is_not_everything_cannot_be_made():
    for parties in ((("a", PPM - 1),), (("a", PPM + 1), ("b", -1)), ()):
        with pytest.raises(ValueError, match="do not sum"):
            SplitSet(1, parties)


def test_equal_values_are_equal_bytes():
    assert canonical({"b": 1, "a": [2]}) == canonical({"a": [2], "b": 1}) == b'{"a":[2],"b":1}'


def test_a_statements_id_is_the_same_however_often_it_is_made():
    assert statement_id("p", "c", "USD") == statement_id("p", "c", "USD") != statement_id("p", "c", "EUR")
    assert statement_id("p", "c", "USD").startswith("stm_")
    assert len(statement_id("p", "c", "USD")) == len("stm_") + 26
