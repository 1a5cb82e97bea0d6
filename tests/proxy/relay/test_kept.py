"""What is kept of an answer until its shares are there."""

from __future__ import annotations

import pytest

from proxy.relay.kept import Kept

pytestmark = pytest.mark.anyio


async def test_a_new_scorer_is_told_everything_again_in_order():
    kept = Kept()
    kept.asked, kept.asked_sent, kept.finish_sent = ("the request",), True, True
    kept.sent, kept.fresh = {0: ["a ", "b "], 1: ["x"]}, {0: ["c"]}
    kept.send_again()
    assert kept.fresh == {0: ["a ", "b ", "c"], 1: ["x"]}
    assert not kept.sent
    assert not kept.asked_sent
    assert not kept.finish_sent
