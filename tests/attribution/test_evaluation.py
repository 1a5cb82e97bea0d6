"""The shipped engine on texts written for this: every family has its floor, so that no change breaks one unseen."""

from __future__ import annotations

import json

import pytest

from attribution.evaluation import Judged, accuracy, by_family, calibration, judge, main, table


def test_paying_the_truth_is_perfect_and_paying_nobody_is_nothing():
    owed = {"a": 0.6}
    assert accuracy([Judged("f", owed, owed)]).skill == 1
    silent = accuracy([Judged("f", owed, {})])
    assert (silent.skill, silent.recall, silent.precision) == (0, 0, None)
    assert accuracy([Judged("f", owed, {"b": 1.0})]).skill < 0


def test_credit_for_a_text_that_owes_nobody_is_false_credit():
    assert accuracy([Judged("n", {}, {"a": 0.5}), Judged("n", {}, {})]).false_credit == 0.25


def test_calibration_compares_what_was_said_with_what_was_so():
    assert calibration([(0.9, True), (0.95, True), (0.1, False), (0.1, True)], bins=2) == [
        (0.1, 0.5, 2),
        (pytest.approx(0.925), 1.0, 2),
    ]


def test_a_missing_prediction_pays_nobody(tmp_path, capsys):
    (tmp_path / "truth").write_text(
        '{"output_id": "1", "family": "f", "truth": [{"work_id": "w", "share": 1}]}\n'
        '{"output_id": "2", "family": "f", "truth": []}\n'
    )
    (tmp_path / "predictions").write_text('{"output_id": "2", "credits": [{"work_id": "w", "share": 0.5}]}\n')
    judged = judge(tmp_path / "truth", tmp_path / "predictions")
    assert [dict(one.paid) for one in judged] == [{}, {"w": 0.5}]
    main([str(tmp_path / "truth"), str(tmp_path / "predictions")])
    assert capsys.readouterr().out.strip() == table(by_family(judged)).strip()


FLOORS = {"verbatim": 0.8, "paraphrase": 0.7, "summary": 0.5, "mixture": 0.8, "duplicate": 0.9}


def test_the_shipped_engine_keeps_its_floor_in_every_family(attributor, own_outputs, tmp_path):
    predictions = tmp_path / "predictions"
    rows = []
    for output in own_outputs:
        found = attributor.attribute(output["text"])
        paid = [{"work_id": share.work_id, "share": share.ppm / 1e6} for share in found.shares]
        rows.append(json.dumps({"output_id": output["output_id"], "credits": paid}))
    predictions.write_text("\n".join(rows))
    truth = tmp_path / "truth"
    truth.write_text("\n".join(json.dumps(output) for output in own_outputs))
    figures = by_family(judge(truth, predictions))
    print(table(figures))
    for family, floor in FLOORS.items():
        assert figures[family].skill >= floor, table(figures)
    assert figures["negative"].false_credit <= 0.05, table(figures)
