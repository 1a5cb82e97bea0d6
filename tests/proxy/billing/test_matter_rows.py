from proxy.billing import adjustments, disputes
from proxy.billing.disputes import Case, Hold
from proxy.billing.matter_rows import adjustment_row, case_row, comment_row
from proxy.billing.periods import Comment


def test_amounts_stand_twice_and_times_once():
    one = adjustments.made(
        corrects="stm_a", creator="c_a", currency="USD", grains=-5, account="expense:subsidy", reason="Why.",
        by="ada", now_us=0,
    )  # fmt: skip
    events = [adjustments.Event(seq=1, kind="proposed", by="ada", reason="Why.", at_us=0)]
    row = adjustment_row(one, events)
    assert (row["state"], row["amount_grains"], row["amount"]) == ("proposed", -5, "-0.000000005")
    assert row["events"] == [
        {"kind": "proposed", "by": "ada", "at": "1970-01-01T00:00:00.000000Z", "said": "Why."}
    ]


def test_a_case_says_what_it_holds_and_whether_it_is_overdue():
    case = Case(
        id="dsp_a", statement="stm_a", period="1", creator="c_a", currency="USD", lines=(1,), basis="Why.",
        hold="own", side="creator", opened_by="c_a", opened_us=0, due_us=9,
        holds=(Hold(creator="c_a", disputed_grains=3, held_grains=2),),
    )  # fmt: skip
    events = [disputes.Event(seq=1, kind="opened", side="creator", by="c_a", said="Why.", at_us=0)]
    row = case_row(case, events, 9)
    assert (row["state"], row["overdue"], row["held_grains"], row["held"]) == ("open", True, 2, "0.000000002")
    assert not case_row(case, events, 8)["overdue"]


def test_a_comment_says_who_said_it():
    said = Comment(statement="stm_a", seq=1, side="creator", text="Why?", by="c_a", at_us=0)
    assert (comment_row(said)["by"], comment_row(said)["side"]) == ("c_a", "creator")
