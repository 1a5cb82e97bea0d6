import time

import pytest

from proxy.access.keys import Principal
from proxy.errors import NotFound
from proxy.metering import trim_store
from proxy.portal import events
from tests import stores
from tests.proxy.metering.test_trim_store import NOVEMBER, marked
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


@pytest.mark.anyio
@pytest.mark.parametrize("books", ["sqlite"], indirect=True)
async def test_an_answer_that_has_left_the_store_is_told_at_once_to_be_archived(books):
    marked(books.engine)
    trim_store.delete(books.engine, NOVEMBER, pause=lambda _: None)
    with pytest.raises(NotFound, match="no longer in the store") as told:
        await events.carried(books.engine, f"rct_{1:026d}")
    assert (told.value.status, told.value.code) == (410, "answer_archived")
    assert (await events.carried(books.engine, f"rct_{9:026d}")).status == "settled"


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
