import pytest

from proxy.cli.storing import _size
from tests.proxy.cli.test_money import ec, meter

__all__ = ["ec"]


@pytest.fixture
def closed(ec, tmp_path):
    """A period that is final at once and whose answers may leave a day later; a day passes in the settings."""
    meter(ec, ("rct_1", 1_000_000, {"r1": 500_000}), ("rct_2", 3_000_000, {"r2": 250_000}))
    assert ec("periods", "close", "2026-11").status == 0
    return ec


def test_info_tells_what_each_table_takes_and_what_lies_beside(closed):
    *tables, beside = closed.json("store", "info").rows
    sizes = {one["table"]: one for one in tables}
    assert sizes["event"]["rows"] == 2
    assert sizes["event"]["bytes"] > 0
    assert set(beside["folders"]) == {"journal", "pending", "audit", "index", "archive"}
    text = closed("store", "info").out
    assert "event_line" in text
    assert "archive/" in text


def test_a_draft_stays_and_it_says_until_when(closed):
    (row,) = closed.json("store", "retain", "--dry-run").rows
    assert (row["period"], row["state"], row["answers"]) == ("2026-11", "kept", 2)
    assert row["why"].startswith("a draft until")
    assert closed.json("store", "retain").rows == [row]


def test_sizes_are_said_in_units_that_a_person_reads():
    assert [_size(one) for one in (-1, 0, 10_239, 10_240, 20 << 20, 5 << 40)] == [
        "?", "0 B", "10,239 B", "10 KiB", "20 MiB", "5,120 GiB",
    ]  # fmt: skip
