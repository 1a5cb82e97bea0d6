from __future__ import annotations

import json

import pytest

from proxy.catalogue.agreements_store import Agreements
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import Part, Split
from proxy.clock import RandomIds, SystemClock
from proxy.database import open_engine
from tests.commands import Commands

TEXT = (
    "The ferryman of Lower Quill kept a ledger of everyone who had ever crossed on credit. "
    "When the bridge came he crossed it himself, once, and paid the toll with the ledger."
)


@pytest.fixture
def ec(tmp_path):
    """Ada has registered one work; Bo is known."""
    ec = Commands(tmp_path / "data")
    ec("creators", "add", "Ada", "--ref", "ada")
    ec("creators", "add", "Bo", "--ref", "bo")
    (tmp_path / "ferry.txt").write_text(TEXT)
    assert ec("works", "add", tmp_path / "ferry.txt", "--creator", "ada", "--no-index").status == 0
    return ec


def claimed(ec) -> str:
    return ec.json(
        "claims", "open", "--work", "ferry.txt", "--claimant", "bo", "--basis", "Printed 1999."
    ).row["id"]


def test_an_upheld_claim_moves_the_work_and_says_that_an_index_is_due(ec):
    claim = claimed(ec)
    assert "Printed 1999." in ec("claims", "show", claim).out
    ran = ec("claims", "decide", claim, "--uphold", "--reason", "The copy of 1999 shows it.", "--by", "Ines")
    assert ran.status == 0
    assert "index build" in ran.out
    shown = ec.json("claims", "show", claim).row
    assert (shown["state"], shown["owner_ref"], shown["decided_by"]) == ("upheld", "bo", "Ines")
    assert "The copy of 1999 shows it." in ec("claims", "show", claim).out
    assert "claim was upheld" in ec("works", "show", "ferry.txt").out
    assert [work["ref"] for work in ec.json("works", "list", "--creator", "bo").rows] == ["ferry.txt"]
    assert ec.json("works", "show", "ferry.txt").row["split"][0]["ppm"] == 1_000_000


def test_claims_are_listed_with_what_waits(ec):
    assert "no claims" in ec("claims", "list").out
    claim = claimed(ec)
    assert [row["id"] for row in ec.json("claims", "list", "--open").rows] == [claim]
    assert "ferry" in ec("claims", "list", "--work", "ferry.txt").out
    ec("claims", "decide", claim, "--reject", "--reason", "No proof.")
    assert ec.json("claims", "list", "--open").rows == []
    assert [row["state"] for row in ec.json("claims", "list").rows] == ["rejected"]


def test_a_claim_is_decided_once_and_the_refusal_says_what_to_do(ec):
    claim = claimed(ec)
    ec("claims", "decide", claim, "--withdraw", "--reason", "A mistake.")
    again = ec.json("claims", "decide", claim, "--uphold", "--reason", "Or not?")
    assert (again.status, again.row["error"]) == (1, "claim_decided")
    assert "new claim" in again.row["remedy"]
    assert ec("claims", "decide", claim, "--reason", "x").status == 2


def test_what_people_write_cannot_command_a_terminal(ec):
    basis = "Mine.\x1b]0;owned\x07\u202e \x1b[2J"
    claim = ec.json("claims", "open", "--work", "ferry.txt", "--claimant", "bo", "--basis", basis).row["id"]
    for ran in (ec("claims", "show", claim), ec("claims", "list")):
        assert not set(ran.out) & {"\x1b", "\x07", "\u202e"}
    too_long = ec("claims", "open", "--work", "ferry.txt", "--claimant", "bo", "--basis", "x" * 5_000)
    assert too_long.status == 1


def test_a_proposed_split_is_listed_with_whose_word_it_waits_for(ec):
    assert ec("splits", "list").out == "no proposed split waits\n"
    engine = open_engine(f"sqlite:///{ec.data / 'endcredits.db'}")
    catalogue = Catalogue(engine, clock=SystemClock(), ids=RandomIds())
    hers = Agreements(engine, clock=SystemClock(), ids=RandomIds(), creator=catalogue.creator("ada").id)
    halves = Split((Part("ada", 500_000), Part("bo", 500_000)))
    hers.propose(catalogue.find_work("ferry.txt").id, halves)
    engine.dispose()
    row = ec.json("splits", "list").row
    assert (row["proposed_by"], row["waits_for"]) == ("ada", "bo")


def test_a_verified_identifier_is_shown_and_can_be_revoked(ec):
    ran = ec.json("works", "verify", "ferry.txt", "--identifier", "isbn:0-306-40615-2")
    assert ran.row["identifier"] == "isbn:9780306406157"
    shown = ec.json("works", "show", "ferry.txt").row
    assert (shown["identifiers"], shown["standing"]) == (["isbn:9780306406157"], 1)
    assert "isbn:9780306406157" in ec("works", "show", "ferry.txt").out
    assert ec("works", "verify", "ferry.txt", "--identifier", "isbn:0-306-40615-3").status == 1
    assert ec.json("works", "verify", "ferry.txt", "--identifier", "isbn:0306406152", "--revoke").row[
        "changed"
    ]
    assert ec.json("works", "show", "ferry.txt").row["standing"] == 0


def test_what_was_attested_is_told_at_once_and_kept(ec, tmp_path):
    (tmp_path / "other.txt").write_text(TEXT + " Nobody missed it.")
    ran = ec("works", "add", tmp_path / "other.txt", "--creator", "bo", "--attest", "--no-index")
    assert "attested by their creators" in ran.err
    assert ran.err.count("I made this text") == 1
    for work, by in (("other.txt", ec.json("creators", "show", "bo").row["id"]), ("ferry.txt", "operator")):
        (kept,) = ec.json("works", "show", work).row["attestations"]
        assert (kept["attested_by"], kept["statement"]) == (by, "own/1")
        assert len(kept["statement_sha256"]) == 64
        assert "I made this text" in ec("works", "show", work).out
    assert "I made this text" in " ".join(ec("works", "add", "--help").out.split())


def test_a_commons_is_nobodys_and_takes_no_other_licence(ec, tmp_path):
    listed = tmp_path / "commons.jsonl"
    rows = [
        {
            "work_id": "psalm",
            "creator_id": "somebody",
            "text": TEXT + " Amen.",
            "registered_at": "1900-01-01",
        },
        {"work_id": "blog", "text": TEXT + " Again.", "licence": "CC-BY-4.0"},
        {"work_id": "notice", "text": TEXT + " Thus.", "licence": "cc0-1.0", "splits": "ada:1000000"},
    ]
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = ec.json("works", "add", listed, "--commons", "--no-index")
    assert [row["status"] for row in ran.rows] == ["added", "refused", "added"]
    assert "somebody's licence" in ran.rows[1]["why"]
    shown = ec.json("works", "show", "psalm").row
    assert (shown["commons"], shown["verdict"], shown["licence"]) == (True, "free", "public-domain")
    assert shown["registered"].startswith("1900-01-01")
    assert ec.json("works", "show", "notice").row["licence"] == "CC0-1.0"
    assert [row["ref"] for row in ec.json("works", "list", "--creator", "~commons").rows] == [
        "psalm",
        "notice",
    ]
    assert [creator["ref"] for creator in ec.json("creators", "list").rows] == ["ada", "bo"]
    for wrong in (("--creator", "ada"), ("--attest",), ("--consent", "paid")):
        assert ec("works", "add", listed, "--commons", *wrong).status == 2
    assert ec("works", "add", listed, "--commons", "--licence", "MIT").status == 1
    assert ec("works", "add", tmp_path / "ferry.txt", "--creator", "~commons").status == 1


def test_a_held_work_is_shown_with_why_and_since_when_and_upheld_or_released(ec, tmp_path):
    words = (
        "insurance",
        "mortgage",
        "attorney",
        "lawyer",
        "claim",
        "loans",
        "recovery",
        "hosting",
        "trading",
    )
    pile = " ".join(words[(7 * n + n // 9) % len(words)] for n in range(240))
    (tmp_path / "pile.txt").write_text(pile)
    ran = ec("works", "add", tmp_path / "pile.txt", "--creator", "bo")
    assert "works review" in ran.err
    held = ec.json("works", "review").row
    assert (held["ref"], held["state"], held["copy_of"], held["part_ppm"]) == ("pile.txt", "held", "", 0)
    assert held["reason"]
    assert held["since"].startswith("20")
    ec("works", "review", "--uphold", "pile.txt", "--reason", "Keywords.", "--by", "Ines")
    looked = ec.json("works", "review").row
    assert (looked["state"], looked["said"], looked["decided_by"]) == ("upheld", "Keywords.", "Ines")
    assert looked["since"] == held["since"]
    ec("works", "review", "--release", "pile.txt", "--reason", "A poem after all.")
    assert ec.json("works", "review").rows == []
    assert ec("works", "review", "--release", "pile.txt", "--uphold", "pile.txt").status == 2


def test_the_queue_says_when_an_index_is_due(ec):
    assert "newer than the index" in ec("works", "review").err
    ec("index", "build")
    assert ec("works", "review").err == ""
    ec("works", "verify", "ferry.txt", "--identifier", "isbn:0306406152")
    assert "1 change is newer" in ec("works", "review").err


# What an index makes of it

LONGER = (
    f"{TEXT} The clerk at Upper Quill would not take it, for half of the names were dead and the other half were "
    "his cousins. So the ledger lies under the third pier, wrapped in oilcloth, and every spring somebody's "
    "grandson dives for it and comes up with a wheel, a boot, or a cold."
)


@pytest.fixture
def copied(ec, tmp_path):
    """Ada registered a text of Bo's in March; Bo came in May, and is held up as the copy."""
    listed = tmp_path / "both.jsonl"
    rows = [
        {"work_id": "hers", "creator_id": "ada", "text": LONGER, "registered_at": "2026-03-01"},
        {"work_id": "his", "creator_id": "bo", "text": LONGER, "registered_at": "2026-05-01"},
    ]
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ec("works", "add", listed)
    return ec


def copies(ec) -> dict[str, str]:
    refs = {row["id"]: row["ref"] for row in ec.json("works", "list").rows}
    return {row["ref"]: refs[row["copy_of"]] for row in ec.json("works", "review").rows if row["copy_of"]}


def test_the_later_copy_is_held_and_the_queue_names_what_it_copies(copied):
    assert copies(copied)["his"] == "hers"
    (held,) = [row for row in copied.json("works", "review").rows if row["ref"] == "his"]
    assert held["kind"] == "copy"
    assert held["part_ppm"] > 900_000
    assert "hers" in copied("works", "review").out


def test_a_verified_identifier_turns_it_round(copied):
    copied("works", "verify", "his", "--identifier", "isbn:0306406152")
    copied("index", "build")
    assert copies(copied) == {"hers": "his", "ferry.txt": "his"}


def test_an_upheld_claim_stands_above_a_verified_identifier(copied):
    copied("works", "verify", "his", "--identifier", "isbn:0306406152")
    copied("creators", "add", "Cy", "--ref", "cy")
    claim = copied.json("claims", "open", "--work", "hers", "--claimant", "cy", "--basis", "Mine.").row["id"]
    copied("claims", "decide", claim, "--uphold", "--reason", "Cy has the manuscript.")
    copied("index", "build")
    assert copies(copied)["his"] == "hers"
    assert "newer" not in copied("works", "review").err


def test_what_is_commons_is_owned_by_nobody_however_late_it_is_loaded_with_its_date(copied, tmp_path):
    listed = tmp_path / "commons.jsonl"
    listed.write_text(json.dumps({"work_id": "old", "text": LONGER, "registered_at": "1900-01-01"}) + "\n")
    copied("works", "add", listed, "--commons")
    held = copies(copied)
    assert held["his"] == held["hers"] == "old"


def test_a_copy_whose_licence_is_stated_earns_by_it_and_says_so(ec, tmp_path):
    told = tmp_path / "told.jsonl"
    row = {
        "work_id": "told",
        "creator_id": "bo",
        "title": "Told again",
        "text": TEXT.replace("bridge", "tunnel"),
    }
    told.write_text(json.dumps(row))
    assert ec("works", "add", told).status == 0
    assert "outranks it" in ec("works", "review").out
    ran = ec.json("works", "adapts", "told", "--of", "ferry.txt:400000")
    assert (ran.status, ran.row["changed"]) == (0, True)
    assert not ec.json("works", "adapts", "told", "--of", "ferry.txt:400000").row["changed"]
    assert "index build" in ec("works", "review").err
    assert ec("index", "build").status == 0
    assert ec.json("works", "review").rows == []
    shown = ec.json("works", "show", "told").row
    assert [one["ppm"] for one in shown["adapts"]] == [400_000]
    assert "40 %" in ec("works", "show", "told").out
    assert ec.json("works", "show", "ferry.txt").row["adapted_by"] == [shown["id"]]
    assert "made from itself" in ec("works", "adapts", "ferry.txt", "--of", "told:1").err


def test_what_a_work_comes_from_is_stated_listed_and_ended(ec, tmp_path):
    rows = [
        {"work_id": "fähre", "creator_id": "bo", "text": "Der Fährmann.", "translation_of": "ferry.txt"},
        {"work_id": "toll", "creator_id": "ada", "text": TEXT[88:]},
    ]
    listed = tmp_path / "linked.jsonl"
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ec("works", "add", listed, "--no-index").status == 0
    ran = ec.json("works", "link", "toll", "--excerpt-of", "ferry.txt", "--by", "Ines")
    assert (ran.row["kind"], ran.row["changed"]) == ("excerpt_of", True)
    assert "stated already" in ec("works", "link", "toll", "--excerpt-of", "ferry.txt").out
    whole = ec.json("works", "show", "ferry.txt").row
    assert [(one["kind"], one["by"]) for one in whole["linked_by"]] == [
        ("excerpt_of", "Ines"),
        ("translation_of", "operator"),
    ]
    assert f"excerpt of {whole['id']}" in ec("works", "show", "toll").out
    assert "is a translation of this" in ec("works", "show", "ferry.txt").out
    of = {row["ref"]: [one["of"] for one in row["links"]] for row in ec.json("works", "list").rows}
    assert of == {"ferry.txt": [], "fähre": [whole["id"]], "toll": [whole["id"]]}
    assert "link_stated" in ec("works", "changes", "toll").out
    assert "come from itself" in ec("works", "link", "ferry.txt", "--excerpt-of", "fähre").err
    assert ec("works", "link", "toll", "--excerpt-of", "fähre", "--recording-of", "fähre").status == 2
    assert [ec.json("works", "unlink", "toll", "ferry.txt").row["changed"] for _ in range(2)] == [True, False]
    assert ec.json("works", "show", "toll").row["links"] == []
