"""What is noted of an answer says how it went, and nothing of what was said."""

from __future__ import annotations

import json

import pytest

from tests import fakes
from tests.builders import SSE, World, chat_request, chat_stream

pytestmark = pytest.mark.anyio


def noted(world):
    return [fields for name, fields in world.log.events if name == "exchange_settled"]


async def test_an_answer_is_noted_once_with_its_tokens_and_without_its_words():
    world = World(fakes.FakeBackend(chat_stream(), headers=SSE))
    await world.ask(chat_request(stream=True))
    (fields,) = noted(world)
    (used,) = world.journal.used
    assert (fields["id"], fields["outcome"], fields["http_status"]) == (used.id, "complete", 200)
    assert (fields["input_tokens"], fields["output_tokens"]) == (used.input_tokens, used.output_tokens)
    assert "lamp" not in json.dumps(fields, default=str)
    counted = world.metrics.registry.get_sample_value(
        "endcredits_requests_total", {"endpoint": "chat.completions", "outcome": "complete"}
    )
    assert counted == 1


async def test_a_request_that_was_refused_is_noted_as_such_and_owes_no_tokens():
    world = World()
    await world.ask(b"{}")
    (fields,) = noted(world)
    assert (fields["outcome"], fields["input_tokens"], fields["output_tokens"]) == ("refused", 0, 0)
    assert fields["http_status"] == 400
