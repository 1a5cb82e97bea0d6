"""Requests that come together begin a few at a time, in their order, and one alone never waits."""

from __future__ import annotations

import asyncio
import functools

import pytest

from proxy.turns import BEGUN_AT_ONCE, Turns

pytestmark = pytest.mark.anyio


async def test_of_many_requests_that_come_at_once_a_few_begin_in_each_turn_of_the_loop_in_their_order():
    loop, begun, turns_seen = asyncio.get_running_loop(), [], []
    turns = Turns(loop)
    for number in range(3 * BEGUN_AT_ONCE + 1):
        if turns.has_room():
            begun.append(number)
        else:
            turns.waiting.append(functools.partial(begun.append, number))
    while len(begun) <= 3 * BEGUN_AT_ONCE:
        turns_seen.append(len(begun))
        await asyncio.sleep(0)
    assert turns_seen == [BEGUN_AT_ONCE, 2 * BEGUN_AT_ONCE, 3 * BEGUN_AT_ONCE]
    assert begun == sorted(begun)


async def test_one_request_after_the_other_never_waits_for_a_turn():
    turns = Turns(asyncio.get_running_loop())
    for _ in range(3 * BEGUN_AT_ONCE):
        assert turns.has_room()
        await asyncio.sleep(0)
