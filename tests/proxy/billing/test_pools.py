import random
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.billing.ledger import balances
from proxy.billing.money import parse
from proxy.billing.pools import (
    UNNAMED,
    WITHOUT_USE,
    PoolUse,
    Revenue,
    creators_part,
    divide,
    name_of,
    refuse_undeclared,
)
from proxy.billing.rollup import roll_up
from proxy.billing.schemes import Terms
from proxy.billing.statements import close_period
from proxy.errors import Conflict
from proxy.settings import Billing, PoolRule, Scheme

CENTRIC = PoolRule()
PRO_RATA = PoolRule(division="pro_rata")


def used(answers):
    use = PoolUse()
    for user, shares in answers:
        use.add(user, 1, shares)
    return use


def work(name):
    return (name, "app_a", "demo", 20_000, "pool", "paid", "")


def by_work(divided):
    return {key[0]: grains for key, grains in divided.lines.items()}


# The design's example: one period's sums of ppm, pro rata.
MASSES = {"A": 7_310_442_118, "B": 2_918_001_377, "C": 88_112_940, "X": 411_009_002}
UNATTRIBUTED = 9_272_434_563
HALF = creators_part(parse("9317.83", "USD"), 500_000)


def example():
    """The masses in answers of up to 1,000,000 ppm would be 20,000 of them; larger pieces sum to the same."""
    use = PoolUse()
    left = {work(name): ppm for name, ppm in MASSES.items()} | {"unattributed": UNATTRIBUTED}
    while left:
        use.add("u", 1, [(key, min(ppm, 2**32 - 1)) for key, ppm in left.items()])
        left = {key: ppm - (2**32 - 1) for key, ppm in left.items() if ppm > 2**32 - 1}
    return use


def test_the_odd_minor_unit_of_a_revenue_is_creators():
    assert parse("4658.92", "USD") == HALF
    assert creators_part(3, 1_000_000) == 3, "never more than there is"
    assert creators_part(0, 500_000) == 0


@pytest.mark.parametrize(
    ("mode", "parts", "common"),
    [
        ("spread", {"A": 3_174_882_986_490, "B": 1_267_271_223_389, "C": 38_266_943_309, "X": 178_498_846_812}, {}),
        (
            "common",
            {"A": 1_702_938_249_620, "B": 679_736_748_767, "C": 20_525_556_921, "X": 95_742_902_980},
            {"unattributed": 2_159_976_541_712},
        ),
    ],
)  # fmt: skip
def test_the_worked_example_pro_rata(mode, parts, common):
    divided = divide(HALF, example(), PoolRule(division="pro_rata", unattributed=mode), "2026-11|app_a|pool")
    assert by_work(divided) == parts
    assert divided.common == common
    assert sum(parts.values()) + sum(common.values()) == HALF


def test_one_user_moves_no_more_than_one_users_part():
    answers = [(f"u{n:03d}", [(work("w"), 1_000_000)]) for n in range(999)]
    stuffing = [("thief", [(work("own"), 1_000_000)])] * 999
    half = parse("5000", "USD")
    centric = divide(half, used(answers + stuffing), CENTRIC, "p|a|pool")
    assert by_work(centric)["own"] == parse("5", "USD")
    pro_rata = divide(half, used(answers + stuffing), PRO_RATA, "p|a|pool")
    assert by_work(pro_rata)["own"] == parse("2500", "USD")


def test_users_who_paid_and_used_nothing_leave_their_part_where_the_policy_says():
    answers = [("u1", [(work("w"), 1_000_000)]), ("u2", [("unattributed", 1_000_000)])]
    divided = divide(1_000, used(answers), CENTRIC, "s", users_declared=4)
    assert by_work(divided) == {"w": 250}
    assert divided.common == {"unattributed": 250, WITHOUT_USE: 500}
    assert (divided.users_seen, divided.users_counted) == (2, 4)
    kept = divide(1_000, used(answers), PoolRule(without_use="platform"), "s", users_declared=4)
    assert (kept.common, kept.platform) == ({"unattributed": 250}, 500)
    spread = divide(1_000, used(answers), PoolRule(unattributed="spread"), "s", users_declared=4)
    assert spread.common == {WITHOUT_USE: 750}, "a user without attributed use feeds the common account"


def test_more_users_than_were_declared_all_count():
    answers = [(f"u{n}", [(work("w"), 1_000_000)]) for n in range(3)]
    assert divide(999, used(answers), CENTRIC, "s", users_declared=1).users_counted == 3


def test_use_that_names_no_user_counts_as_one_user():
    answers = [("", [(work("a"), 1_000_000)])] * 50 + [("u1", [(work("b"), 1_000_000)])]
    assert by_work(divide(1_000, used(answers), CENTRIC, "s")) == {"a": 500, "b": 500}
    assert used(answers).users == ["u1", UNNAMED]


@pytest.mark.parametrize("rule", [CENTRIC, PRO_RATA])
def test_a_pool_that_nobody_used_is_without_use(rule):
    assert divide(1_000, PoolUse(), rule, "s").common == {WITHOUT_USE: 1_000}
    assert divide(1_000, PoolUse(), rule, "s", users_declared=7).common == {WITHOUT_USE: 1_000}


def test_use_that_was_never_scored_is_held_in_every_mode():
    answers = [("u", [("not_attributed", 600_000), (work("w"), 400_000)])]
    for mode in ("common", "spread", "platform"):
        divided = divide(1_000, used(answers), PoolRule(unattributed=mode), "s")
        assert divided.common == {"not_attributed": 600}


REASONS = ("unattributed", "no_text", "not_attributed", "prohibited", "free", "below_floor")
KEYS = st.sampled_from([*map(work, "abcde"), *REASONS])
ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(["", "u1", "u2", "u3", "u4"]),
        st.dictionaries(KEYS, st.integers(1, 1_000_000), min_size=1, max_size=5).map(
            lambda one: [*one.items()]
        ),
    ),
    max_size=20,
)
RULES = st.builds(
    PoolRule,
    division=st.sampled_from(["user_centric", "pro_rata"]),
    without_use=st.sampled_from(["common", "platform"]),
    unattributed=st.sampled_from(["common", "spread", "platform"]),
)


def oracle(grains, answers, rule, declared):
    """The same in exact fractions: {where: how much}, rounding nothing."""
    goes = {}

    def give(key, part):
        unexplained = key in {"unattributed", "no_text"}
        if (unexplained and rule.unattributed == "platform") or (
            key == WITHOUT_USE and rule.without_use == "platform"
        ):
            key = "platform"
        goes[key] = goes.get(key, Fraction(0)) + part

    def share(part, mine):
        sums = {}
        for _, shares in mine:
            for key, ppm in shares:
                if not (rule.unattributed == "spread" and key in {"unattributed", "no_text"}):
                    sums[key] = sums.get(key, 0) + ppm
        if not sums:
            give(WITHOUT_USE, part)
        for key, ppm in sums.items():
            give(key, part * ppm / sum(sums.values()))

    if rule.division == "pro_rata":
        share(Fraction(grains), answers)
        return goes
    users = {user for user, _ in answers}
    counted = max(declared or 0, len(users))
    for user in users:
        share(Fraction(grains, counted), [one for one in answers if one[0] == user])
    if counted > len(users) or not counted:
        give(
            WITHOUT_USE, Fraction(grains) * (counted - len(users)) / counted if counted else Fraction(grains)
        )
    return goes


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**15), ANSWERS, RULES, st.none() | st.integers(0, 9), st.randoms())
def test_a_pool_is_divided_to_the_grain_as_exact_fractions_say_in_any_order(
    grains, answers, rule, declared, draw
):
    divided = divide(grains, used(answers), rule, "p|a|pool", users_declared=declared)
    got = {**divided.lines, **divided.common, "platform": divided.platform}
    assert sum(got.values()) == grains
    assert all(part >= 0 for part in got.values())
    exact = oracle(grains, answers, rule, declared)
    # Two divisions, one after the other, each within a grain; a line sums those of up to five users.
    for key in {*got, *exact}:
        assert abs(got.get(key, 0) - exact.get(key, 0)) < 2 * 6
    shuffled = list(answers)
    draw.shuffle(shuffled)
    assert divide(grains, used(shuffled), rule, "p|a|pool", users_declared=declared) == divided


def test_lines_are_named_as_statements_divide_them():
    assert name_of(("w", "a", "m", 3, "pool", "paid", "")) == "w|a|m|3|pool|paid"
    assert name_of(("w", "a", "m", 3, "pool", "paid", "c_1")) == "w|a|m|3|pool|paid|c_1"
    assert name_of("free") == "~free"


def declared(app="app_a", grains=10, outcome="approved"):
    return Revenue(
        id="rev_1", app=app, period="p", kind="ads", amount_grains=grains, currency="USD", users=None, why="",
        by="ada", at_us=0, outcome=outcome,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("known", "code"),
    [
        ([], "pool_undeclared"),
        ([declared("app_b")], "pool_undeclared"),
        ([declared(outcome="withdrawn")], "pool_undeclared"),
        ([declared(), declared(outcome="")], "pool_unapproved"),
        ([declared(), declared(grains=-11)], "pool_negative"),
    ],
)
def test_a_pool_without_a_revenue_that_two_people_stand_for_is_not_divided(known, code):
    with pytest.raises(Conflict) as refused:
        refuse_undeclared("p", ["app_a"], known)
    assert refused.value.code == code
    refuse_undeclared("p", ["app_a"], [declared(), declared(grains=-10)])


def test_a_million_lines_of_use_are_divided_within_a_few_bytes_each():
    draw = random.Random(3)
    use = PoolUse()
    for number in range(20_000):
        use.add(f"u{number % 500}", 1, [(work(f"w{draw.randrange(300)}"), 200_000) for _ in range(5)])
    assert sum(divide(10**12, use, CENTRIC, "s").lines.values()) == 10**12


def test_a_month_with_pools_royalties_and_direct_rates_is_one_ledger_to_the_grain(month, prices):
    rules = Billing(
        schemes=(
            Scheme(scheme="pool", app="app_1"),
            Scheme(scheme="pool", app="app_2"),
            Scheme(scheme="direct", app="app_3"),
        ),
        pools=(PoolRule(app="app_2", division="pro_rata", unattributed="spread", creators_ppm=333_333),),
    )
    terms = Terms.from_settings(rules)
    events = [
        msgspec.structs.replace(one, subject_digest=f"u{place % 37}")
        for place, one in enumerate(month.events)
    ]
    revenues = [declared("app_1", 10**12 + 10**7), declared("app_2", 7 * 10**7), declared("app_9", 10**9)]
    facts = {"start_bounds": {}, "end_bounds": {"s": 1}, "closed_us": 0, "books": month.books, "terms": terms}

    def closed(some):
        rollup = roll_up("p", some, terms, prices, revenues=revenues)
        return close_period(label="p", rollup=rollup, **facts)

    closing = closed(events)
    totals, left = closing.totals, balances(closing.transfers)
    assert totals.charged_grains == sum(closing.charged_by_app.values())
    assert totals.charged_grains == (
        totals.creators_grains
        + totals.escrow_grains
        + sum(totals.common_grains.values())
        + totals.platform_grains
    )
    for pool in totals.pools:
        assert left[f"liab:pool:{pool.app}:p", "USD"] == 0
        told = pool.works_grains + sum(pool.common_grains.values()) + pool.platform_grains
        assert pool.pool_grains == told == closing.charged_by_app[pool.app]
    assert [pool.app for pool in totals.pools] == ["app_1", "app_2", "app_9"]
    for statement in closing.statements:
        assert statement.earned_grains == sum(line.net_grains for line in statement.lines)
    assert {line.scheme for one in closing.statements for line in one.lines} == {"royalty", "direct", "pool"}
    assert closed(events[::-1]).manifest_sha256 == closing.manifest_sha256
