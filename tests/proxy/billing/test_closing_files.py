import pytest

from proxy.billing.closing_files import spilled_statements, spilled_transfers
from proxy.billing.ledger import Unbalanced
from proxy.billing.statement import canonical
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
    assert list(filed.statements.raw()) == list(map(canonical, plain.statements))


def test_a_transfer_read_back_is_checked_again(month, close):
    made = spilled_transfers(None)
    close(month.events[:50], month.books, transfers=made)
    first = next(made.raw())
    broken = first.replace(b'"side":"D"', b'"side":"C"', 1)
    with pytest.raises(Unbalanced):
        made._decode(broken)
