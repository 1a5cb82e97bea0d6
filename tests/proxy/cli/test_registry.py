from __future__ import annotations

import json

import pytest

from tests.commands import Commands

TEXT = (
    "The ferryman of Lower Quill kept a ledger of everyone who had ever crossed on credit. "
    "When the bridge came he crossed it himself, once, and paid the toll with the ledger."
)


@pytest.fixture
def ec(tmp_path):
    return Commands(tmp_path / "data")


def works_file(folder, *rows):
    path = folder / "works.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(number: int, **changes):
    return {
        "work_id": f"r{number}",
        "creator_id": "ada",
        "title": f"T{number}",
        "text": f"{TEXT} {number}",
    } | changes


def test_a_creator_is_registered_once(ec):
    first = ec.json("creators", "add", "Ada Lovelock", "--ref", "ada", "--country", "gb").row
    assert (first["ref"], first["added"], first["id"][:2]) == ("ada", True, "c_")
    again = ec.json("creators", "add", "Ada Lovelock", "--ref", "ada").row
    assert (again["id"], again["added"]) == (first["id"], False)
    assert [creator["country"] for creator in ec.json("creators", "list").rows] == ["GB"]
    assert "0 works" in ec("creators", "show", "ada").out


def test_a_list_of_creators_goes_in_and_its_bad_rows_are_named(ec, tmp_path):
    listed = tmp_path / "creators.jsonl"
    listed.write_text('{"ref": "ada", "name": "Ada"}\n{"ref": 5}\n{"ref": "bo", "name": "Bo"}\n')
    ran = ec.json("creators", "add", "--from", listed)
    assert ran.status == 1
    assert [creator["ref"] for creator in ran.rows] == ["ada", "bo"]
    assert "creators.jsonl:2" in ran.err


def test_naming_both_a_creator_and_a_list_is_a_wrong_usage(ec, tmp_path):
    assert ec("creators", "add").status == 2


def test_works_go_in_with_an_index_and_a_second_run_adds_nothing(ec, tmp_path):
    ec("creators", "add", "Ada", "--ref", "ada")
    listed = works_file(tmp_path, row(1), row(2, text=""), row(3))
    ran = ec.json("works", "add", listed)
    assert [outcome["status"] for outcome in ran.rows] == ["added", "refused", "added"]
    assert "2 added, 0 unchanged, 1 refused" in ran.err
    assert ran.status == 1
    assert ec.json("index", "info").row["works"] == 2
    again = ec.json("works", "add", listed)
    assert [outcome["status"] for outcome in again.rows] == ["unchanged", "refused", "unchanged"]
    assert len(ec.json("works", "list").rows) == 2
    assert "whole" in ec("index", "verify").out


def test_a_refused_row_is_named_with_its_reason(ec, tmp_path):
    ec("creators", "add", "Ada", "--ref", "ada")
    ran = ec("works", "add", works_file(tmp_path, row(1, text="")), "--no-index")
    assert "works.jsonl:1" in ran.err
    assert "refused" in ran.err


def test_a_file_needs_to_say_whose_it_is(ec, tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    ran = ec("works", "add", tmp_path / "a.txt")
    assert ran.status == 1
    assert "--creator" in ran.err


def test_consent_and_withdrawal_are_recorded_and_shown(ec, tmp_path):
    ec("creators", "add", "Ada", "--ref", "ada")
    ec("works", "add", works_file(tmp_path, row(1)), "--no-index")
    assert ec.json("works", "show", "r1").row["verdict"] == "paid"
    assert ec.json("works", "consent", "r1", "denied").row["verdict"] == "denied"
    assert ec.json("works", "show", "r1").row["verdict"] == "prohibited"
    assert ec.json("works", "consent", "r1", "free").status == 0
    assert ec.json("works", "withdraw", "r1").row["changed"] is True
    assert ec.json("works", "withdraw", "r1").row["changed"] is False
    shown = ec("works", "show", "r1").out
    assert "withdrawn" in shown
    assert "100 %" in shown


def test_whoever_denies_adaptations_is_told_when_that_acts(ec, tmp_path):
    ec("creators", "add", "Ada", "--ref", "ada")
    ec("works", "add", works_file(tmp_path, row(1)), "--no-index")
    assert "index build" in ec("works", "consent", "r1", "denied", "--use", "derivative").err
    assert "index build" not in ec("works", "consent", "r1", "denied").err


def test_an_unknown_work_is_refused_with_the_remedy(ec):
    ran = ec.json("works", "show", "nowhere")
    assert ran.status == 1
    assert ran.row["error"] == "not_found"
    assert "works list" in ran.row["remedy"]
    assert "remedy:" in ran.err


def test_a_pile_of_keywords_is_held_up_until_somebody_releases_it(ec, tmp_path):
    ec("creators", "add", "Ada", "--ref", "ada")
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
    ran = ec("works", "add", works_file(tmp_path, row(1), row(2, text=pile, title="Pile")))
    assert "works review" in ran.err
    held = ec.json("works", "review").row
    assert (held["ref"], held["creator_ref"], held["title"]) == ("r2", "ada", "Pile")
    assert held["reason"]
    assert ec.json("works", "review", "--release", "r2").row["changed"] is True
    assert ec.json("works", "review").rows == []
    assert "nothing is held up" in ec("works", "review").out
    assert ec.json("works", "review", "--release", "r2").row["changed"] is False


def test_a_key_is_shown_once_and_never_listed(ec):
    made = ec.json("keys", "create", "--role", "app", "--name", "shop").row
    assert made["key"].startswith("ec_app_")
    listed = ec.json("keys", "list")
    assert made["key"] not in listed.out
    assert listed.row["id"] == made["id"]
    assert listed.row["revoked"] is None
    assert ec.json("keys", "revoke", made["id"]).row["changed"] is True
    assert ec.json("keys", "list").row["revoked"] is not None


def test_revoking_by_the_secret_itself_is_refused(ec):
    made = ec.json("keys", "create", "--role", "app").row
    ran = ec("keys", "revoke", made["key"])
    assert ran.status == 1
    assert made["key"] not in ran.err


def test_a_creator_key_needs_its_creator(ec):
    ran = ec("keys", "create", "--role", "creator")
    assert ran.status == 1
    assert "--creator" in ran.err
    ec("creators", "add", "Ada", "--ref", "ada")
    assert (
        ec.json("keys", "create", "--role", "creator", "--creator", "ada")
        .row["key"]
        .startswith("ec_creator_")
    )


def test_without_an_index_its_commands_say_how_to_make_one(ec):
    for command in ("info", "verify"):
        ran = ec("index", command)
        assert ran.status == 1
        assert "index build" in ran.err


def test_an_app_can_be_a_creators_own_and_is_shown_as_such(ec):
    ada, bo = (ec.json("creators", "add", name, "--ref", name.lower()).row["id"] for name in ("Ada", "Bo"))
    made = ec.json("keys", "create", "--role", "app", "--name", "shop", "--creator", "ada")
    assert made.status == 0
    assert ec.json("keys", "list").row["creator_id"] == ada
    refused = ec.json("keys", "create", "--role", "app", "--name", "shop", "--creator", "bo")
    assert (refused.status, refused.row["error"]) == (1, "conflict")
    assert len(ec.json("keys", "list").rows) == 1, "no key was made that nobody has seen"
    assert ec("keys", "create", "--role", "app", "--name", "shop").status == 0
    assert ec.json("keys", "unlink", "shop").row["changed"] is True
    assert ec.json("keys", "link", "shop", "--creator", "bo").row["creator"] == bo
    assert ec.json("keys", "link", "shop", "--creator", "bo").row["changed"] is False
    for nobody in ("nobody", "~commons"):
        assert ec("keys", "link", "shop", "--creator", nobody).status == 1
        assert ec("keys", "create", "--role", "creator", "--creator", nobody).status == 1
    assert ec("keys", "create", "--role", "operator", "--creator", "ada").status == 1
