from __future__ import annotations

import json

import pytest

from proxy.clock import SystemClock
from proxy.database import open_engine
from proxy.metering.usage import Line
from proxy.receipts.issuing import Issuer
from proxy.receipts.verify import canonical
from tests.books import Bookkeeping
from tests.commands import Commands
from tests.fakes import FrozenClock
from tests.proxy.receipts.making import answer


@pytest.fixture
def ec(tmp_path):
    return Commands(tmp_path / "data")


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path / "data", "endcredits.local/log", FrozenClock())


def test_a_receipt_holds_with_saved_keys_on_any_machine_and_with_the_operators_own(ec, issuer, tmp_path):
    (tmp_path / "receipt").write_text(issuer.receipt(answer()))
    (tmp_path / "keys.json").write_bytes(canonical(issuer.about()))
    ran = ec("verify", tmp_path / "receipt")
    assert (ran.status, ran.out.split(":")[0]) == (0, "signed")
    elsewhere = Commands(tmp_path / "elsewhere")
    assert (
        elsewhere.json("verify", tmp_path / "receipt", "--keys", tmp_path / "keys.json").row["holds"] is True
    )
    assert elsewhere.json("verify", tmp_path / "receipt").row["error"] == "no_signing_keys"


def test_a_receipt_that_was_changed_does_not_hold(ec, issuer, tmp_path):
    (tmp_path / "receipt").write_text(json.dumps({"receipt": issuer.receipt(answer())[:-4] + "AAAA"}))
    ran = ec.json("verify", tmp_path / "receipt")
    assert (ran.status, ran.row["holds"]) == (1, False)
    assert "signature" in ran.row["why"]


def test_a_new_key_signs_and_the_old_one_stays_listed_with_its_end(ec, issuer, tmp_path):
    old = issuer.signer.kid
    new = ec.json("signing", "rotate", "--overlap-days", "1").row["kid"]
    rows = ec.json("signing", "list").rows
    assert {row["kid"]: row["until_us"] is None for row in rows} == {old: False, new: True}
    (tmp_path / "receipt").write_text(issuer.receipt(answer()))
    assert ec("verify", tmp_path / "receipt").status == 0
    assert old in ec("signing", "list").out


def test_keys_are_not_made_by_looking_for_them(ec, tmp_path):
    assert ec("signing", "list").status == 1
    assert not (tmp_path / "data" / "signing").exists()


def test_a_closed_period_is_written_as_files_that_hold_elsewhere(ec, tmp_path):
    ec("periods", "close", "a")
    ec("periods", "close", "b")
    (tmp_path / "keys.json").write_bytes(
        canonical(Issuer(tmp_path / "data", "endcredits.local/log", SystemClock()).about())
    )
    for label in ("a", "b"):
        assert ec("periods", "manifest", label, "--out", tmp_path / f"{label}.json").status == 0
    elsewhere = Commands(tmp_path / "elsewhere")
    held = elsewhere.json(
        "verify", tmp_path / "b.json", "--after", tmp_path / "a.json", "--keys", tmp_path / "keys.json"
    ).row
    assert held["proven"][-1] == "next: the period follows the one before, and nothing lies between them"
    turned = elsewhere.json(
        "verify", tmp_path / "a.json", "--after", tmp_path / "b.json", "--keys", tmp_path / "keys.json"
    )
    assert (turned.status, turned.row["holds"]) == (1, False)
    assert ec.json("periods", "manifest", "c").row["error"] == "not_signed"
    assert ec.json("periods", "charge", "a", "--app", "app_x").row["error"] == "not_found"
    assert ec.json("statements", "signed", "stm_x").row["error"] == "not_found"


def test_a_statement_is_counted_anew_from_its_receipts(ec, tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'data' / 'endcredits.db'}")
    ec("creators", "list")
    books = Bookkeeping(engine)
    books.answer([Line("w_0", 500_000)])
    engine.dispose()
    assert ec("periods", "close", "a").status == 0
    (row,) = ec.json("statements", "list").rows
    for what in ("signed", "uses"):
        assert ec("statements", what, row["id"], "--out", tmp_path / what).status == 0
    held = ec.json("recompute", tmp_path / "signed", "--uses", tmp_path / "uses").row
    assert held["proven"][-1].startswith("uses: the receipts of 1 uses are all that its lines count")
    lines = (tmp_path / "uses").read_bytes().splitlines(keepends=True)
    (tmp_path / "uses").write_bytes(lines[0])
    again = ("recompute", tmp_path / "signed", "--uses", tmp_path / "uses", "--after", tmp_path / "signed")
    assert ec.json(*again).row["holds"] is False
    left_out = ec.json("recompute", tmp_path / "signed", "--uses", tmp_path / "uses")
    assert (left_out.status, left_out.row["holds"]) == (1, False)
    assert ec("periods", "charge", "a", "--app", "app_0").status == 0


def test_a_creator_shows_offline_that_her_withdrawal_stands_in_the_log_under_its_number(ec, tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'data' / 'endcredits.db'}")
    ec("creators", "list")
    Bookkeeping(engine)
    ec("works", "withdraw", "w_1")
    row = ec.json("works", "changes", "w_1").row
    assert (row["kind"], row["logged"]) == ("work_withdrawn", False)
    assert ec("works", "proof", row["seq"], "--out", tmp_path / "hers").status == 0
    assert ec.json("works", "changes", "w_1").row["logged"] is True
    proven = ec.json("verify", tmp_path / "hers").row["proven"]
    assert proven[0].startswith(f"registry: its change {row['seq']} is work_withdrawn of w_1, by ")
    assert proven[1] == 'said: {"work":"w_1"}'
    later = (tmp_path / "hers").read_text().replace(f'"seq":{row["seq"]}', f'"seq":{row["seq"] + 1}')
    (tmp_path / "hers").write_text(later)
    assert ec.json("verify", tmp_path / "hers").row["holds"] is False
    assert ec.json("works", "proof", 99_999).row["error"] == "not_logged"
