from __future__ import annotations

import pytest

from tests.commands import Commands

DENIES = "User-agent: *\nContent-Signal: ai-input=no, dreams=yes\n"


@pytest.fixture
def ec(tmp_path):
    """Ada has registered one work."""
    ec = Commands(tmp_path / "data")
    ec("creators", "add", "Ada", "--ref", "ada")
    (tmp_path / "ferry.txt").write_text(
        "The ferryman of Lower Quill kept a ledger of all who crossed on credit."
    )
    (tmp_path / "robots.txt").write_text(DENIES)
    assert ec("works", "add", tmp_path / "ferry.txt", "--creator", "ada", "--no-index").status == 0
    return ec


def verdict(ec, ref="ferry.txt"):
    return ec.json("works", "show", ref).row["verdict"]


def test_a_signal_is_taken_in_acted_on_and_told_with_what_was_not_read(ec, tmp_path):
    ran = ec(
        "import-licence",
        tmp_path / "robots.txt",
        "--creator",
        "ada",
        "--origin",
        "https://a.example/robots.txt",
    )
    assert ran.status == 0
    assert "output_influence deny" in ran.out
    assert "dreams=yes" in ran.out
    assert "2 consents changed" in ran.out
    assert verdict(ec) == "prohibited"
    assert "nothing changed" in ec("import-licence", tmp_path / "robots.txt", "--creator", "ada").out


def test_new_works_of_that_creator_fall_under_it(ec, tmp_path):
    ec("import-licence", tmp_path / "robots.txt", "--creator", "ada")
    (tmp_path / "bridge.txt").write_text(
        "When the bridge came he crossed it himself, once, and paid the toll."
    )
    ran = ec("works", "add", tmp_path / "bridge.txt", "--creator", "ada", "--no-index")
    assert "2 consents follow" in ran.err
    assert verdict(ec, "bridge.txt") == "prohibited"


def test_a_contract_holds_before_it_and_revoking_it_ends_that(ec, tmp_path):
    ec("import-licence", tmp_path / "robots.txt", "--creator", "ada")
    ran = ec.json("licences", "contract", "allow", "--work", "ferry.txt", "--why", "Letter of 3 May.")
    assert verdict(ec) == "paid"
    ec("licences", "revoke", ran.row["added"][0]["id"], "--reason", "Ran out.")
    assert verdict(ec) == "prohibited"
    assert "ended: Ran out." in ec("licences", "list", "--work", "ferry.txt").out


def test_the_file_is_given_back_byte_for_byte(ec, tmp_path):
    row = ec.json("import-licence", tmp_path / "robots.txt", "--work", "ferry.txt").row["added"][0]
    ec("licences", "file", row["file_sha256"], "--out", tmp_path / "back.txt")
    assert (tmp_path / "back.txt").read_bytes() == (tmp_path / "robots.txt").read_bytes()


def test_what_it_is_about_must_be_said_once(ec, tmp_path):
    for about in ((), ("--work", "ferry.txt", "--creator", "ada")):
        assert ec("import-licence", tmp_path / "robots.txt", *about).status == 2


def test_a_file_without_a_signal_is_refused_with_what_could_be_given(ec, tmp_path):
    (tmp_path / "note.txt").write_text("All rights reserved.")
    ran = ec("import-licence", tmp_path / "note.txt", "--work", "ferry.txt")
    assert ran.status == 1
    assert "tdmrep.json" in ran.err


def test_a_contract_may_agree_on_a_rate_and_a_bad_one_records_nothing(ec):
    agreed = ("licences", "contract", "allow", "--work", "ferry.txt", "--why", "Letter of 3 May.", "--rate")
    ran = ec.json(*agreed, "lots")
    assert (ran.status, ran.row["error"]) == (1, "terms")
    assert ec.json("licences", "list", "--work", "ferry.txt").rows == []
    assert ec.json(*agreed, "0.004").status == 0
    (asked,) = ec.json("terms", "list", "--work", "ferry.txt").rows
    assert ec.json("terms", "set", "floor", "0.01", "--work", "ferry.txt").row["of"] == asked["of"]
    assert (asked["kind"], asked["value"], asked["why"]) == ("rate", "0.004", "Letter of 3 May.")
