"""Corrections are transfers of their own: linked, approved where they take, told once with their reason."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from proxy.billing import adjustments_store, store
from proxy.errors import BadRequest, Conflict, NotFound
from tests.proxy.billing.matters import Scene


@pytest.fixture
def scene(engine, prices):
    made = Scene(engine, prices)
    yield made
    made.check()


def asked(statement, **changes):
    said = {"corrects": f"{statement.id}/1", "creator": statement.creator, "currency": "USD", "grains": 1_000}
    return said | {"other": "platform", "reason": "A day was missing."} | changes


def test_what_is_given_is_booked_and_told_by_the_next_statement_with_its_reason(scene):
    first = scene.close("1")
    before = store.load_closing(scene.engine, "1")
    one, state = scene.adjustments().propose(**asked(first["c_a"]))
    assert (state, scene.balance("expense:subsidy")) == ("booked", 1_000)
    second = scene.close("2")
    scene.check_told(second, {who: made.closing_grains for who, made in first.items()})
    (move,) = second["c_a"].moves
    assert second["c_a"].adjustments_grains == 1_000
    assert (move.kind, move.ref, move.corrects, move.reason) == (
        "adjustment", one.id, f"{first['c_a'].id}/1", "A day was missing."
    )  # fmt: skip
    assert scene.close("3")["c_a"].moves == ()
    assert store.load_closing(scene.engine, "1") == before
    assert store.load_closing(scene.engine, "2").statements == tuple(second[who] for who in sorted(second))


def test_what_takes_waits_for_a_second_person(scene):
    first = scene.close("1")
    one, state = scene.adjustments("ada").propose(**asked(first["c_a"], grains=-1_000, other="app:app_a"))
    owed, due = scene.owed("c_a"), scene.balance("asset:receivable:app_a")
    assert state == "proposed"
    with pytest.raises(Conflict) as refused:
        scene.adjustments("Ada").approve(one.id)
    assert refused.value.code == "adjustment_second_person"
    assert scene.owed("c_a") == owed
    assert [scene.adjustments("bob").approve(one.id)[1] for _ in range(2)] == [True, False]
    assert scene.owed("c_a") == owed - 1_000
    assert scene.balance("asset:receivable:app_a") == due - 1_000
    assert scene.close("2")["c_a"].adjustments_grains == -1_000


def test_no_more_is_taken_than_is_owed(scene):
    first = scene.close("1")
    owed = scene.owed("c_a")
    scene.pay_out("c_a", owed - 10, "p1")
    one, _ = scene.adjustments("ada").propose(**asked(first["c_a"], grains=-11))
    with pytest.raises(Conflict) as refused:
        scene.adjustments("bob").approve(one.id)
    assert refused.value.code == "adjustment_too_much"
    assert scene.owed("c_a") == 10
    fitting, _ = scene.adjustments("ada").propose(**asked(first["c_a"], grains=-10))
    scene.adjustments("bob").approve(fitting.id)
    assert scene.owed("c_a") == 0


def test_the_common_account_gives_what_it_has_and_takes(scene):
    first = scene.close("1")
    there = scene.balance("liab:common:1:unattributed")
    with pytest.raises(Conflict):
        scene.adjustments().propose(**asked(first["c_a"], grains=there + 1, other="common:1:unattributed"))
    scene.adjustments().propose(**asked(first["c_a"], grains=there, other="common:1:unattributed"))
    assert scene.balance("liab:common:1:unattributed") == 0
    back, _ = scene.adjustments("ada").propose(
        **asked(first["c_a"], grains=-there, other="common:1:unattributed")
    )
    scene.adjustments("bob").approve(back.id)
    assert scene.balance("liab:common:1:unattributed") == there


def test_proposing_it_twice_is_proposing_it_once(scene):
    first = scene.close("1")
    made = [scene.adjustments(by).propose(**asked(first["c_a"])) for by in ("ada", "bob")]
    assert made[0] == made[1]
    assert scene.balance("expense:subsidy") == 1_000
    assert [one for one, _ in adjustments_store.listed(scene.engine)] == [made[0][0]]
    assert adjustments_store.listed(scene.engine, creator="c_b") == []


def test_corrections_are_listed_newest_first_page_by_page(scene):
    first = scene.close("1")
    made = [scene.adjustments().propose(**asked(first["c_a"], grains=n))[0] for n in (1, 2, 3)]
    (newest, _), (second, _) = adjustments_store.listed(scene.engine, limit=2)
    place = (second.proposed_us, second.id)
    ((third, _),) = adjustments_store.listed(scene.engine, creator="c_a", before=place, limit=2)
    expected = sorted(made, key=lambda one: (one.proposed_us, one.id), reverse=True)
    assert [newest, second, third] == expected


def test_a_rejected_one_is_never_booked(scene):
    first = scene.close("1")
    one, _ = scene.adjustments("ada").propose(**asked(first["c_a"], grains=-5))
    assert [scene.adjustments("ada").reject(one.id, "A slip.") for _ in range(2)] == [True, False]
    with pytest.raises(Conflict):
        scene.adjustments("bob").approve(one.id)
    _, events = adjustments_store.adjustment(scene.engine, one.id)
    assert [(event.kind, event.by) for event in events] == [("proposed", "ada"), ("rejected", "ada")]


@pytest.mark.parametrize(
    "changes",
    [
        {"corrects": "ab" * 16},
        {"corrects": "stm_" + "a" * 26},
        {"creator": "c_nobody"},
        {"other": "app:app_none"},
        {"other": "common:9:no_text"},
    ],
)
def test_what_is_not_there_is_not_corrected(scene, changes):
    first = scene.close("1")
    with pytest.raises(NotFound):
        scene.adjustments().propose(**asked(first["c_a"], **changes))
    assert adjustments_store.listed(scene.engine) == []


def test_a_line_beyond_the_last_and_a_currency_without_a_period_are_refused(scene):
    first = scene.close("1")["c_a"]
    with pytest.raises(NotFound):
        scene.adjustments().propose(**asked(first, corrects=f"{first.id}/{len(first.lines) + 1}"))
    with pytest.raises(BadRequest):
        scene.adjustments().propose(**asked(first, currency="EUR"))
    with pytest.raises(NotFound):
        adjustments_store.adjustment(scene.engine, "adj_none")


@pytest.mark.parametrize("table", ["adjustment", "adjustment_event", "transfer_note"])
def test_what_was_corrected_and_why_stays(scene, table):
    scene.adjustments().propose(**asked(scene.close("1")["c_a"]))
    with pytest.raises(DBAPIError, match="append-only"), scene.engine.begin() as connection:
        connection.execute(sa.delete(SQLModel.metadata.tables[table]))
