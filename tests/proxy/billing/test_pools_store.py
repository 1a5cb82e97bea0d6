import pytest

from proxy.billing import store
from proxy.billing.policies import read_policy
from proxy.billing.policies_store import Policies
from proxy.billing.pools_store import Pools, refuse_changed, revenues
from proxy.billing.prices import load
from proxy.billing.rollup import DAY_US
from proxy.billing.run import close_period
from proxy.clock import parse_time_us
from proxy.errors import BadRequest, Conflict, NotFound
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.fakes import CountingIds, FrozenClock


@pytest.fixture
def books(engine, make, into_store):
    into_store.register(engine, make(count=0, works=3, creators=4).books)


@pytest.fixture
def desk(engine, books):
    ids = CountingIds()

    def of(name):
        return Pools(engine, clock=FrozenClock(), ids=ids, by=name, currency="USD")

    return of


def test_what_one_declares_another_approves_once(engine, desk):
    made = desk("ada").declare("app_1", "2026-11", "9317.83", users=1_000, why="invoices 1 to 7")
    assert (made.amount_grains, made.users, made.outcome) == (9_317_830_000_000, 1_000, "")
    approved, is_new = desk("ben").decide(made.id, "approved")
    assert (approved.outcome, approved.decided_by, is_new) == ("approved", "ben", True)
    assert desk("cy").decide(made.id, "approved") == (approved, False)
    assert revenues(engine, "2026-11") == [approved]
    assert revenues(engine, app="app_2") == revenues(engine, "2026-12") == []


def test_nobody_approves_their_own_word_but_may_take_it_back(desk):
    made = desk("ada").declare("app_1", "2026-11", "10")
    with pytest.raises(Conflict) as refused:
        desk("ada").decide(made.id, "approved")
    assert refused.value.code == "pool_same_person"
    assert desk("ada").decide(made.id, "withdrawn")[0].outcome == "withdrawn"
    with pytest.raises(Conflict) as refused:
        desk("ben").decide(made.id, "approved")
    assert refused.value.code == "pool_decided"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"app": "app_none"}, NotFound),
        ({"amount": "1.001"}, BadRequest),
        ({"amount": "lots"}, BadRequest),
        ({"kind": "gifts"}, BadRequest),
        ({"users": -1}, BadRequest),
        ({"users": 10**11}, BadRequest),
    ],
)
def test_what_cannot_be_a_revenue_is_refused(engine, desk, changes, kind):
    facts = {"app": "app_1", "label": "2026-11", "amount": "1"} | changes
    with pytest.raises(kind):
        desk("ada").declare(facts.pop("app"), facts.pop("label"), facts.pop("amount"), **facts)
    assert revenues(engine) == []


def test_a_correction_may_take_off(engine, desk):
    desk("ada").declare("app_1", "2026-11", "10")
    desk("ada").declare("app_1", "2026-11", "-2.50", kind="other", why="refunds")
    assert sum(one.amount_grains for one in revenues(engine, "2026-11")) == 7_500_000_000
    with pytest.raises(NotFound):
        desk("ada").decide("rev_none", "approved")


NOVEMBER_US = parse_time_us("2026-11-01")
POOLED = Billing(scheme="pool")
W1, W2 = (Line("w_00001", 600_000),), (Line("w_00002", 1_000_000),)


def close(engine, billing=POOLED, label="2026-11", *, dry_run=False):
    return close_period(engine, label, billing, load(), dry_run=dry_run, now_us=NOVEMBER_US + 31 * DAY_US)


@pytest.fixture
def used(engine, books, event, into_store):
    """Two users of app_1, one of whom asks nine times as much."""
    answers = [
        event(number, W1 if number % 10 else W2, app_id="app_1", subject_digest=f"u{number % 10 > 0}")
        for number in range(10)
    ]
    into_store.meter(engine, answers)
    return answers


def test_a_declared_revenue_reaches_what_users_used_and_statements_tell_of_it(engine, desk, used):
    made = desk("ada").declare("app_1", "2026-11", "20", users=4)
    desk("ben").decide(made.id, "approved")
    closing = close(engine)
    (told,) = closing.totals.pools
    ten = 10_000_000_000  # half of it, a quarter for each of the two who used something
    assert (told.revenue_grains, told.pool_grains) == (2 * ten, ten)
    assert (told.users_seen, told.users_counted, told.declared) == (2, 4, (made.id,))
    assert closing.totals.common_grains == {"unattributed": ten // 10, "without_use": ten // 2}
    assert told.works_grains == ten * 4 // 10
    assert closing.charged_by_app == {"app_1": ten}
    lines = {line.work: line for one in closing.statements for line in one.lines}
    assert {work: (line.scheme, line.gross_grains, line.answers) for work, line in lines.items()} == {
        "w_00001": ("pool", ten * 15 // 100, 9), "w_00002": ("pool", ten * 25 // 100, 1),
    }  # fmt: skip
    assert closing.basis.policies == (told.policy,)
    assert store.load_closing(engine, "2026-11").totals == closing.totals
    left = store.balances(engine)
    assert left["liab:pool:app_1:2026-11", "USD"] == 0
    assert left["asset:receivable:app_1", "USD"] == ten


@pytest.mark.parametrize("outcome", [None, "declared"])
def test_a_period_with_pool_use_waits_for_its_revenue(engine, desk, used, outcome):
    if outcome:
        desk("ada").declare("app_1", "2026-11", "20")
    with pytest.raises(Conflict) as refused:
        close(engine)
    assert refused.value.code == ("pool_unapproved" if outcome else "pool_undeclared")
    assert store.list_periods(engine) == []


def test_a_revenue_without_use_goes_where_the_policy_says_and_a_closed_period_takes_no_more(engine, desk):
    made = desk("ada").declare("app_1", "2026-11", "20")
    desk("ben").decide(made.id, "approved")
    late = desk("ada").declare("app_1", "2026-12", "1")
    closing = close(engine)
    assert closing.totals.common_grains == {"without_use": 10_000_000_000}
    with pytest.raises(Conflict) as refused:
        desk("ada").declare("app_1", "2026-11", "1")
    assert refused.value.code == "pool_period_closed"
    assert desk("ben").decide(late.id, "approved")[1]


def test_the_policy_of_the_first_use_divides_the_pool(engine, desk, used):
    made = desk("ada").declare("app_1", "2026-11", "20")
    desk("ben").decide(made.id, "approved")
    less = read_policy(b'name = "less"\nscheme = "pool"\npools = [{creators_ppm = 1}]')
    policies = Policies(engine, clock=FrozenClock(NOVEMBER_US + 60_000_000), by="ada", currency="USD")
    policies.add(less)
    policies.activate(less.id)
    (told,) = close(engine, dry_run=True).totals.pools
    assert told.creators_ppm == 500_000, "what is activated in the middle acts on the next pool"


def test_what_is_approved_while_a_period_is_computed_is_not_lost(engine, desk, used):
    made = desk("ada").declare("app_1", "2026-11", "20")
    desk("ben").decide(made.id, "approved")
    closing = close(engine, dry_run=True)
    more = desk("ada").declare("app_1", "2026-11", "5")
    desk("ben").decide(more.id, "approved")
    with pytest.raises(Conflict) as refused, engine.begin() as connection:
        refuse_changed(connection, "2026-11", closing.totals.pools)
    assert refused.value.code == "close_raced"
    with engine.begin() as connection:
        refuse_changed(connection, "2026-11", close(engine, dry_run=True).totals.pools)
