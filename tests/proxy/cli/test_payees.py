from __future__ import annotations

import datetime as dt
import json

import pytest

from proxy.billing.declarations_store import Declarations
from proxy.billing.payees import TaxProfile
from proxy.clock import SystemClock
from proxy.database import open_engine
from tests.commands import Commands

IBAN = "DE89 3704 0044 0532 0130 00"
SET = ("--rail", "sepa", "--holder", "Ada Sandmark", "--country", "DE")


@pytest.fixture
def ec(tmp_path):
    ec = Commands(tmp_path / "data")
    ec("creators", "add", "Ada", "--ref", "ada")
    ec("creators", "add", "Bo", "--ref", "bo")
    return ec


def test_an_account_is_shown_by_its_last_four_until_somebody_asks_for_all_of_it(ec):
    ran = ec("payees", "set", "ada", *SET, "--account", IBAN, "--minimum", "25")
    assert ran.status == 0
    assert "···· 3000" in ran.out
    for shown in (ec("payees", "show", "ada"), ec("payees", "list"), ec.json("payees", "show", "ada")):
        assert "DE89" not in shown.out
        assert "Sandmark" not in shown.out
    row = ec.json("payees", "show", "ada").row
    assert (row["account"]["minimum"], row["account"]["verified_by"]) == ("25.00", "operator")
    revealed = ec.json("payees", "show", "ada", "--reveal").row["account"]
    assert (revealed["account"], revealed["holder"]) == (IBAN.replace(" ", ""), "Ada Sandmark")
    assert "Ada Sandmark" in ec("payees", "show", "ada", "--reveal").out


def test_an_account_can_come_by_standard_input_and_stands_in_no_history(ec, tmp_path):
    assert ec("payees", "set", "ada", *SET, "--account", "-", fed=f"{IBAN}\n").status == 0
    assert ec.json("payees", "show", "ada", "--reveal").row["account"]["account"].startswith("DE89")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert b"DE89370400440532013000" not in stored
    assert b"Sandmark" not in stored
    assert (tmp_path / "data" / "payees.key").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_an_account_is_refused_without_repeating_it(ec):
    wrong = ec.json("payees", "set", "ada", *SET, "--account", "DE88370400440532013000")
    assert (wrong.status, wrong.row["error"]) == (1, "iban")
    assert "37040044" not in wrong.out + wrong.err
    assert ec("payees", "set", "nobody", *SET, "--account", IBAN).status == 1
    assert ec("payees", "show", "ada").out.count("none entered") == 1


def test_an_account_that_nobody_has_checked_is_listed_until_somebody_has(ec):
    ec("payees", "set", "ada", *SET, "--account", IBAN, "--unverified")
    ec("payees", "set", "bo", "--rail", "manual", "--account", "cheque", "--holder", "Bo", "--country", "DE")
    assert [row["ref"] for row in ec.json("payees", "list", "--unverified").rows] == ["ada"]
    assert "not verified" in ec("payees", "show", "ada").out
    wrong = ec.json("payees", "verify", "ada", "--version", "2")
    assert (wrong.status, wrong.row["error"]) == (1, "payee_version")
    assert ec.json("payees", "verify", "ada", "--version", "1", "--by", "Ines").row["changed"]
    assert "was verified already" in ec("payees", "verify", "ada", "--version", "1").out
    assert ec.json("payees", "list", "--unverified").rows == []
    assert {row["ref"] for row in ec.json("payees", "list").rows} == {"ada", "bo"}


def test_what_was_declared_for_tax_holds_by_day(ec):
    ran = ec.json(
        "payees",
        "tax",
        "ada",
        "--form",
        "W8BEN",
        "--country",
        "de",
        "--from",
        "2026-01-01",
        "--treaty-ppm",
        "50000",
    )
    assert ran.row["tax_profiles"] == [
        {"form": "W8BEN", "country": "DE", "treaty_ppm": 50_000, "from": "2026-01-01", "to": None}
    ]
    ec("payees", "tax", "ada", "--form", "W9", "--country", "US", "--from", "2026-07-01")
    rows = ec.json("payees", "show", "ada").row["tax_profiles"]
    assert [(row["form"], row["to"]) for row in rows] == [("W8BEN", "2026-07-01"), ("W9", None)]
    assert "W8BEN of DE from 2026-01-01 to before 2026-07-01" in ec("payees", "show", "ada").out
    assert ec("payees", "tax", "ada", "--form", "W9", "--country", "US", "--from", "July").status == 1


def test_a_hold_is_shown_with_its_reason_and_ends(ec):
    ec("payees", "set", "ada", *SET, "--account", IBAN)
    assert ec.json("payees", "hold", "ada", "--reason", "A letter came back.").row["changed"]
    assert "as they were" in ec("payees", "hold", "ada", "--reason", "Again.").out
    assert "A letter came back." in ec("payees", "show", "ada").out
    assert ec.json("payees", "release", "ada", "--reason", "She wrote.").row["held"] is False
    assert ec.json("payees", "show", "ada").row["hold"] == ""


def test_without_an_account_the_list_says_what_to_do(ec):
    assert "payees set" in ec("payees", "list").out
    assert json.loads(ec.json("payees", "show", "ada").out)["owed"][0]["reason"] == "nothing_owed"


def test_what_a_creator_declared_is_listed_checked_and_holds(ec):
    ada = ec.json("creators", "show", "ada").row["id"]
    engine = open_engine(f"sqlite:///{ec.data / 'endcredits.db'}")
    given = Declarations(engine, clock=SystemClock(), by=ada)
    given.give(ada, TaxProfile("W8BEN", "DE", 50_000, dt.date(2026, 1, 1)))
    assert ec.json("payees", "waiting").rows[0]["tax_given"]["version"] == 1
    assert "W8BEN of DE (version 1)" in ec("payees", "waiting").out
    assert "waits as version 1" in ec("payees", "show", "ada").out
    assert "no_treaty" in ec("payees", "tax-check", "ada", "--version", "1", "--refuse", "help").out
    assert ec("payees", "tax-check", "ada", "--version", "1").status == 2
    assert ec.json("payees", "tax-check", "ada", "--version", "1", "--refuse", "unsigned").row["changed"]
    assert "not signed" in ec("payees", "show", "ada").out
    given.give(ada, TaxProfile("W8BEN", "DE", 50_000, dt.date(2026, 1, 1)))
    engine.dispose()
    ran = ec.json("payees", "tax-check", "ada", "--version", "3", "--accept", "--by", "Ines")
    assert (ran.row["state"], ran.row["changed"]) == ("accepted", True)
    assert [one["form"] for one in ec.json("payees", "show", "ada").row["tax_profiles"]] == ["W8BEN"]
    assert "nothing waits" in ec("payees", "waiting").out
