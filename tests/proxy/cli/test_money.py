from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.metering.journal import Journal
from proxy.metering.usage import Attributed, Line, Used
from proxy.settings import Metering
from tests.commands import Commands

TEXT = "The night bus to Harlow has one passenger, and she is reading the timetable as if it were a novel. "
OCCURRED_US = 1_795_000_000_000_000  # 2026-11-18


@pytest.fixture
def ec(tmp_path):
    """A data folder with two creators and a work of each, one split between them."""
    ec = Commands(tmp_path / "data")
    ec("creators", "add", "Ada", "--ref", "ada")
    ec("creators", "add", "Bo", "--ref", "bo")
    split = [
        {"creator_id": "ada", "ppm": 600_000, "role": "words"},
        {"creator_id": "bo", "ppm": 400_000, "role": "tune"},
    ]
    rows = [
        {"work_id": "r1", "creator_id": "ada", "title": "Solo", "text": TEXT * 3},
        {"work_id": "r2", "creator_id": "bo", "title": "Duet", "text": TEXT * 4, "splits": split},
    ]
    listed = tmp_path / "works.jsonl"
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ec("works", "add", listed, "--no-index").status == 0
    return ec


def meter(ec: Commands, *answers: tuple[str, int, dict[str, int]], model: str = "demo-credits-1") -> None:
    """Leave answers in a journal, as a server that was killed would: (id, price in grains, ppm by ref)."""
    works = {row["ref"]: row["id"] for row in ec.json("works", "list").rows}

    async def write() -> None:
        journal = Journal.open(ec.data / "journal", settings=Metering(), clock=SystemClock())
        for answer_id, grains, shares in answers:
            await journal.append(
                Used(
                    id=answer_id, occurred_us=OCCURRED_US, app="app_1", backend="b", model=model,
                    endpoint="chat.completions", outcome="complete", input_tokens=10, output_tokens=20,
                    estimated=False, price_version="v1", price_grains=grains or None,
                )
            )  # fmt: skip
            lines = tuple(Line(works[ref], ppm) for ref, ppm in shares.items())
            rest = 1_000_000 - sum(shares.values())
            await journal.append(Attributed(id=answer_id, unattributed_ppm=rest, lines=lines, method="m"))
        await journal.close()

    asyncio.run(write())


def test_usage_that_a_killed_server_left_in_its_journal_is_counted(ec):
    meter(ec, ("rct_1", 1_000, {"r1": 250_000}))
    (line,) = ec.json("usage").rows
    assert (line["id"], line["status"], line["unattributed_ppm"]) == ("rct_1", "settled", 750_000)
    assert line["tokens"] == {"input": 10, "output": 20, "estimated": False}
    assert (line["images"], line["milliseconds"]) == (0, 0)
    assert [work["ppm"] for work in line["works"]] == [250_000]
    assert ec.json("usage").rows == [line], "asking again counts nothing twice"
    assert "demo-credits-1" in ec("usage").out
    assert "75.0 %" in ec("usage", "--events").out
    assert ec.json("usage", "--since", "2026-11-19").rows == []


def test_a_time_that_cannot_be_read_is_refused(ec):
    ran = ec("usage", "--since", "yesterday")
    assert ran.status == 1
    assert "2026-11-01" in ran.err


def test_a_period_closes_once_into_statements_that_add_up(ec, tmp_path):
    meter(ec, ("rct_1", 1_000_000, {"r1": 500_000}), ("rct_2", 3_000_001, {"r1": 100_000, "r2": 800_000}))
    dry = ec.json("periods", "close", "2026-11", "--dry-run").row
    assert dry["dry_run"] is True
    assert ec.json("periods", "list").rows == []
    closed = ec.json("periods", "close", "2026-11").row
    assert closed["totals"] == dry["totals"]
    assert ec.json("periods", "close", "2026-11").row == closed
    totals = closed["totals"]
    assert totals["charged_grains"] == 300_000 + 900_000
    assert totals["charged_grains"] == totals["creators_grains"] + sum(totals["common_grains"].values())
    listed = ec.json("statements", "list").rows
    assert sum(row["earned_grains"] for row in listed) == totals["creators_grains"]
    assert {row["ref"] for row in listed} == {"ada", "bo"}
    assert ec.json("periods", "show", "2026-11").row["manifest_sha256"] == closed["manifest_sha256"]
    assert "is closed: 2 answers, 2 statements" in ec("periods", "show", "2026-11").out


def test_statements_are_exported_as_documents(ec, tmp_path):
    meter(ec, ("rct_1", 1_000_000, {"r1": 500_000, "r2": 250_000}))
    ec("periods", "close", "2026-11")
    out = tmp_path / "out"
    files = [row["file"] for row in ec.json("statements", "export", "--format", "html", "--out", out).rows]
    assert len(files) == len(list(out.glob("*.html"))) == 2
    one = ec("statements", "export", "--creator", "ada", "--format", "json")
    statement = json.loads(one.out)
    assert statement["earned_grains"] == sum(line["net_grains"] for line in statement["lines"])
    table = list(
        csv.reader(io.StringIO(ec("statements", "export", "--creator", "ada", "--format", "csv").out))
    )
    assert len(table) > 1


def test_an_export_goes_on_where_it_stopped_and_writes_nothing_half(ec, tmp_path):
    meter(ec, ("rct_1", 1_000_000, {"r1": 500_000, "r2": 250_000}))
    ec("periods", "close", "2026-11")
    out = tmp_path / "out"
    asked = ("statements", "export", "--period", "2026-11", "--format", "csv", "--out", out)
    first, second = sorted(row["file"] for row in ec.json(*asked).rows)
    Path(first).write_text("as it was")
    Path(second).unlink()
    assert [row["file"] for row in ec.json(*asked).rows] == [first, second]
    assert Path(first).read_text() == "as it was"
    assert Path(second).read_text().startswith("statement,")
    assert ec(*asked, "--again").status == 0
    assert Path(first).read_text().startswith("statement,")
    assert sorted(map(str, out.iterdir())) == [first, second]


def test_every_format_is_written_and_a_locale_is_for_eyes_only(ec, tmp_path):
    meter(ec, ("rct_1", 1_000_000_000_000, {"r1": 500_000, "r2": 250_000}))
    ec("periods", "close", "2026-11")
    asked = ("statements", "export", "--creator", "ada", "--format")
    assert ec(*asked, "pdf", "--locale", "de-DE", "--out", tmp_path / "a.pdf").status == 0
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")
    german = ec(*asked, "html", "--locale", "de-DE").out
    assert "Draft: open for comments until" in german
    assert "18. November 2026" in german
    assert "18 November 2026" in ec(*asked, "html").out
    assert ec(*asked, "distributor").out.startswith("Reporting Date\t")
    refused = ec.json(*asked, "csv", "--locale", "de-DE")
    assert (refused.status, refused.row["error"]) == (1, "locale")
    assert ec.json(*asked, "html", "--locale", "xx-XX").row["error"] == "locale"


def test_several_statements_do_not_go_into_one_file(ec):
    meter(ec, ("rct_1", 1_000_000, {"r1": 500_000, "r2": 250_000}))
    ec("periods", "close", "2026-11")
    ran = ec.json("statements", "export")
    assert ran.status == 1
    assert ran.row["error"] == "several_statements"


def test_a_model_without_a_price_keeps_the_period_open_and_is_named(ec):
    meter(ec, ("rct_1", 0, {"r1": 500_000}), model="unheard-of-1")
    for more in (["--dry-run"], []):
        ran = ec.json("periods", "close", "2026-11", *more)
        assert ran.status == 1
        assert ran.row["error"] == "unpriced_models"
        assert "unheard-of-1" in ran.row["cause"]
    assert ec.json("periods", "list").rows == []


def test_what_is_not_there_is_named_with_where_to_look(ec):
    assert "periods list" in ec("periods", "show", "2020-01").err
    assert "statements list" in ec("statements", "export").err
    assert "no period closed yet" in ec("periods", "list").out
    assert "close a period first" in ec("statements", "list").out


def test_the_report_of_a_period_says_what_to_look_at(ec):
    meter(ec, ("rct_1", 1_000_000_000_000, {"r1": 600_000, "r2": 400_000}))
    assert ec("periods", "close", "2026-11").status == 0
    told = ec.json("periods", "report", "2026-11").row
    assert told["creators"] == 2
    assert told["top_creators"][0]["name"] == "Ada"
    assert {flag["kind"] for flag in told["flags"]} >= {"large_part", "period"}
    shown = ec("periods", "report", "2026-11").out
    assert "Ada" in shown
    assert "because it" in shown
    assert ec("periods", "report", "2026-12").status == 1


def test_a_claim_holds_the_works_money_and_its_decision_lets_it_go_on_the_next_statement(ec):
    claim = ec.json("claims", "open", "--work", "r1", "--claimant", "bo", "--basis", "Printed 1999.").row[
        "id"
    ]
    meter(ec, ("rct_1", 1_000_000_000, {"r1": 1_000_000}))
    said = ec("periods", "close", "2026-11").out
    assert "held by open claims" in said
    assert ec.json("claims", "show", claim).row["held"] == {"USD": "0.30"}
    assert "0.30 USD" in ec("claims", "show", claim).out
    (ada,) = ec.json("statements", "list").rows
    ec("claims", "decide", claim, "--uphold", "--reason", "The copy of 1999 shows it.")
    said = ec("periods", "close", "2026-12").out
    assert "let go by decided claims" in said
    newest = ec.json("statements", "list").rows[0]
    assert newest["creator"] != ada["creator"]
    assert ec.json("claims", "show", claim).row["held"] == {}
