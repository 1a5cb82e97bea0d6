import msgspec
import pytest

from proxy.billing.closing_files import bodies, by_id, headed, spilled_statements, spilled_transfers
from proxy.billing.kept import packed
from proxy.billing.ledger import Unbalanced
from proxy.billing.statements import booked


def test_a_closing_put_in_files_is_the_closing_and_its_manifest_the_same(month, close):
    plain = close(month.events[:1_500], month.books)
    filed = close(
        month.events[:1_500],
        month.books,
        transfers=spilled_transfers(None),
        statements=spilled_statements(None),
    )
    assert filed.manifest_sha256 == plain.manifest_sha256
    assert filed.transfers == plain.transfers
    assert filed.statements == plain.statements
    assert list(booked(filed.transfers)) == list(booked(plain.transfers))
    assert (
        list(bodies(filed.statements))
        == list(bodies(plain.statements))
        == list(map(packed, plain.statements))
    )
    assert list(headed(filed.statements)) == list(headed(plain.statements))


def test_transfers_are_booked_in_the_order_of_their_ids_wherever_they_lie(month, close):
    made = spilled_transfers(None)
    close(month.events[:300], month.books, transfers=made)
    for filed, kept in zip(by_id(made), by_id(list(made)), strict=True):
        assert filed.row == kept.row
        assert [msgspec.structs.astuple(entry) for entry in filed.entries] == [
            msgspec.structs.astuple(entry) for entry in kept.entries
        ]
    assert [one.row[0] for one in by_id(made)] == sorted(one.id for one in made)


def test_a_transfer_read_back_is_checked_again(month, close):
    made = spilled_transfers(None)
    close(month.events[:50], month.books, transfers=made)
    first = next(made.raw())
    broken = first.replace(b'"side":"D"', b'"side":"C"', 1)
    with pytest.raises(Unbalanced):
        made._decode(broken)
