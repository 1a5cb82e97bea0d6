"""What people do with comments, corrections and disputes, as they type it."""

from __future__ import annotations

import pytest

from proxy.billing.periods_store import Comments
from proxy.database import open_engine
from proxy.metering.usage import Line
from tests.commands import Commands
from tests.fakes import FrozenClock
from tests.proxy.billing.conftest import make_event, meter

PRICE = 200 * 10**9


class House(Commands):
    """Two creators with a work each, and a period that paid both."""

    @property
    def engine(self):
        return open_engine(f"sqlite:///{self.data / 'endcredits.db'}")

    def use(self, number):
        works = [row["id"] for row in self.json("works", "list").rows]
        engine = self.engine
        meter(engine, [make_event(number, tuple(Line(work, 400_000) for work in works), price_grains=PRICE)])
        engine.dispose()

    def statement(self, period, who="ada"):
        (row,) = self.json("statements", "list", "--period", period, "--creator", who).rows
        return row


@pytest.fixture
def ec(tmp_path):
    made = House(tmp_path / "data")
    for name in ("ada", "bo"):
        made("creators", "add", name.title(), "--ref", name)
        (tmp_path / f"{name}.txt").write_text(
            f"The ferryman of {name} kept a ledger of everyone who crossed."
        )
        assert made("works", "add", tmp_path / f"{name}.txt", "--creator", name, "--no-index").status == 0
    made.use(1)
    assert made("periods", "close", "2026-11").status == 0
    return made


def test_a_period_is_listed_as_a_draft(ec):
    assert ec.json("periods", "list").row["state"] == "draft"


def test_an_operator_reads_and_answers_comments(ec):
    statement = ec.statement("2026-11")
    assert ec("comments", "list").out == "no comment waits for an answer\n"
    engine = ec.engine
    hers = Comments(engine, clock=FrozenClock(1), creator=statement["creator"])
    hers.say(statement["id"], "A day is missing.")
    engine.dispose()
    assert ec.json("comments", "list").row["text"] == "A day is missing."
    answered = ec.json("comments", "answer", statement["id"], "--text", "It is in the next.", "--by", "grace")
    assert (answered.row["side"], answered.row["by"], answered.row["new"]) == ("operator", "grace", True)
    assert "said already" in ec("comments", "answer", statement["id"], "--text", "It is in the next.").out
    assert [row["side"] for row in ec.json("comments", "show", statement["id"]).rows] == [
        "creator",
        "operator",
    ]
    assert ec.json("comments", "list").rows == []


def test_what_is_given_is_booked_and_told_what_is_taken_waits_for_a_second_person(ec):
    statement = ec.statement("2026-11")
    about = ("--creator", "ada", "--corrects", f"{statement['id']}/1", "--other", "platform", "--by", "ines")
    given = ec.json("adjustments", "propose", *about, "--give", "1.25", "--reason", "A day was missing.").row
    assert (given["state"], given["amount"]) == ("booked", "1.25")
    taken = ec("adjustments", "propose", *about, "--take", "0.25", "--reason", "Half a day.")
    assert "endcredits adjustments approve" in taken.out
    name = taken.out.split()[0]
    assert ec.json("adjustments", "approve", name, "--by", "Ines").row["error"] == "adjustment_second_person"
    assert ec.json("adjustments", "approve", name, "--by", "omar").row["changed"]
    assert "already" in ec("adjustments", "approve", name, "--by", "omar").out
    assert {row["state"] for row in ec.json("adjustments", "list", "--creator", "ada").rows} == {"booked"}
    ec("periods", "close", "2026-12")
    shown = ec.json("statements", "export", "--period", "2026-12", "--creator", "ada").row
    assert shown["adjustments_grains"] == 10**9
    assert {move["reason"] for move in shown["moves"]} == {"A day was missing.", "Half a day."}


def test_a_rejected_correction_is_not_booked_and_nonsense_is_refused(ec):
    statement = ec.statement("2026-11")
    about = ("--creator", "ada", "--corrects", statement["id"], "--other", "platform", "--reason", "A slip.")
    taken = ec.json("adjustments", "propose", *about, "--take", "1").row
    assert ec.json("adjustments", "reject", taken["id"], "--reason", "No.").row["changed"]
    assert "already" in ec("adjustments", "reject", taken["id"], "--reason", "No.").out
    assert ec("adjustments", "approve", taken["id"], "--by", "omar").status == 1
    for amount in ("0", "-1", "x"):
        assert ec.json("adjustments", "propose", *about, "--give", amount).row["error"] == "adjustment_amount"
    assert ec("adjustments", "propose", *about).status == 2


def test_a_dispute_is_opened_answered_and_settled_by_two(ec):
    statement, his = ec.statement("2026-11"), ec.statement("2026-11", "bo")
    opened = ec("disputes", "open", statement["id"], "--reason", "A copy of his.", "--by", "ines")
    case = opened.out.split()[0]
    assert "is open" in opened.out
    again = ec.json("disputes", "open", statement["id"], "--reason", "A copy of his.", "--by", "ines").row
    assert (again["id"], again["new"], again["held_grains"]) == (case, False, statement["earned_grains"])
    assert [row["id"] for row in ec.json("disputes", "list", "--open").rows] == [case]
    to = ("--to", "bo:750000", "--to", "holder:250000", "--reason", "Most of it is his.")
    assert ec.json("disputes", "settle", case, *to, "--by", "omar").row["error"] == "dispute_unanswered"
    assert ec("disputes", "answer", case, "--text", "She says that it is hers.", "--by", "ines").status == 0
    assert ec.json("disputes", "settle", case, *to, "--by", "ines").row["error"] == "dispute_second_person"
    assert ec.json("disputes", "settle", case, *to, "--by", "omar").row["state"] == "settled"
    assert "already" in ec("disputes", "settle", case, *to, "--by", "omar").out
    assert "settled" in ec("disputes", "show", case).out
    ec("periods", "close", "2026-12")
    told = ec.json("statements", "export", "--period", "2026-12", "--creator", "bo").row
    assert told["released_grains"] == statement["earned_grains"] * 3 // 4
    assert told["opening_grains"] == his["closing_grains"]


def test_an_operators_dispute_is_withdrawn_by_an_operator(ec):
    statement = ec.statement("2026-11")
    (work,) = {line["work"] for line in ec.json("statements", "export", "--creator", "ada").row["lines"]}
    case = ec.json(
        "disputes", "open", statement["id"], "--work", work, "--line", "1", "--hold", "none", "--reason", "?"
    ).row
    assert (case["held_grains"], case["lines"]) == (0, [1])
    assert ec.json("disputes", "withdraw", case["id"], "--reason", "Mine.").row["state"] == "withdrawn"
    assert "already" in ec("disputes", "withdraw", case["id"], "--reason", "Mine.").out
    assert ec.json("disputes", "show", "dsp_none").row["error"] == "not_found"
