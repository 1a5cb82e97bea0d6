"""Limits and rotation from the command line."""

from __future__ import annotations

import pytest

from tests.commands import Commands


@pytest.fixture
def ec(tmp_path):
    return Commands(tmp_path)


@pytest.fixture
def key(ec):
    return ec.json("keys", "create", "--role", "app", "--name", "shop").row


def test_an_apps_limits_are_set_one_at_a_time_and_taken_away_by_none(ec, key):
    assert ec("apps", "limit", "shop", "--requests-per-min", "60", "--budget", "25.00").status == 0
    row = ec.json("apps", "limit", "shop", "--origins", "https://A.example, http://localhost:3000").row
    assert (row["requests_per_min"], float(row["budget"]), row["currency"]) == (60, 25, "USD")
    assert row["origins"] == "https://a.example, http://localhost:3000"
    row = ec.json("apps", "limit", "shop", "--requests-per-min", "none", "--budget", "none", "--known-endpoints-only", "yes").row  # fmt: skip
    assert (row["requests_per_min"], row["budget"], row["known_endpoints_only"]) == (None, None, True)
    assert [listed["app"] for listed in ec.json("apps", "list").rows] == ["shop"]
    assert "shop" in ec("apps", "list").out


@pytest.mark.parametrize(
    "given",
    [
        ("--requests-per-min", "0"), ("--tokens-per-min", "many"), ("--budget", "a lot"), ("--budget", "-1"),
        ("--origins", "https://a/b"), ("--known-endpoints-only", "perhaps"),
    ],
)  # fmt: skip
def test_what_is_no_limit_is_refused_and_changes_nothing(ec, key, given):
    ran = ec("apps", "limit", "shop", *given)
    assert ran.status == 1
    assert "remedy" in ran.err
    assert ec.json("apps", "list").row["budget"] is None


def test_an_app_that_does_not_exist_is_named(ec):
    assert "'nobody'" in ec("apps", "limit", "nobody", "--budget", "1").err
    assert ec("apps", "limit", "nobody").status == 2


def test_a_keys_models_and_end_are_shown_in_the_list(ec, key):
    ec("keys", "limit", key["id"], "--models", "gpt-*, o3", "--expires", "2030-01-01")
    row = ec.json("keys", "list").row
    assert (row["models"], row["expires"]) == (["gpt-*", "o3"], "2030-01-01T00:00:00.000000Z")
    assert ec.json("keys", "limit", key["id"], "--models", "none").row == {"id": key["id"], "models": []}
    row = ec.json("keys", "list").row
    assert (row["models"], row["expires"][:4]) == ([], "2030")


def test_a_key_without_an_end_shows_none(ec, key):
    row = ec.json("keys", "list").row
    assert (row["expires"], row["models"]) == (None, [])


def test_what_is_no_time_is_refused(ec, key):
    assert "is not a time" in ec("keys", "limit", key["id"], "--expires", "soon").err
    assert ec("keys", "limit", key["id"]).status == 2


def test_a_rotated_key_is_shown_once_and_the_old_one_has_an_end(ec, key):
    made = ec.json("keys", "rotate", key["id"], "--overlap", "30s").row
    assert made["key"].startswith("ec_app_")
    assert made["replaces"] == key["id"]
    ends = {row["id"]: row["expires"] for row in ec.json("keys", "list").rows}
    assert ends[key["id"]] is not None
    assert ends[made["id"]] is None


@pytest.mark.parametrize("overlap", ["1w", "-1s", "999d", "", "1.5h"])
def test_an_overlap_that_is_none_is_refused(ec, key, overlap):
    assert "--overlap" in ec("keys", "rotate", key["id"], "--overlap", overlap).err
    assert len(ec.json("keys", "list").rows) == 1


def test_a_link_signs_one_person_in_and_names_them(ec):
    ec("creators", "add", "Ada", "--ref", "ada")
    made = ec.json("keys", "sign-in", "--creator", "ada", "--base", "https://credits.example/").row
    assert made["link"].startswith("https://credits.example/portal/enter/")
    assert (made["for"], made["role"]) == ("Ada", "creator")
    assert "/portal/enter/" in ec("keys", "sign-in", "--operator", "Ines").out
    assert ec("keys", "sign-in").status == 2
    assert ec("keys", "sign-in", "--creator", "ada", "--operator", "Ines").status == 2
    assert ec("keys", "sign-in", "--creator", "nobody").status == 1
    assert ec("keys", "sign-in", "--app", "nothing").status == 1
