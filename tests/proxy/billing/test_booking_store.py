import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from proxy.billing import booking_store, ledger, store
from proxy.billing.closing_files import spilled_transfers
from proxy.billing.money import PPM
from proxy.billing.statements import Books, SplitSet
from proxy.metering.usage import Line

BOOKS = Books({"w_1": SplitSet(2, (("c_a", PPM),), "Low Water")}, {"c_a": "Ada"}, {"app_a": "Choir"}, {})


@pytest.fixture
def closing(close, event):
    return close([event(n, (Line("w_1", 700_000),)) for n in range(3)], BOOKS)


def counted(engine, table):
    with engine.connect() as connection:
        return connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))  # noqa: S608


@pytest.mark.parametrize("in_a_file", [False, True])
def test_what_is_prepared_names_accounts_and_books_nothing_until_it_is_inserted(engine, closing, in_a_file):
    transfers = spilled_transfers(None) if in_a_file else []
    for one in closing.transfers:
        transfers.append(one)
    rows = booking_store.prepared(engine, transfers, "USD", None)
    assert counted(engine, "account") == len(ledger.balances(closing.transfers))
    assert (counted(engine, "transfer"), counted(engine, "entry"), store.balances(engine)) == (0, 0, {})
    with engine.begin() as connection:
        for some in rows:
            booking_store.insert(connection, some)
    assert store.balances(engine) == ledger.balances(closing.transfers)


def test_a_transfer_is_booked_once(engine, closing):
    for times in range(2):
        with engine.connect() as connection, connection.begin():
            if times:
                with pytest.raises(IntegrityError):
                    booking_store.book(connection, closing.transfers, "USD")
            else:
                booking_store.book(connection, closing.transfers, "USD")
    assert store.balances(engine) == ledger.balances(closing.transfers)


def test_an_accounts_id_is_found_again_when_more_were_met_than_are_remembered(engine, closing, monkeypatch):
    monkeypatch.setattr(booking_store, "ACCOUNTS_KEPT_MAX", 1)
    monkeypatch.setattr(booking_store, "ENTRIES_AT_ONCE", 1)
    store.write(engine, closing, after_seq=0)
    assert store.load_closing(engine, closing.label) == closing
