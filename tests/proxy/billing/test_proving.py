"""Whoever holds a period's file finds out by herself what an operator changed: nothing is taken on trust."""

import json

import pytest

from proxy.billing.proving import Prover
from proxy.billing.store import load_closing
from proxy.errors import NotFound
from proxy.metering.usage import Line
from proxy.receipts import store
from proxy.receipts.issuing import Issuer
from proxy.receipts.verify import Invalid, Keys, canonical, check_file, check_next, check_uses, open_manifest
from tests.books import Bookkeeping, a_year_of_everything

ORIGIN = "credits.example/log"
PERIODS = ("2026-11", "2026-12")


@pytest.fixture
def books(engine, tmp_path):
    books = Bookkeeping(engine)
    books.prover = Prover(engine, Issuer(tmp_path, ORIGIN, books.clock))
    return books


@pytest.fixture
def prover(books):
    return books.prover


@pytest.fixture
def keys(prover):
    return Keys.parse(canonical(prover._issuer.about()))


def file_of(prover, statement):
    return prover.statement_file(statement)


def statements(engine, label):
    return {one.creator: one for one in load_closing(engine, label).statements}


def test_a_creator_checks_offline_that_she_is_in_the_period_once_with_all_that_it_says(
    engine, books, prover, keys
):
    a_year_of_everything(books)
    for label in PERIODS:
        found = statements(engine, label)
        assert len(found) > 2
        for creator, statement in found.items():
            proven = check_file(file_of(prover, statement), keys)
            assert (
                proven[0]
                == f"signed: what {creator} earned in {label}, {statement.earned_grains} grains in USD"
            )
            assert proven[1].endswith(f"entries of {ORIGIN}")
            assert proven[2].startswith(f"once: {creator} ")


def test_a_creator_counts_her_statement_anew_from_the_receipts_behind_it(engine, books, prover, keys):
    a_year_of_everything(books)
    for label in PERIODS:
        for statement in statements(engine, label).values():
            rows, shown = list(prover.uses_file(statement)), file_of(prover, statement)
            answers = sum(line.answers for line in statement.lines)
            assert check_uses(rows, shown, keys) == [
                f"uses: the receipts of {answers} uses are all that its lines count, each in the log once"
            ]
            for wrong in (rows[:-1], [*rows, rows[-1]], rows[1:], [rows[0], *rows[2:]]):
                if answers:
                    with pytest.raises(Invalid):
                        check_uses(wrong, shown, keys)


def test_an_answer_of_the_period_before_is_not_counted_again(engine, books, prover, keys):
    a_year_of_everything(books)
    older, newer = (statements(engine, label) for label in PERIODS)
    creator = next(one for one in older if older[one].lines and one in newer and newer[one].lines)
    before, after = (file_of(prover, one[creator]) for one in (older, newer))
    rows, earlier = (list(prover.uses_file(one[creator])) for one in (newer, older))
    assert check_uses(rows, after, keys, before)[-1].startswith("next: ")
    for wrong in ([rows[0], *earlier[1:]], [rows[0], *earlier[1:], *rows[1:]]):
        with pytest.raises(Invalid, match="not of this period"):
            check_uses(wrong, after, keys, before)
    with pytest.raises(Invalid, match="does not begin where"):
        check_uses(rows, after, keys, after)


def test_the_uses_of_one_statement_are_not_those_of_another(engine, books, prover, keys):
    a_year_of_everything(books)
    hers, his, *_ = statements(engine, "2026-11").values()
    later = statements(engine, "2026-12")[hers.creator]
    for other in (his, later):
        with pytest.raises(Invalid, match="not the uses of this statement"):
            check_uses(prover.uses_file(other), file_of(prover, hers), keys)
        header = next(prover.uses_file(hers))
        with pytest.raises(Invalid):
            check_uses([header, *list(prover.uses_file(other))[1:]], file_of(prover, hers), keys)


def test_an_app_checks_offline_what_it_was_charged(engine, books, prover, keys):
    a_year_of_everything(books)
    closing = load_closing(engine, "2026-11")
    assert len(closing.charged_by_app) == 2
    for app, grains in closing.charged_by_app.items():
        shown = prover.charge_file(closing.label, app, closing.currency, closing.closed_us, grains)
        assert (
            check_file(shown, keys)[0] == f"signed: what {app} was charged in 2026-11, {grains} grains in USD"
        )


def test_each_manifest_names_the_one_before_it_and_begins_where_that_ended(books, prover, keys):
    a_year_of_everything(books)
    first, second = (json.loads(prover.manifest_file(label))["manifest"] for label in PERIODS)
    check_next(first, second, keys)
    for one, other in ((second, first), (first, first), (second, second)):
        with pytest.raises(Invalid, match="does not begin where"):
            check_next(one, other, keys)


def test_a_period_ends_where_the_log_ends(engine, books, prover, keys):
    a_year_of_everything(books)
    state = store.read_state(engine)
    said = open_manifest(json.loads(prover.manifest_file("2026-12"))["manifest"], keys)[0]
    assert said["basis"]["end_bounds"] == dict(state.positions)
    # Its own manifest came after that, and that of the period before lies within.
    assert said["log"]["size"] == state.size - 1
    marks = [entry[0] for entry in store.read_entries(engine, 0, said["log"]["size"])]
    assert (marks.count(1), marks.count(2)) == (said["totals"]["events"] + 7, 1)


def test_closing_again_returns_the_period_as_it_was_signed(engine, books, prover):
    books.answer([Line("w_0", 500_000)])
    books.close("2026-11")
    before = prover.manifest_file("2026-11"), store.read_state(engine)
    books.close("2026-11")
    assert (prover.manifest_file("2026-11"), store.read_state(engine)) == before


def test_a_dry_run_signs_and_logs_nothing(engine, books):
    from proxy.billing.run import close_period
    from tests.books import PRICES, RULES

    books.answer([Line("w_0", 500_000)])
    now_us = books.clock.now_us() + 1
    dry = close_period(engine, "p", RULES, PRICES, dry_run=True, now_us=now_us, prover=books.prover)
    assert store.read_state(engine).size == 0
    wet = close_period(engine, "p", RULES, PRICES, dry_run=False, now_us=now_us, prover=books.prover)
    assert dry.manifest_sha256 == wet.manifest_sha256


def test_what_was_closed_without_one_has_no_manifest_and_the_next_one_names_none(engine, books, prover, keys):
    books.prover = None
    books.answer([Line("w_0", 500_000)])
    closing = books.close("2026-11")
    with pytest.raises(NotFound) as caught:
        file_of(prover, closing.statements[0])
    assert caught.value.code == "not_signed"
    books.prover = prover
    books.answer([Line("w_0", 500_000)])
    books.close("2026-12")
    said = open_manifest(json.loads(prover.manifest_file("2026-12"))["manifest"], keys)[0]
    assert (said["prev"], said["seq"]) == ("", 2)
    assert said["basis"]["start_bounds"] == closing.basis.end_bounds


def test_a_period_in_which_nobody_was_paid_is_signed_too(books, prover, keys):
    books.close("2026-11")
    said = open_manifest(json.loads(prover.manifest_file("2026-11"))["manifest"], keys)[0]
    assert said["payees"] is said["apps"] is None
    assert (
        check_file(prover.manifest_file("2026-11"), keys)[0]
        == "signed: the period 2026-11, and its sums add up"
    )
