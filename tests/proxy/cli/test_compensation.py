import pytest

from tests.commands import Commands

POLICY = 'name = "better"\nroyalty_ppm = 500000\ncommon_rule = "pro_rata"\n'


@pytest.fixture
def run(tmp_path):
    return Commands(tmp_path / "data")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "better.toml"
    path.write_text(POLICY)
    return path


def test_a_policy_is_imported_once_shown_and_put_in_force(run, file):
    made = run.json("policies", "import", file, "--by", "ada").row
    assert made["added"]
    assert not run.json("policies", "import", file).row["added"]
    assert run.json("policies", "show", made["id"]).row["rules"]["royalty_ppm"] == 500_000
    assert run.json("policies", "show").row["name"] == "settings"
    held = run.json("policies", "activate", made["id"], "--by", "ada").row
    assert (held["seq"], held["by"]) == (1, "ada")
    assert run.json("policies", "show").row["id"] == made["id"]
    (listed,) = run.json("policies", "list").rows
    assert listed["holds_from"] == [held["holds_from"]]
    assert "better" in run("policies", "list").out
    assert "royalty_ppm = 500000" in run("policies", "show").out


def test_the_settings_can_be_pinned_as_a_policy(run):
    made = run.json("policies", "import", "--settings").row
    assert made["name"] == "settings"
    assert run("policies", "activate", made["id"], "--from", "2999-01-01").status == 0
    assert run("policies", "import").status == 2


def test_what_another_policy_would_have_paid_is_told_and_not_booked(run, file):
    made = run.json("policies", "import", file).row
    row = run.json("policies", "preview", made["id"]).row
    assert (row["policy"], row["is_open"], row["events"]) == (made["id"], True, 0)
    said = run("policies", "preview", made["id"])
    assert "charged" in said.out
    assert "no creators" in said.out
    assert run("policies", "preview", "pol_none").status == 1


def test_a_policy_is_not_backdated_nor_dated_by_what_is_no_time(run, file):
    made = run.json("policies", "import", file).row
    ran = run.json("policies", "activate", made["id"], "--from", "2020-01-01")
    assert (ran.status, ran.row["error"]) == (1, "policy_backdated")
    assert run("policies", "activate", made["id"], "--from", "soon").status == 1


@pytest.fixture
def app(run):
    run("keys", "create", "--role", "app", "--name", "Choir")
    return "Choir"


def test_a_revenue_is_declared_by_one_and_approved_by_another(run, app):
    made = run.json("pools", "declare", app, "2026-11", "9317.83", "--users", "40", "--by", "ada").row
    assert (made["amount"], made["users"], made["state"]) == ("9317.83", 40, "declared")
    ran = run.json("pools", "approve", made["id"], "--by", "ada")
    assert (ran.status, ran.row["error"]) == (1, "pool_same_person")
    assert run.json("pools", "approve", made["id"], "--by", "ben").row["decided_by"] == "ben"
    assert "already" in run("pools", "approve", made["id"], "--by", "cy").out
    other = run.json("pools", "declare", app, "2026-11", "1", "--less", "--kind", "other").row
    assert other["amount"] == "-1.00"
    assert run.json("pools", "withdraw", other["id"]).row["state"] == "withdrawn"
    assert [row["state"] for row in run.json("pools", "list", "--app", made["app"]).rows] == [
        "approved",
        "withdrawn",
    ]
    assert "9317.83" in run("pools", "list").out


def test_common_money_needs_a_rule_and_a_closed_period(run, file):
    assert run.json("common", "list").row == {"carried": [], "distributions": []}
    assert run("common", "list").status == 0
    assert run("common", "distribute", "2026-11").status == 1
    run("periods", "close", "2026-11")
    assert run.json("common", "distribute", "2026-11").row["error"] == "common_no_rule"
    made = run.json("policies", "import", file).row
    run("policies", "activate", made["id"])
    assert run.json("common", "distribute", "2026-11", "--dry-run").row["error"] == "common_empty"
    assert run("common", "approve", "dst_none").status == 1
    assert run("common", "cancel", "dst_none").status == 1


def test_what_works_ask_for_is_recorded_for_one_or_for_all_of_a_creator(run):
    creator = run.json("creators", "add", "Ada").row["id"]
    made = run.json("terms", "set", "floor", "0.02", "--creator", "ada", "--why", "her letter").row
    assert (made["scope"], made["of"], made["value"], made["currency"]) == ("creator", creator, "0.02", "USD")
    ended = run.json("terms", "set", "floor", "none", "--creator", creator).row
    assert ended["value"] == "none"
    assert len(run.json("terms", "list", "--creator", "ada").rows) == 2
    assert run.json("terms", "set", "excerpt_words", "50", "--creator", "ada").row["value"] == "50"
    assert "excerpt_words" in run("terms", "list").out
    assert run("terms", "set", "floor", "1", "--work", "w_none").status == 1
    assert run("terms", "set", "floor", "1").status == 2
