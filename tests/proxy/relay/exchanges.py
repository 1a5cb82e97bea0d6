"""An exchange played as the shell would play it, for tests of what it asks for."""

from __future__ import annotations

import json

from proxy.relay.actions import Forward, Record, Send, Settle
from proxy.relay.credits import credited
from proxy.relay.exchange import Exchange
from proxy.wire import endpoint_for
from proxy.wire.headers import Wishes
from tests import fakes
from tests.builders import SSE, chat_request

JSON = [(b"Content-Type", b"application/json"), (b"X-Own", b"1"), (b"Content-Length", b"9")]
CREDITS = credited(fakes.scored(), {fakes.WORK: fakes.Credit(fakes.WORK)}.get, registry_seq=5)


def exchange(request: bytes | None = None, *, headers=(), **wishes) -> Exchange:
    endpoint = endpoint_for("POST", "/v1/chat/completions")
    assert endpoint is not None
    made = Exchange("rct_a", endpoint, Wishes(**wishes), method="endcredits/1 x")
    actions = made.client_asked(list(headers), request if request is not None else chat_request(stream=True))
    assert isinstance(actions[0], Forward)
    return made


def play(made: Exchange, pieces, *, status=200, headers=SSE, shares=CREDITS, then="ended"):
    """Run a whole exchange as the shell would; return every action in order."""
    done: list = []

    def act(actions):
        for action in actions:
            done.append(action)
            if isinstance(action, Settle):
                act(made.attributed(shares))
            elif isinstance(action, Record):
                act(made.recorded())

    act(made.upstream_began(status, headers))
    for piece in pieces:
        act(made.upstream_sent(piece))
    act(made.upstream_ended() if then == "ended" else made.upstream_failed(then))
    assert made.is_over
    return done


def sent(actions) -> bytes:
    return b"".join(action.data for action in actions if isinstance(action, Send))


def kinds(actions) -> list[str]:
    return [type(action).__name__ for action in actions]


def only(actions, kind):
    found = [action for action in actions if isinstance(action, kind)]
    assert len(found) == 1
    return found[0]


def without_field(data: bytes) -> bytes:
    """Take the spliced field out again."""
    place = data.find(b',"attribution":{"id":"rct_a"')
    if place < 0:
        return data
    _, length = json.JSONDecoder().raw_decode(data[place + len(b',"attribution":') :].decode())
    return data[:place] + data[place + len(b',"attribution":') + length :]
