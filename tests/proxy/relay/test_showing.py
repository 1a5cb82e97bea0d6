"""What is shown where, for each kind of endpoint and wish."""

from __future__ import annotations

import json

import pytest

from proxy.relay.credits import credited
from proxy.relay.showing import Showing
from proxy.wire import endpoint_for
from proxy.wire.endpoint import Endpoint
from proxy.wire.headers import Wishes
from proxy.wire.measures import Measures
from proxy.wire.messages import Messages
from proxy.wire.pictures import Pictures
from proxy.wire.responses import Responses
from proxy.wire.sse import SseDecoder
from tests import fakes

CREDITS = credited(fakes.scored(), {fakes.WORK: fakes.Credit(fakes.WORK)}.get, registry_seq=5)


def showing(endpoint: Endpoint, **wishes) -> Showing:
    return Showing("rct_a", endpoint, Wishes(**wishes), "m")


@pytest.mark.parametrize("view", ["off", "headers"])
def test_nothing_is_spliced_where_the_body_is_not_wished_for(view):
    body = b'{"content":[]}'
    assert showing(Messages(), view=view).body(body, CREDITS) == body
    frame = SseDecoder().feed(b'data: {"type":"message_delta"}\n\n')[0]
    assert showing(Messages(), view=view).frame(frame, CREDITS) == frame.raw


def test_shares_are_in_the_headers_of_a_settled_whole_reply_only():
    shown = showing(Messages())
    assert dict(shown.headers_with("settled", CREDITS))[b"x-attribution"].startswith(fakes.WORK.encode())
    assert shown.headers_with("pending", None) == [
        (b"x-attribution-id", b"rct_a"), (b"x-attribution-status", b"pending")
    ]  # fmt: skip
    assert shown.headers(None) == [(b"x-attribution-id", b"rct_a")]


def test_pictures_say_off_and_why():
    field = json.loads(showing(Pictures("images.generations")).body(b'{"data":[]}', None))["attribution"]
    assert (field["status"], field["reason"], field["unattributed_ppm"]) == ("off", "not_attributed", None)


def test_measures_have_no_room_for_the_field():
    assert showing(Measures("embeddings")).body(b'{"data":[]}', CREDITS) == b'{"data":[]}'


def test_citations_go_where_the_endpoint_has_a_place_for_them():
    chat = endpoint_for("POST", "/v1/chat/completions")
    assert chat is not None
    reply = json.loads(
        showing(chat, view="annotations").body(b'{"choices":[{"message":{"content":"The sea"}}]}', CREDITS)
    )
    assert reply["choices"][0]["message"]["annotations"][0]["work"] == fakes.WORK
    part = b'{"output":[{"type":"message","content":[{"type":"output_text","text":"The sea"}]}]}'
    response = json.loads(showing(Responses(), view="annotations").body(part, CREDITS))
    assert response["output"][0]["content"][0]["annotations"][0]["end_index"] == 5
    message = json.loads(
        showing(Messages(), view="annotations").body(b'{"content":[{"type":"text","text":"The"}]}', CREDITS)
    )
    assert message["content"] == [{"type": "text", "text": "The"}]
