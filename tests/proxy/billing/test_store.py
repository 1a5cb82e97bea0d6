import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlmodel import SQLModel

from proxy.billing import ledger, store
from proxy.billing.closing_files import spilled_statements, spilled_transfers
from proxy.billing.money import PPM
from proxy.billing.statements import UNCLAIMED, Books, SplitSet, canonical
from proxy.errors import Conflict, NotFound
from proxy.metering.usage import Line

BOOKS = Books(
    {"w_1": SplitSet(2, (("c_a", 600_000), (UNCLAIMED, 400_000)), "Low Water")},
    {"c_a": "Ada"},
    {"app_a": "Choir"},
    {},
)


@pytest.fixture
def closing(close, event):
    return close([event(n, (Line("w_1", 700_000),)) for n in range(3)], BOOKS)


def test_a_closing_comes_back_equal_to_the_byte(engine, closing):
    assert store.load_closing(engine, closing.label) is None
    store.write(engine, closing, after_seq=0)
    loaded = store.load_closing(engine, closing.label)
    assert loaded == closing
    assert list(map(canonical, loaded.statements)) == list(map(canonical, closing.statements))
    assert list(loaded.transfers) == list(closing.transfers)
    assert store.last_period(engine) == (1, {"shard-0": 20_000})


def test_balances_are_the_sums_of_entries(engine, closing):
    store.write(engine, closing, after_seq=0)
    assert store.balances(engine) == ledger.balances(closing.transfers)
    assert list(store.balances(engine, "liab:payee:")) == [("liab:payee:c_a", "USD")]
    assert store.balances(engine, "liab_payee") == {}


def test_large_sums_stay_integers(engine, close, event):
    price = 9 * 10**18
    first = close([event(1, (Line("w_1", PPM),), price_grains=price)], BOOKS, label="a")
    store.write(engine, first, after_seq=0)
    balance = store.balances(engine)["asset:receivable:app_a", "USD"]
    assert balance == price * 300_000 // PPM
    assert type(balance) is int


def test_of_two_closes_of_one_interval_one_is_refused_whole(engine, close, closing, event):
    store.write(engine, closing, after_seq=0)
    rival = close([event(9, (Line("w_1", 5),))], BOOKS, label="rival")
    before = store.balances(engine)
    with pytest.raises(Conflict) as refused:
        store.write(engine, rival, after_seq=0)
    assert refused.value.code == "close_raced"
    assert store.load_closing(engine, "rival") is None
    assert store.balances(engine) == before


@pytest.mark.parametrize("table", ["account", "transfer", "entry", "period", "statement"])
@pytest.mark.parametrize("change", ["UPDATE {} SET {} = {}", "DELETE FROM {}"])
def test_what_was_booked_cannot_be_changed(engine, closing, table, change):
    store.write(engine, closing, after_seq=0)
    column = next(iter(SQLModel.metadata.tables[table].primary_key.columns)).name
    with engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.execute(sa.text(change.format(table, column, column)))


def test_an_entry_of_nothing_is_refused_by_the_store_too(engine, closing):
    store.write(engine, closing, after_seq=0)
    row = {"transfer_id": closing.transfers[0].id, "ord": 99, "account_id": 1, "side": "D", "amount": 0}
    with engine.connect() as connection, pytest.raises(DBAPIError):
        connection.execute(sa.insert(SQLModel.metadata.tables["entry"]), [row])


def test_every_integer_of_the_billing_tables_is_wide():
    for name in ("account", "transfer", "entry", "period", "statement"):
        for column in SQLModel.metadata.tables[name].columns:
            assert isinstance(column.type, sa.BigInteger | sa.String), f"{name}.{column.name}"


def test_statements_and_periods_are_listed_newest_first(engine, close, closing, event):
    store.write(engine, closing, after_seq=0)
    books = Books(BOOKS.splits, {}, {}, {"c_a": closing.statements[0].closing_grains})
    second = close([event(9, (Line("w_1", PPM),))], books, label="2026-12")
    store.write(engine, second, after_seq=1)
    assert [period.label for period in store.list_periods(engine)] == ["2026-12", "2026-11"]
    assert store.list_periods(engine)[1].statements == 1
    listed = store.list_statements(engine, creator="c_a")
    assert [row.period for row in listed] == ["2026-12", "2026-11"]
    assert listed[0].opening_grains == listed[1].closing_grains
    assert [row.id for row in store.list_statements(engine, label="2026-11")] == [listed[1].id]
    assert store.list_statements(engine, creator="c_z") == []
    assert store.statement(engine, listed[0].id) == second.statements[0]


def test_an_unknown_statement_is_not_found(engine):
    with pytest.raises(NotFound, match="stm_x"):
        store.statement(engine, "stm_x")


def test_the_newest_split_not_after_the_close_counts(engine, into_store):
    into_store.register(engine, BOOKS, seq=5)
    work = {"work_id": "w_1", "party": "c_a", "ppm": PPM, "role": "author"}
    with engine.begin() as connection:
        table = SQLModel.metadata.tables["split"]
        connection.execute(sa.insert(table), [{**work, "version": 3, "valid_from_seq": 9}])
    assert store.splits_of(engine, {"w_1", "w_gone"}, 8) == {
        "w_1": SplitSet(2, BOOKS.splits["w_1"].parties, "Low Water")
    }
    assert store.splits_of(engine, {"w_1"}, 9) == {"w_1": SplitSet(3, (("c_a", PPM),), "Low Water")}
    assert store.splits_of(engine, {"w_1"}, 4) == {"w_1": SplitSet(0, (("c_a", PPM),), "Low Water")}
    assert store.creator_names(engine, {"c_a", "c_z"}) == {"c_a": "Ada"}


def test_rows_the_store_refuses_are_not_taken_for_a_race(engine, closing):
    broken = msgspec.structs.replace(closing, transfers=closing.transfers + closing.transfers[:1])
    with pytest.raises(IntegrityError):
        store.write(engine, broken, after_seq=0)
    assert store.list_periods(engine) == []


def test_what_a_close_put_in_a_file_is_written_as_what_it_kept_in_memory(engine, close, closing, tmp_path):
    spilled = msgspec.structs.replace(
        closing,
        transfers=spilled_transfers(tmp_path),
        statements=spilled_statements(tmp_path),
    )
    for made, kept in ((spilled.transfers, closing.transfers), (spilled.statements, closing.statements)):
        for one in kept:
            made.append(one)
        assert made == kept
    store.write(engine, spilled, after_seq=0)
    assert store.load_closing(engine, "2026-11") == closing
