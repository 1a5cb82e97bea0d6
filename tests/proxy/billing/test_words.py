import msgspec
import pytest

from proxy.billing.locales import English
from proxy.billing.movements import KINDS
from proxy.billing.page import to_html
from proxy.billing.pools import PoolTold
from proxy.billing.statements import Statement
from proxy.billing.words import MASSES, MOVEMENTS, POOLS_SHOWN_MAX, REASONS, UNPAID, basis, notes, words

STYLE = English()


def changed(statement: Statement, **line: object) -> Statement:
    """The statement with one line, changed."""
    return msgspec.structs.replace(statement, lines=(msgspec.structs.replace(statement.lines[0], **line),))


def test_every_row_of_the_balance_that_a_transfer_can_be_told_under_has_a_name():
    assert {(name, sign) for name, sign in KINDS.values()} <= {(name, sign) for name, sign, _ in MOVEMENTS}
    assert all(hasattr(Statement, f"{name}_grains") for name, _, _ in MOVEMENTS)


def test_whatever_is_paid_nothing_says_why():
    assert {"free", "prohibited", "claimed", "own_app", "below_floor"} <= UNPAID.keys()
    assert {
        "unattributed",
        "no_text",
        "not_attributed",
        "cut_by_crash",
        "free",
        "prohibited",
    } <= REASONS.keys()
    assert {kind for kind, _ in MASSES} == {"paid", "free", "prohibited", "below_floor", "unattributed"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"scheme": "royalty", "verdict": "paid", "price_grains": 2_250_000_000}, "30% of what the answers cost ($2.25)"),
        ({"scheme": "direct", "verdict": "paid", "rate_grains": 2_000_000}, "$0.002 for a whole answer, times the share"),
        ({"scheme": "pool", "verdict": "paid"}, "its part of a revenue that is divided"),
        ({"scheme": "royalty", "verdict": "below_floor"}, "pays less than the work asks for"),
        ({"scheme": "", "verdict": "released"}, "the claim was decided"),
    ],
)  # fmt: skip
def test_a_use_says_by_what_it_is_paid(statement, line, said):
    made = changed(statement, **line)
    assert said in basis(made, list(made.lines), STYLE)


def test_where_several_royalties_held_all_are_told(statement):
    rules = msgspec.structs.replace(statement.basis, royalties=(300_000, 412_345))
    made = msgspec.structs.replace(changed(statement, scheme="royalty", verdict="paid"), basis=rules)
    assert basis(made, list(made.lines), STYLE).startswith("30% or 41.2% of what the answers cost")
    assert "Royalty, 30% or 41.2%" in dict(words(made, STYLE))


@pytest.mark.parametrize(
    ("scheme", "word"), [("direct", "Direct rate"), ("pool", "Pool"), ("royalty", "Royalty, 30%")]
)
def test_only_words_that_the_statement_uses_are_explained(statement, scheme, word):
    said = dict(words(changed(statement, scheme=scheme), STYLE))
    assert word in said
    assert len({"Direct rate", "Pool", "Royalty, 30%"} & said.keys()) == 1
    assert "USD 0.000000001" in said["Digits"]


def test_pools_and_what_earlier_periods_left_are_told_to_everybody(statement):
    pool = PoolTold(
        app="app_1", policy="pol_1", revenue_grains=20 * 10**9, creators_ppm=500_000, pool_grains=10 * 10**9,
        division="user_centric", users_seen=2, users_counted=4, works_grains=4 * 10**9, common_grains={},
        platform_grains=0, declared=("rev_1",),
    )  # fmt: skip
    totals = msgspec.structs.replace(
        statement.totals, pools=(pool,), common_carried_grains={"unattributed": 1_500_000_001, "free": 0}
    )
    made = msgspec.structs.replace(statement, totals=totals)
    divided, carried = notes(made, STYLE)
    assert "declared a revenue of $20.00: creators' part is 50%, $10.00" in divided
    assert "equal parts for 4 users. $4.00 of it reached works." in divided
    assert carried.endswith("given to nobody yet: Not traced to a work: $1.500000001.")
    assert carried in to_html(made).decode()
    assert notes(statement, STYLE) == []
    many = msgspec.structs.replace(made, totals=msgspec.structs.replace(totals, pools=(pool,) * 20))
    assert len(notes(many, STYLE)) == POOLS_SHOWN_MAX + 2
