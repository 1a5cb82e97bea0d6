import pytest
import sqlalchemy as sa

from proxy.billing.invariants import INVARIANTS
from proxy.clock import SystemClock
from proxy.database import open_engine
from proxy.receipts.issuing import Issuer
from proxy.receipts.verify import canonical
from tests.commands import Commands
from tests.proxy.cli.test_money import ec, meter

__all__ = ["ec"]


@pytest.fixture
def closed(ec):
    meter(ec, ("rct_1", 1_000_000, {"r1": 500_000}), ("rct_2", 3_000_000, {"r2": 250_000}))
    assert ec("periods", "close", "2026-11").status == 0
    return ec


def test_sound_books_are_a_line_each_and_exit_0(closed):
    ran = closed("audit")
    assert ran.status == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == list(INVARIANTS)
    assert "BROKEN" not in ran.out
    assert "not yet" not in ran.out


def test_broken_books_exit_1_and_name_the_rows(closed):
    engine = open_engine(f"sqlite:///{closed.data / 'endcredits.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER entry_no_update")
        connection.execute(sa.text("UPDATE entry SET amount = amount + 1 WHERE side = 'D'"))
    engine.dispose()
    ran = closed("audit")
    assert ran.status == 1
    assert "BROKEN" in ran.out
    assert "debits exceed credits by 1 grains" in ran.out
    rows = {row["id"]: row for row in closed.json("audit").rows}
    assert rows["I1"]["state"] == rows["I2"]["state"] == "broken"
    assert rows["I10"]["named"] == [
        "entry can be changed: its trigger entry_no_update is gone",
        "period 2026-11 is not what its manifest was made of",
    ]


def test_more_broken_rows_than_are_named_are_counted(closed):
    engine = open_engine(f"sqlite:///{closed.data / 'endcredits.db'}")
    with engine.begin() as connection:
        names = connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars()
        for name in list(names):
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
    engine.dispose()
    assert "more" in closed("audit").out


def test_a_bundle_is_recomputed_without_the_store(tmp_path):
    ec, elsewhere = Commands(tmp_path / "data"), Commands(tmp_path / "elsewhere")
    ec("periods", "close", "a")
    about = Issuer(tmp_path / "data", "endcredits.local/log", SystemClock()).about()
    (tmp_path / "keys.json").write_bytes(canonical(about))
    assert ec("periods", "bundle", "a", "--out", tmp_path / "a.zip").status == 0
    found = elsewhere.json("audit", tmp_path / "a.zip", "--keys", tmp_path / "keys.json")
    assert (found.status, found.row["holds"]) == (0, True)
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    cut = elsewhere.json("audit", tmp_path / "b.zip", "--keys", tmp_path / "keys.json")
    assert (cut.status, cut.row["holds"]) == (1, False)
    assert ec.json("periods", "bundle", "c", "--out", tmp_path / "c.zip").row["error"] == "not_signed"


def test_a_price_that_no_file_makes_is_named_with_its_receipt_and_the_audit_fails(closed, tmp_path):
    about = Issuer(closed.data, "endcredits.local/log", SystemClock()).about()
    (tmp_path / "keys.json").write_bytes(canonical(about))
    assert closed("periods", "bundle", "2026-11", "--out", tmp_path / "a.zip").status == 0
    found = closed.json("audit", tmp_path / "a.zip", "--keys", tmp_path / "keys.json")
    assert (found.status, found.row["holds"]) == (1, False)
    assert [one.split(":")[0] for one in found.row["findings"]] == ["rct_1", "rct_2"]
    assert "does not hold: rct_1" in closed("audit", tmp_path / "a.zip").out
