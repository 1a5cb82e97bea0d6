"""How the demo looks in 80 columns without colour, and that what it shows adds up."""

from __future__ import annotations

import io
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from proxy.demo import show
from proxy.errors import Problem

TEXT = "Here it is.\n\nThe tide turns at six. It waits for nobody!\n\nAsk again."
FIELD = {
    "id": "rct_a",
    "status": "settled",
    "method": "endcredits/1 0123456789ab",
    "unattributed_ppm": 400_000,
    "works": [
        {
            "work": "w_a",
            "title": "Tide Tables for the Undecided, with a title that is longer than its column",
            "creators": ["Ketil Sandvær"],
            "share_ppm": 350_000,
            "licence": "CC-BY-4.0",
            "url": "https://catalogue.example/a",
            "evidence": [{"kind": "verbatim", "output": [13, 34], "score": 0.98}],
        },
        {
            "work": "w_b",
            "title": "Low Water",
            "creators": ["Isla Corriemuir"],
            "share_ppm": 250_000,
            "licence": "",
            "url": "",
            "verdict": "free",
            "evidence": [{"kind": "restated", "output": [36, 55], "score": 0.71}],
        },
    ],
}
LINE = show.StatementLine("Low Water", 2, 612_345, 1_500, 600_000, 900)
STATEMENT = show.Statement("demo-1", "Isla Corriemuir", "USD", 100, 900, 1_000, (LINE,))


def printed(renderable) -> str:
    console = Console(file=io.StringIO(), width=80, no_color=True, highlight=False)
    console.print(renderable)
    return console.file.getvalue()


def test_each_passage_stands_beside_the_number_of_its_work() -> None:
    shown = printed(show.answer(TEXT, show.read_credits(FIELD).works))
    assert [line.split() for line in shown.splitlines()] == [
        ["·", "Here", "it", "is."],
        ["1", "The", "tide", "turns", "at", "six."],
        ["2", "It", "waits", "for", "nobody!"],
        ["·", "Ask", "again."],
    ]


def test_the_credits_roll_with_title_creator_share_and_the_part_that_is_nobodys() -> None:
    shown = printed(show.roll(show.read_credits(FIELD)))
    for said in (
        "Ketil Sandvær",
        "35.0000 %",
        "verbatim",
        "restated, free",
        "unattributed",
        "40.0000 %",
        "100.0000 %",
    ):
        assert said in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_credits_that_sum_to_a_whole_add_up_and_others_do_not() -> None:
    assert show.read_credits(FIELD).adds_up
    assert not show.read_credits({**FIELD, "unattributed_ppm": 399_999}).adds_up


def test_pending_credits_are_shown_as_not_settled() -> None:
    pending = show.read_credits({"id": "rct_a", "status": "pending", "unattributed_ppm": None, "works": []})
    assert not pending.adds_up
    assert "not settled yet" in printed(show.roll(pending))


def test_a_field_that_is_no_credits_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        show.read_credits({"id": 7})


@given(st.text(max_size=60), st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=6))
def test_passages_joined_again_are_the_text_whatever_the_evidence_says(text, spans) -> None:
    works = [
        show.CreditedWork(f"w_{n}", 1, evidence=(show.Evidence("verbatim", span),))
        for n, span in enumerate(spans)
    ]
    pieces = show.passages(text, works)
    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text and 0 <= piece.number <= len(works) for piece in pieces)
    assert all(a.number != b.number for a, b in itertools.pairwise(pieces))


def test_where_two_works_claim_the_same_words_the_one_credited_higher_has_them() -> None:
    works = [
        show.CreditedWork(work, 1, evidence=(show.Evidence("verbatim", (0, 5)),)) for work in ("w_a", "w_b")
    ]
    assert show.passages("words", works) == [show.Passage("words", 1)]


def test_percent_keeps_every_digit_of_a_share() -> None:
    assert [show.percent(ppm) for ppm in (0, 1, 412_345, 1_000_000)] == [
        "0.0000 %",
        "0.0001 %",
        "41.2345 %",
        "100.0000 %",
    ]


def test_a_statement_shows_every_digit_and_fits_80_columns() -> None:
    shown = printed(show.statement(STATEMENT))
    for said in ("Isla Corriemuir", "612,345", "60 %", "0.000001500", "0.000000900", "0.000001000"):
        assert said in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_statement_that_adds_up_is_said_to_be_checked() -> None:
    assert "1 line" in show.checked(STATEMENT)


@pytest.mark.parametrize("wrong", [{"earned_grains": 901}, {"closing_grains": 999}, {"opening_grains": 0}])
def test_a_statement_that_does_not_add_up_is_refused(wrong) -> None:
    with pytest.raises(Problem, match="does not add up"):
        show.checked(msgspec.structs.replace(STATEMENT, **wrong))


def test_an_exported_statement_is_read_whatever_else_it_holds() -> None:
    exported = msgspec.json.encode({**msgspec.to_builtins(STATEMENT), "basis": {}, "id": "stm_a"})
    assert show.read_statement(exported) == STATEMENT


def test_a_currency_without_minor_units_is_shown_with_its_grains() -> None:
    assert show.amount(12_345_678, "JPY") == "1.2345678"
