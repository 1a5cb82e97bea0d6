"""A closed period is a draft until a time that its close wrote down; what is said of it is kept."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from proxy.billing import periods_store, store
from proxy.billing.money import PPM
from proxy.billing.periods import DAY_US
from proxy.billing.periods_store import Comments
from proxy.billing.run import close_period
from proxy.billing.statements import Books, SplitSet
from proxy.errors import Conflict, NotFound
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.fakes import FrozenClock
from tests.proxy.billing.conftest import CLOSED_US, make_event, meter, register

BOOKS = Books(
    {"w_1": SplitSet(1, (("c_a", PPM),), "Low Water"), "w_2": SplitSet(1, (("c_b", PPM),), "High Water")},
    {"c_a": "Ada", "c_b": "Bo"},
    {"app_a": "Choir"},
    {},
)


@pytest.fixture
def close(engine, prices):
    register(engine, BOOKS)
    number = iter(range(100))

    def closed(label, *, days=14, now_us=CLOSED_US):
        meter(engine, [make_event(next(number), (Line("w_1", 400_000), Line("w_2", 100_000)))])
        rules = Billing(comment_days=days)
        made = close_period(engine, label, rules, prices, dry_run=False, now_us=now_us)
        return {one.creator: one for one in made.statements}

    return closed


def states(engine, now_us):
    return {one.label: one.state for one in periods_store.summaries(engine, now_us)}


def test_a_period_is_a_draft_until_its_window_ends_whatever_is_set_later(engine, close):
    close("1")
    close("2", days=0)
    assert states(engine, CLOSED_US) == {"1": "draft", "2": "final"}
    assert states(engine, CLOSED_US + 14 * DAY_US - 1)["1"] == "draft"
    assert states(engine, CLOSED_US + 14 * DAY_US)["1"] == "final"
    assert close("1", days=366), "closing it again gives the stored one"
    assert periods_store.until(engine, "1") == CLOSED_US + 14 * DAY_US
    assert periods_store.until(engine, "nowhere") == 0


def test_a_dry_run_opens_no_window(engine, prices, close):
    close_period(engine, "1", Billing(), prices, dry_run=True, now_us=CLOSED_US)
    assert periods_store.windows(engine) == {}


def test_the_bytes_of_a_period_are_the_same_as_a_draft_and_as_final(engine, close):
    drafted = close("1")
    before = store.load_closing(engine, "1")
    Comments(engine, clock=FrozenClock(CLOSED_US), creator="c_a").say(drafted["c_a"].id, "Too little.")
    close("2", now_us=CLOSED_US + 20 * DAY_US)
    assert store.load_closing(engine, "1") == before


def test_what_drafts_earned_is_told_apart_until_they_are_final(engine, close):
    first, second = close("1"), close("2", now_us=CLOSED_US + 10 * DAY_US)
    both = {(who, "USD"): first[who].earned_grains + second[who].earned_grains for who in ("c_a", "c_b")}
    assert periods_store.not_final(engine, CLOSED_US + 11 * DAY_US) == both
    assert periods_store.not_final(engine, CLOSED_US + 14 * DAY_US, ["c_a"]) == {
        ("c_a", "USD"): second["c_a"].earned_grains
    }
    assert periods_store.not_final(engine, CLOSED_US + 24 * DAY_US) == {}


def test_a_creator_comments_on_her_own_statement_and_an_operator_answers(engine, close):
    made, clock = close("1"), FrozenClock(CLOSED_US)
    ada, op = Comments(engine, clock=clock, creator="c_a"), Comments(engine, clock=clock, by="grace")
    hers = made["c_a"].id
    assert [ada.say(hers, "Low Water was used twice.")[1] for _ in range(2)] == [True, False]
    assert [one.statement for one in op.waiting()] == [hers]
    assert op.say(hers, "It was: once in November, once before.")[1]
    assert op.waiting() == []
    assert [(one.side, one.by) for one in ada.of(hers)] == [("creator", "c_a"), ("operator", "grace")]


def test_comments_that_wait_are_paged_and_an_answer_in_between_hides_none(engine, close):
    made, op = close("1"), Comments(engine, clock=FrozenClock(CLOSED_US + 9), by="grace")
    for late_us, who in enumerate(("c_a", "c_b")):
        Comments(engine, clock=FrozenClock(CLOSED_US + late_us), creator=who).say(made[who].id, "Why?")
    (first,) = op.waiting(limit=1)
    op.say(first.statement, "Because.")
    (second,) = op.waiting(after=(first.at_us, first.statement), limit=1)
    assert (first.statement, second.statement) == (made["c_a"].id, made["c_b"].id)
    assert op.waiting(after=(second.at_us, second.statement)) == []


def test_another_creators_statement_is_not_there(engine, close):
    made = close("1")
    bo = Comments(engine, clock=FrozenClock(CLOSED_US), creator="c_b")
    for act in (lambda name: bo.say(name, "Mine?"), bo.of):
        with pytest.raises(NotFound) as others:
            act(made["c_a"].id)
        with pytest.raises(NotFound) as nobodys:
            act("stm_nowhere")
        assert type(others.value) is type(nobodys.value)
        assert others.value.code == nobodys.value.code


def test_a_final_period_takes_no_comment(engine, close):
    made = close("1")
    with pytest.raises(Conflict) as refused:
        Comments(engine, clock=FrozenClock(CLOSED_US + 15 * DAY_US), creator="c_a").say(
            made["c_a"].id, "Late."
        )
    assert refused.value.code == "period_final"


@pytest.mark.parametrize("table", ["period_window", "statement_comment"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET {} = {}"])
def test_neither_a_window_nor_a_word_can_be_changed(engine, close, table, change):
    made = close("1")
    Comments(engine, clock=FrozenClock(CLOSED_US), creator="c_a").say(made["c_a"].id, "Too little.")
    column = {"period_window": "until_us", "statement_comment": "at_us"}[table]
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(sa.text(change.format(table, column, 1)))
