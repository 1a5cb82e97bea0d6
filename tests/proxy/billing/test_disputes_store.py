"""A dispute from its opening to its settlement, on both engines: what is held, told, and given, once."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from proxy.billing import store
from proxy.billing.disputes import DAY_US, Part, is_overdue, state_of
from proxy.billing.money import PPM
from proxy.errors import BadRequest, Conflict, Forbidden, NotFound
from tests.proxy.billing.matters import Scene

HALVES = (Part(to="c_c", ppm=500_000), Part(to="holder", ppm=500_000))
COMMON = (Part(to="common", ppm=PPM),)
HOLDER = (Part(to="holder", ppm=PPM),)


@pytest.fixture
def scene(engine, prices):
    made = Scene(engine, prices)
    yield made
    made.check()


def escrow(scene, case):
    return scene.balance(f"liab:escrow:dispute:{case.id}")


def told(statements):
    return {who: (one.held_grains, one.released_grains) for who, one in statements.items()}


def closings(statements):
    return {who: one.closing_grains for who, one in statements.items()}


def test_a_creator_disputes_a_work_and_its_money_waits_until_it_is_given_back(scene):
    first = scene.close("1")
    before = store.load_closing(scene.engine, "1")
    hers = scene.disputes(creator="c_a")
    case, is_new = hers.open(first["c_a"].id, "It was another edition.", work="w_1", answer_days=30)
    assert is_new
    assert escrow(scene, case) == case.held_grains == first["c_a"].earned_grains
    assert scene.owed("c_a") == 0
    second = scene.close("2")
    scene.check_told(second, closings(first))
    (move,) = second["c_a"].moves
    assert (move.ref, move.corrects, move.reason) == (case.id, first["c_a"].id, "It was another edition.")
    assert told(second) == {"c_a": (case.held_grains, 0), "c_b": (0, 0)}
    assert hers.withdraw(case.id, "It was not.")[1]
    assert not hers.withdraw(case.id, "It was not.")[1]
    third = scene.close("3")
    scene.check_told(third, closings(second))
    assert told(third)["c_a"] == (0, case.held_grains)
    assert store.load_closing(scene.engine, "1") == before


def test_an_operator_holds_everybody_whom_the_same_use_paid(scene):
    first = scene.close("1")
    case, _ = scene.disputes().open(first["c_a"].id, "A copy.", work="w_1", answer_days=30, hold="all")
    by_work = {line.work: line.net_grains for line in first["c_b"].lines if line.work == "w_1"}
    assert {one.creator for one in case.holds} == {"c_a", "c_b"}
    assert next(one for one in case.holds if one.creator == "c_b").disputed_grains == sum(
        line.net_grains for line in first["c_b"].lines if line.work == "w_1"
    )
    assert by_work
    assert scene.owed("c_b") == sum(line.net_grains for line in first["c_b"].lines if line.work == "w_2")
    scene.disputes(creator="c_b").answer(case.id, "It is ours.")
    assert scene.disputes(by="hugo").settle(case.id, HALVES, "A part is hers.")[1]
    assert not scene.disputes(by="hugo").settle(case.id, HALVES, "A part is hers.")[1]
    assert escrow(scene, case) == 0
    assert scene.owed("c_c") == pytest.approx(case.held_grains / 2, abs=2)
    second = scene.close("2", used=False)
    scene.check_told(second, closings(first))
    assert second["c_c"].released_grains == scene.owed("c_c")


def test_what_was_paid_out_stays_paid_and_only_what_is_owed_is_held(scene):
    first = scene.close("1")
    scene.pay_out("c_a", scene.owed("c_a") - 7, "p1")
    case, _ = scene.disputes(creator="c_a").open(first["c_a"].id, "Wrong.", answer_days=30)
    assert (case.holds[0].disputed_grains, case.held_grains) == (first["c_a"].earned_grains, 7)
    assert scene.owed("c_a") == 0


def test_a_dispute_that_holds_nothing_books_nothing(scene):
    first = scene.close("1")
    owed = scene.owed("c_a")
    hers = scene.disputes(creator="c_a")
    case, _ = hers.open(first["c_a"].id, "Too little.", answer_days=30, hold="none")
    assert (case.holds, scene.owed("c_a")) == ((), owed)
    scene.disputes().answer(case.id, "It is what was used.")
    scene.disputes().settle(case.id, HOLDER, "It stays.")
    assert scene.close("2")["c_a"].moves == ()


def test_opening_it_twice_is_opening_it_once(scene):
    first = scene.close("1")
    hers = scene.disputes(creator="c_a")
    made = [hers.open(first["c_a"].id, "Wrong.", answer_days=30) for _ in range(2)]
    assert [is_new for _, is_new in made] == [True, False]
    assert made[0][0] == made[1][0]
    assert escrow(scene, made[0][0]) == first["c_a"].earned_grains


def test_a_line_is_in_one_case_at_a_time_and_for_ever_once_its_money_went(scene):
    first = scene.close("1")
    hers, ops = scene.disputes(creator="c_a"), scene.disputes()
    case, _ = hers.open(first["c_a"].id, "Wrong.", answer_days=30, lines=[1])
    with pytest.raises(Conflict) as refused:
        ops.open(first["c_a"].id, "A copy.", answer_days=30)
    assert refused.value.code == "dispute_open"
    with pytest.raises(Conflict):
        ops.open(first["c_b"].id, "A copy.", answer_days=30, hold="all", work="w_1")
    hers.withdraw(case.id, "Right after all.")
    again, _ = hers.open(first["c_a"].id, "Wrong, yet.", answer_days=30, lines=[1])
    ops.answer(again.id, "Not ours to say.")
    scene.disputes(by="hugo").settle(again.id, COMMON, "Nobody's.")
    assert scene.balance("liab:common:1:disputed") == again.held_grains > 0
    with pytest.raises(Conflict) as refused:
        ops.open(first["c_a"].id, "And again.", answer_days=30)
    assert refused.value.code == "dispute_settled"


def test_nobody_sees_or_opens_what_is_not_theirs(scene):
    first = scene.close("1")
    case, _ = scene.disputes(creator="c_a").open(first["c_a"].id, "Wrong.", answer_days=30)
    bo = scene.disputes(creator="c_b")
    for act in (
        lambda: bo.open(first["c_a"].id, "Mine.", answer_days=30),
        lambda: bo.open("stm_nowhere", "Mine.", answer_days=30),
        lambda: bo.case(case.id),
        lambda: bo.case("dsp_nowhere"),
        lambda: bo.withdraw(case.id, "No."),
        lambda: scene.disputes(creator="c_a").settle(case.id, HOLDER, "Mine."),
    ):
        with pytest.raises(NotFound):
            act()
    with pytest.raises(Forbidden):
        bo.open(first["c_b"].id, "All of it.", answer_days=30, hold="all")
    assert bo.cases() == []
    assert [one.id for one, _ in scene.disputes(creator="c_a").cases(open_only=True)] == [case.id]
    assert scene.disputes().cases() == [scene.disputes().case(case.id)]


def test_cases_are_listed_newest_first_page_by_page(scene):
    first = scene.close("1")
    made = [
        scene.disputes(creator=who).open(first[who].id, "Wrong.", answer_days=30)[0] for who in ("c_a", "c_b")
    ]
    ((newest, _),) = scene.disputes().cases(limit=1)
    ((second, _),) = scene.disputes().cases(before=(newest.opened_us, newest.id), open_only=True, limit=2)
    assert [newest.id, second.id] == [
        one.id for one in sorted(made, key=lambda one: (one.opened_us, one.id), reverse=True)
    ]
    assert scene.disputes().cases(before=(second.opened_us, second.id)) == []


def test_a_creator_reads_answers_without_the_names_of_operators(scene):
    first = scene.close("1")
    case, _ = scene.disputes().open(first["c_a"].id, "A copy.", work="w_1", answer_days=30, hold="all")
    seen, events = scene.disputes(creator="c_b").case(case.id)
    assert [one.creator for one in seen.holds] == ["c_b"]
    assert {event.by for event in events} == {"operator"}


def test_who_is_named_in_a_settlement_must_be_there(scene):
    first = scene.close("1")
    case, _ = scene.disputes(creator="c_a").open(first["c_a"].id, "Wrong.", answer_days=30)
    scene.disputes().answer(case.id, "Hm.")
    with pytest.raises(NotFound):
        scene.disputes(by="hugo").settle(case.id, (Part(to="c_nobody", ppm=PPM),), "Theirs.")
    with pytest.raises(BadRequest):
        scene.disputes(by="hugo").settle(case.id, (Part(to="c_b", ppm=1),), "Theirs.")
    assert escrow(scene, case) == case.held_grains


def test_time_makes_a_case_overdue_and_books_nothing(scene):
    first = scene.close("1")
    case, _ = scene.disputes(creator="c_a").open(first["c_a"].id, "Wrong.", answer_days=3)
    _, events = scene.disputes().case(case.id)
    assert not is_overdue(case, events, scene.clock.now_us())
    scene.clock.advance(3 * DAY_US // 1_000_000)
    assert is_overdue(case, events, scene.clock.now_us())
    assert state_of(scene.disputes().case(case.id)[1]) == "open"
    assert escrow(scene, case) == case.held_grains


@pytest.mark.parametrize("table", ["dispute", "dispute_party", "dispute_line", "dispute_event"])
def test_what_was_disputed_and_decided_stays(scene, table):
    first = scene.close("1")
    scene.disputes(creator="c_a").open(first["c_a"].id, "Wrong.", answer_days=30)
    with pytest.raises(DBAPIError, match="append-only"), scene.engine.begin() as connection:
        connection.execute(sa.delete(SQLModel.metadata.tables[table]))
