import pytest

from proxy.billing.movements import KINDS, Move, sums
from proxy.billing.statements import Statement


def move(kind, grains, transfer="t"):
    return Move(transfer=transfer, kind=kind, ref="pay_1", at_us=1, grains=grains)


def test_a_row_prints_what_was_paid_withheld_and_returned_as_positive_sums():
    moves = [move("payout", -70), move("payout_tax", -30), move("payout_return", 70), move("payout", -5)]
    assert sums([*moves, move("payout_tax_return", 30)]) == {
        "paid_grains": 75,
        "withheld_grains": 30,
        "returned_grains": 100,
    }


def test_a_kind_that_no_row_tells_of_is_refused():
    with pytest.raises(ValueError, match="'mystery'"):
        sums([move("mystery", 1)])


def test_every_kind_is_told_under_a_row_that_statements_have():
    assert {f"{name}_grains" for name, _ in KINDS.values()} <= set(Statement.__struct_fields__)
    assert {sign for _, sign in KINDS.values()} == {1, -1}
