import time

import pytest

from proxy.access.keys import Principal
from proxy.portal import events
from tests import stores
from tests.proxy.receipts.conftest import carry
from tests.proxy.receipts.making import answer

engine, store_url = stores.engine, stores.store_url


@pytest.mark.anyio
async def test_an_answer_is_found_and_what_is_none_is_waited_for_a_moment_only(engine, monkeypatch):
    monkeypatch.setattr(events, "CARRY_WAIT_S", 0.05)
    monkeypatch.setattr(events, "CARRY_POLL_S", 0.01)
    carry(engine, [1])
    assert (await events.carried(engine, "rct_1")).id == "rct_1"
    began = time.monotonic()
    assert await events.carried(engine, "rct_2") is None
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize(
    ("caller", "sees"),
    [
        (Principal("app", "key_1", app_id="app_1"), True),
        (Principal("app", "key_2", app_id="app_2"), False),
        (Principal("creator", "key_3", creator_id="c_1"), False),
        (Principal("operator", "key_4"), True),
    ],
)
def test_an_app_sees_its_own_and_an_operator_all(caller, sees):
    assert events.may_see(caller, answer(app_id="app_1")) is sees
