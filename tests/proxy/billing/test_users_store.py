import pytest

from proxy.billing.policies import read_policy
from proxy.billing.policies_store import Policies
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.billing.users_store import UsersRefresher
from proxy.settings import Billing
from tests.fakes import FrozenClock

pytestmark = pytest.mark.anyio
POOL = read_policy(b'name = "p"\nscheme = "pool"')


def digest(refresher):
    return refresher.digest("app_1", "m", "chat.completions", FrozenClock().now_us(), "user-7")


async def test_a_policy_and_a_closed_period_are_noticed_and_change_the_digest(engine):
    refresher = UsersRefresher(engine, Billing(), b"k" * 32)
    assert not await refresher.refresh()
    assert digest(refresher) == ""
    policies = Policies(engine, clock=FrozenClock(), by="ada", currency="USD")
    policies.add(POOL)
    policies.activate(POOL.id)
    assert await refresher.refresh()
    before = digest(refresher)
    assert len(before) == 64
    assert not await refresher.refresh()
    close_period(engine, "2026-11", Billing(), load(), dry_run=False, now_us=FrozenClock().now_us())
    assert await refresher.refresh()
    assert digest(refresher) not in {"", before}


async def test_while_the_store_is_away_what_was_known_holds(engine):
    refresher = UsersRefresher(engine, Billing(scheme="pool"), b"k" * 32)
    before = digest(refresher)
    broken = UsersRefresher(engine, Billing(scheme="pool"), b"k" * 32)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE policy_activation RENAME TO gone")
    assert not await broken.refresh()
    assert not await broken.refresh()
    assert digest(broken) == before
