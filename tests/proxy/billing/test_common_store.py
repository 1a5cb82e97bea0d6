import pytest

from proxy.billing import store
from proxy.billing.common_store import Common, available, carried, proposals
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.clock import parse_time_us
from proxy.errors import Conflict, NotFound
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.fakes import CountingIds, FrozenClock

NOW_US = parse_time_us("2026-12-01")
NAMED = Billing(common_rule="pro_rata")


@pytest.fixture
def close(engine, event, make, into_store):
    into_store.register(engine, make(count=0).books)

    def closed(label, *numbers):
        lines = (Line("w_00001", 400_000), Line("w_00002", 200_000))
        into_store.meter(engine, [event(number, lines, price_grains=1_000_000) for number in numbers])
        return close_period(engine, label, Billing(), load(), dry_run=False, now_us=NOW_US)

    return closed


@pytest.fixture
def desk(engine):
    ids = CountingIds()

    def of(name):
        return Common(engine, clock=FrozenClock(NOW_US), ids=ids, by=name)

    return of


def test_common_money_is_carried_until_a_policy_names_a_rule(engine, close, desk):
    closing = close("2026-11", 1, 2)
    assert closing.totals.common_grains == {"unattributed": 240_000}
    with pytest.raises(Conflict) as refused:
        desk("ada").propose("2026-11", Billing())
    assert refused.value.code == "common_no_rule"
    assert carried(engine, "USD") == {"unattributed": 240_000}


def test_one_proposes_another_approves_and_the_next_statement_tells_each_of_it(engine, close, desk):
    before = {one.creator: one for one in close("2026-11", 1, 2).statements}
    proposal, is_new = desk("ada").propose("2026-11", NAMED)
    assert is_new
    assert desk("cy").propose("2026-11", NAMED) == (proposal, False)
    with pytest.raises(Conflict) as refused:
        desk("ada").decide(proposal.distribution.id, "approved")
    assert refused.value.code == "common_same_person"
    approved, is_new = desk("ben").decide(proposal.distribution.id, "approved")
    assert (approved.outcome, approved.decided_by, is_new) == ("approved", "ben", True)
    assert desk("cy").decide(proposal.distribution.id, "approved") == (approved, False)
    assert available(engine, "2026-11", "USD") == carried(engine, "USD") == {}
    assert sum(store.balances(engine).values()) > 0
    after = {one.creator: one for one in close("2026-12", 3).statements}
    for creator, statement in before.items():
        given = after[creator].distributed_grains
        assert abs(given - 240_000 * statement.earned_grains / 360_000) < 1
        assert (
            after[creator].closing_grains == statement.closing_grains + given + after[creator].earned_grains
        )
    assert sum(one.distributed_grains for one in after.values()) == 240_000


def test_the_same_money_is_not_given_twice(engine, close, desk):
    close("2026-11", 1)
    proposal, _ = desk("ada").propose("2026-11", NAMED)
    desk("ben").decide(proposal.distribution.id, "approved")
    with pytest.raises(Conflict) as refused:
        desk("ada").propose("2026-11", NAMED)
    assert refused.value.code == "common_empty"


def test_a_cancelled_proposal_books_nothing_and_makes_way_for_another(engine, close, desk):
    close("2026-11", 1)
    first, _ = desk("ada").propose("2026-11", NAMED)
    with pytest.raises(Conflict) as refused:
        desk("ada").propose("2026-11", Billing(common_rule="equal"))
    assert refused.value.code == "common_open"
    desk("ada").decide(first.distribution.id, "cancelled")
    with pytest.raises(Conflict) as refused:
        desk("ben").decide(first.distribution.id, "approved")
    assert refused.value.code == "common_decided"
    second, is_new = desk("ada").propose("2026-11", Billing(common_rule="equal"))
    assert is_new
    assert [one.outcome for one in proposals(engine)] == ["cancelled", ""]
    assert second.distribution.rule == "equal"


def test_a_dry_run_keeps_nothing(engine, close, desk):
    close("2026-11", 1)
    proposal, is_new = desk("ada").propose("2026-11", NAMED, dry_run=True)
    assert proposal.distribution.grains == 120_000
    assert not is_new
    assert proposals(engine) == []


def test_a_rule_that_pays_one_needs_one_who_is_there(engine, close, desk):
    close("2026-11", 1)
    with pytest.raises(NotFound):
        desk("ada").propose("2026-11", Billing(common_rule="to", common_to="c_none"))
    with pytest.raises(NotFound):
        desk("ada").propose("2027-01", NAMED)
    with pytest.raises(NotFound):
        desk("ada").decide("dst_none", "approved")
