import pytest

from proxy.access.subjects import SubjectKeys
from proxy.billing.policies import read_policy
from proxy.billing.policies_store import Policies
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.billing.users_store import UsersRefresher, forget_users
from proxy.settings import Billing
from tests.fakes import FrozenClock

pytestmark = pytest.mark.anyio
POOL = read_policy(b'name = "p"\nscheme = "pool"')


@pytest.fixture
def keys(tmp_path):
    return SubjectKeys(tmp_path)


def refreshed(engine, keys, billing=None):
    return UsersRefresher(engine, billing or Billing(), keys, FrozenClock())


def digest(refresher):
    return refresher.digest("app_1", "m", "chat.completions", FrozenClock().now_us(), "user-7")


async def test_a_policy_and_a_closed_period_are_noticed_and_change_the_digest(engine, keys):
    refresher = refreshed(engine, keys)
    assert not await refresher.refresh()
    assert digest(refresher) == ""
    assert refresher.policy_seq() == 0
    policies = Policies(engine, clock=FrozenClock(), by="ada", currency="USD")
    policies.add(POOL)
    policies.activate(POOL.id)
    assert await refresher.refresh()
    before = digest(refresher)
    assert len(before) == 64
    assert refresher.policy_seq() == 1
    assert not await refresher.refresh()
    close_period(engine, "2026-11", Billing(), load(), dry_run=False, now_us=FrozenClock().now_us())
    assert await refresher.refresh()
    assert digest(refresher) not in {"", before}
    assert refresher.policy_seq() == 1


async def test_while_the_store_is_away_what_was_known_holds(engine, keys):
    refresher = refreshed(engine, keys, Billing(scheme="pool"))
    before = digest(refresher)
    broken = refreshed(engine, keys, Billing(scheme="pool"))
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE policy_activation RENAME TO gone")
    assert not await broken.refresh()
    assert not await broken.refresh()
    assert digest(broken) == before


def test_when_a_period_is_final_the_keys_of_its_users_are_destroyed_and_never_made_again(engine, keys):
    now_us, day_us = FrozenClock().now_us(), 86_400_000_000
    billing = Billing(comment_days=14)
    for closed, label in enumerate(("2026-10", "2026-11")):
        keys.key("app_1", closed)
        close_period(engine, label, billing, load(), dry_run=False, now_us=now_us + closed * day_us)
    assert forget_users(engine, keys, now_us + 13 * day_us) == []
    assert forget_users(engine, keys, now_us + 14 * day_us) == [0]
    assert keys.find("app_1", 0) is None
    assert keys.periods() == [1]
    assert forget_users(engine, keys, now_us + 15 * day_us) == [1]
