import csv
import io
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import cells as written
from proxy.billing.documents import (
    COLUMNS,
    DISTRIBUTOR_COLUMNS,
    FOR_EYES,
    MAKERS,
    SUFFIXES,
    _rows,
    dressed,
    render,
    to_csv,
    to_distributor,
    to_json,
    to_tsv,
)
from proxy.billing.money import PPM, parse
from proxy.billing.statements import Statement, StatementLine, canonical
from proxy.errors import BadRequest


def test_json_is_canonical_and_says_each_amount_twice(statement):
    data = json.loads(to_json(statement))
    assert to_json(statement) == to_json(msgspec.json.decode(canonical(statement), type=Statement))
    assert json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode() + b"\n" == to_json(statement)
    assert parse(data["earned"], "USD") == data["earned_grains"] == statement.earned_grains
    assert parse(data["lines"][0]["net"], "USD") == statement.lines[0].net_grains
    for reason, text in data["totals"]["common"].items():
        assert parse(text, "USD") == statement.totals.common_grains[reason]


def test_no_format_holds_a_float(statement):
    def walk(value):
        assert not isinstance(value, float)
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(inner)

    walk(json.loads(to_json(statement)))


def test_csv_is_one_row_a_line_and_its_column_sums_to_what_was_earned(statement):
    rows = list(csv.DictReader(io.StringIO(to_csv(statement).decode(), newline="")))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == len(statement.lines)
    assert sum(int(row["net_grains"]) for row in rows) == statement.earned_grains
    assert sum(parse(row["net"], "USD") for row in rows) == statement.earned_grains


@given(title=st.text(max_size=20), model=st.text(max_size=20))
def test_no_title_or_model_becomes_a_formula_or_breaks_a_row(statement, title, model):
    line = dict.fromkeys(("work", "app", "day", "scheme", "verdict"), "x")
    numbers = dict.fromkeys(
        (
            "answers",
            "ppm_sum",
            "price_grains",
            "rate_grains",
            "gross_grains",
            "split_version",
            "split_ppm",
            "net_grains",
        ),
        1,
    )
    made = msgspec.convert({**line, **numbers, "title": title, "model": model}, type=StatementLine)
    one = msgspec.structs.replace(statement, lines=(made, made))
    rows = list(csv.reader(io.StringIO(to_csv(one).decode(), newline="")))
    assert [len(row) for row in rows] == [len(COLUMNS)] * 3
    assert to_csv(one) == written.to_csv(COLUMNS, _rows(one))
    cell = rows[1][COLUMNS.index("title")]
    assert cell.removeprefix("'") == title.removeprefix("'")
    assert not cell.startswith(("=", "+", "-", "@", "\t"))
    for flat, columns in ((to_tsv(one), COLUMNS), (to_distributor(one), DISTRIBUTOR_COLUMNS)):
        lines = flat.decode().split("\n")
        assert len(lines) == 4
        assert all(row.count("\t") == len(columns) - 1 for row in lines[:-1])
        cells = [cell for row in lines[1:-1] for cell in row.split("\t")]
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_a_distributors_report_has_a_row_a_line_and_its_earnings_sum_to_what_was_earned(statement):
    rows = [row.split("\t") for row in to_distributor(statement).decode().splitlines()]
    assert tuple(rows[0]) == DISTRIBUTOR_COLUMNS
    assert len(rows) == len(statement.lines) + 1
    told = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert sum(parse(row["Earnings"], "USD") for row in told) == statement.earned_grains
    assert sum(int(row["Quantity"]) for row in told) == sum(line.answers for line in statement.lines)
    assert {row["Sale Month"] for row in told} == {"2026-11"}
    for row, line in zip(told, statement.lines, strict=True):
        assert parse(row["Team Percentage"], "KWD") * PPM == line.split_ppm * 100 * parse("1", "KWD")
        assert row["ISRC"] == row["UPC"] == row["Country of Sale"] == ""


def test_every_format_is_offered_by_name(statement):
    assert sorted(MAKERS) == ["csv", "distributor", "html", "json", "pdf", "tsv"]
    assert FOR_EYES | SUFFIXES.keys() <= MAKERS.keys()
    assert all(isinstance(render(statement, form), bytes) for form in MAKERS if form != "pdf")


@pytest.mark.parametrize("form", sorted(MAKERS.keys() - FOR_EYES))
def test_a_machine_format_has_no_locale(form):
    with pytest.raises(BadRequest, match="for machines") as refused:
        dressed(form, "de-DE")
    assert refused.value.code == "locale"
    assert dressed(form).style.lang == "en"
