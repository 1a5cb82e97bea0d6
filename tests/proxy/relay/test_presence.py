from __future__ import annotations

import asyncio

import pytest

from proxy.relay.needs import GONE
from proxy.relay.presence import WATCH_AFTER_S, Presence

pytestmark = pytest.mark.anyio


class Client:
    """What a server gives an application: messages one after the other, and none when there are no more."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = list(kinds)
        self.asked = 0

    async def receive(self) -> dict[str, str]:
        self.asked += 1
        if not self.kinds:
            await asyncio.Event().wait()
        return {"type": self.kinds.pop(0)}


async def test_a_server_that_tells_is_not_asked():
    told, left, client = [], [], Client()
    presence = Presence({GONE: told.append}, client.receive, lambda: left.append(True))
    told[0]()
    assert left == [True]
    presence.close()
    assert told[1] is None
    await asyncio.sleep(2 * WATCH_AFTER_S)
    assert client.asked == 0


async def test_another_server_is_listened_to_until_it_says_that_the_client_has_left():
    left, client = asyncio.Event(), Client("http.request", "http.disconnect")
    presence = Presence({}, client.receive, left.set)
    await asyncio.wait_for(left.wait(), 10)
    presence.close()


async def test_whoever_has_closed_hears_nothing_more():
    left, client = [], Client()
    presence = Presence({}, client.receive, lambda: left.append(True))
    await asyncio.sleep(2 * WATCH_AFTER_S)
    presence.close()
    client.kinds.append("http.disconnect")
    await asyncio.sleep(0)
    assert left == []
