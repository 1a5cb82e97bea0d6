import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import disputes
from proxy.billing.disputes import (
    COMMON,
    HOLDER,
    Case,
    Event,
    Hold,
    Part,
    case_id,
    checked_parts,
    chosen,
    concerns,
    held,
    hold,
    is_overdue,
    keeps_lines,
    let_go,
    may_answer,
    may_open,
    may_settle,
    may_withdraw,
    parse_part,
    seen_by,
    state_of,
    use_of,
)
from proxy.billing.ledger import balances
from proxy.billing.money import PPM
from proxy.billing.statements import StatementLine
from proxy.errors import BadRequest, Conflict, Forbidden

RELEASE = (Part(to=HOLDER, ppm=PPM),)
AWAY = (Part(to=COMMON, ppm=PPM),)


def line(work="w_1", net=10, **changes):
    said = {
        "work": work, "title": "", "app": "app_a", "model": "m", "day": "2026-11-01", "scheme": "royalty",
        "verdict": "paid", "answers": 1, "ppm_sum": 1, "price_grains": 1, "rate_grains": 0, "gross_grains": net,
        "split_version": 1, "split_ppm": PPM, "net_grains": net,
    }  # fmt: skip
    return StatementLine(**(said | changes))


def case(*holds, side="creator", by="c_a", lines=(1,)):
    return Case(
        id=case_id(side, by, "stm_a", lines, "Wrong.", "own"), statement="stm_a", period="1", creator="c_a",
        currency="USD", lines=lines, basis="Wrong.", hold="own", side=side, opened_by=by, opened_us=1,
        due_us=100, holds=holds,
    )  # fmt: skip


def happened(one, *more):
    rows = [("opened", one.side, one.opened_by, one.basis, ()), *more]
    return [
        Event(seq=n, kind=kind, side=side, by=by, said=said, at_us=n, parts=parts)
        for n, (kind, side, by, said, parts) in enumerate(rows, 1)
    ]


HELD = case(Hold(creator="c_a", disputed_grains=10, held_grains=10))
ANSWER = ("answered", "operator", "grace", "It is right.", ())


def test_lines_are_chosen_by_place_by_work_or_all():
    lines = [line("w_1"), line("w_2"), line("w_1")]
    assert chosen(lines) == (1, 2, 3)
    assert chosen(lines, work="w_1") == (1, 3)
    assert chosen(lines, numbers=[3, 3, 2]) == (2, 3)
    for wrong in ({"numbers": [4]}, {"numbers": [0]}, {"work": "w_9"}, {"work": "w_2", "numbers": [1]}):
        with pytest.raises(BadRequest) as refused:
            chosen(lines, **wrong)
        assert refused.value.code == "dispute_lines"
    with pytest.raises(BadRequest):
        chosen([line()] * (disputes.LINES_MAX + 1))


@given(st.lists(st.integers(0, 2**40), max_size=5), st.integers(-(2**40), 2**40))
def test_no_more_is_held_than_was_paid_nor_than_is_owed(nets, owed):
    made = hold("c_a", [line(net=net) for net in nets], owed)
    assert made.disputed_grains == sum(nets)
    assert 0 <= made.held_grains <= min(sum(nets), max(0, owed))


def test_the_same_use_is_the_same_in_every_statement():
    assert use_of(line(net=1)) == use_of(line(net=2, split_ppm=1, verdict="own_app"))
    assert use_of(line()) != use_of(line(day="2026-11-02"))


def test_a_creator_holds_no_other_creators_money():
    with pytest.raises(Forbidden):
        may_open("creator", "all")
    may_open("operator", "all")
    may_open("creator", "none")


def test_who_did_not_open_it_answers_once():
    events = happened(HELD)
    with pytest.raises(Forbidden):
        may_answer(HELD, events, side="creator", by="c_a", said="Me again.")
    assert may_answer(HELD, events, side="operator", by="grace", said="It is right.")
    answered = happened(HELD, ANSWER)
    assert not may_answer(HELD, answered, side="operator", by="grace", said="It is right.")
    with pytest.raises(Conflict):
        may_answer(HELD, answered, side="operator", by="grace", said="Or is it?")
    theirs = case(Hold(creator="c_b", disputed_grains=1, held_grains=1), side="operator", by="grace")
    assert may_answer(theirs, happened(theirs), side="creator", by="c_b", said="Mine.")
    with pytest.raises(Forbidden):
        may_answer(theirs, happened(theirs), side="creator", by="c_z", said="Mine!")


def test_who_opened_it_takes_it_back():
    assert may_withdraw(HELD, happened(HELD), side="creator", by="c_a")
    for side, by in (("operator", "grace"), ("creator", "c_b")):
        with pytest.raises(Forbidden):
            may_withdraw(HELD, happened(HELD), side=side, by=by)
    withdrawn = happened(HELD, ("withdrawn", "creator", "c_a", "A slip.", RELEASE))
    assert not may_withdraw(HELD, withdrawn, side="creator", by="c_a")
    settled = happened(HELD, ANSWER, ("settled", "operator", "grace", "So be it.", RELEASE))
    with pytest.raises(Conflict):
        may_withdraw(HELD, settled, side="creator", by="c_a")


def test_giving_it_back_needs_nobody_else_taking_it_away_needs_an_answer_and_a_second_person():
    events = happened(HELD)
    assert may_settle(HELD, events, RELEASE, "grace")
    with pytest.raises(Conflict) as refused:
        may_settle(HELD, events, AWAY, "hugo")
    assert refused.value.code == "dispute_unanswered"
    answered = happened(HELD, ANSWER)
    with pytest.raises(Conflict) as refused:
        may_settle(HELD, answered, AWAY, " Grace")
    assert refused.value.code == "dispute_second_person"
    assert may_settle(HELD, answered, AWAY, "hugo")
    nothing = case(Hold(creator="c_a", disputed_grains=10, held_grains=0))
    assert may_settle(nothing, happened(nothing), AWAY, "grace"), "it takes nothing"


def test_a_settlement_stands():
    over = happened(HELD, ANSWER, ("settled", "operator", "hugo", "So be it.", AWAY))
    assert not may_settle(HELD, over, AWAY, "hugo")
    with pytest.raises(Conflict) as refused:
        may_settle(HELD, over, RELEASE, "hugo")
    assert refused.value.code == "dispute_settled"


def test_its_lines_are_kept_while_it_is_open_and_when_their_money_went_elsewhere():
    assert keeps_lines(happened(HELD))
    assert keeps_lines(happened(HELD, ANSWER))
    assert not keeps_lines(happened(HELD, ("withdrawn", "creator", "c_a", "A slip.", RELEASE)))
    assert not keeps_lines(happened(HELD, ("settled", "operator", "g", "Right.", RELEASE)))
    assert keeps_lines(happened(HELD, ANSWER, ("settled", "operator", "h", "Wrong.", AWAY)))


def test_a_case_nobody_answered_in_time_is_overdue_and_nothing_else():
    assert not is_overdue(HELD, happened(HELD), 99)
    assert is_overdue(HELD, happened(HELD), 100)
    assert not is_overdue(HELD, happened(HELD, ANSWER), 100)
    assert state_of(happened(HELD)) == "open"


def test_a_creator_sees_what_a_case_holds_of_hers():
    both = case(
        Hold(creator="c_a", disputed_grains=1, held_grains=1),
        Hold(creator="c_b", disputed_grains=2, held_grains=2),
        side="operator",
        by="grace",
    )
    seen = seen_by(both, "c_b")
    assert ([one.creator for one in seen.holds], seen.opened_by) == (["c_b"], "operator")
    assert seen_by(HELD, "c_a") == HELD
    assert [concerns(both, who) for who in ("c_a", "c_b", "c_c")] == [True, True, False]


def test_parts_are_read_and_make_a_whole():
    assert checked_parts([parse_part("c_b")]) == (Part(to="c_b", ppm=PPM),)
    parts = checked_parts(map(parse_part, ["holder:600000", "common:400000", "c_b:0"]))
    assert [(one.to, one.ppm) for one in parts] == [("common", 400_000), ("holder", 600_000)]
    for wrong in (["holder:1"], ["holder", "common"], ["holder:500000", "holder:500000"], []):
        with pytest.raises(BadRequest):
            checked_parts(map(parse_part, wrong))
    for text in ("c_b:-1", "c_b:x", "c_b:10000000000"):
        with pytest.raises(BadRequest):
            parse_part(text)


@given(
    st.dictionaries(st.sampled_from(["c_a", "c_b", "c_c"]), st.integers(0, 2**50), min_size=1),
    st.lists(st.tuples(st.sampled_from([HOLDER, COMMON, "c_a", "c_d"]), st.integers(1, 9)), min_size=1,
             unique_by=lambda pair: pair[0]),
)  # fmt: skip
def test_what_was_taken_is_given_to_the_grain_and_the_escrow_is_empty_after(holds, weights):
    whole = sum(weight for _, weight in weights)
    parts = [Part(to=to, ppm=weight * PPM // whole) for to, weight in weights]
    parts[0] = Part(to=parts[0].to, ppm=parts[0].ppm + PPM - sum(part.ppm for part in parts))
    one = case(*(Hold(creator=who, disputed_grains=held, held_grains=held) for who, held in holds.items()))
    taken, given = held(one), let_go(one, checked_parts(parts), 9)
    assert len({transfer.id for transfer in taken + given}) == len(taken) + len(given)
    left = balances([*taken, *given])
    assert left.pop((f"liab:escrow:dispute:{one.id}", "USD"), 0) == 0
    assert sum(left.values()) == 0, "what creators lost, creators and the common account got"
    assert let_go(one, checked_parts(parts), 9) == given
