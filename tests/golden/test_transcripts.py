"""Transcripts of streams in the ways backends really write them, cut anew at random on every run.

One folder each: request.json as a client sends it, stream.sse as the backend answers, expect.json. Each shows a
habit of some server: usage on every chunk, chunks without choices, comments, CRLF, text in the last chunk, parts.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.relay.actions import Forward, Record, Send, Settle
from proxy.relay.credits import credited
from proxy.relay.exchange import Exchange
from proxy.wire import endpoint_for
from proxy.wire.headers import Wishes
from tests import fakes
from tests.builders import SSE

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("*/stream.sse"))
CREDITS = credited(fakes.scored(), {fakes.WORK: fakes.Credit(fakes.WORK)}.get, registry_seq=5)
FIELD = b'"attribution":{"id":"rct_a","status":"settled"'


def replayed(folder: Path, pieces):
    """Return (exchange, bytes sent before the end was settled, all bytes sent, record)."""
    endpoint = endpoint_for("POST", "/v1/chat/completions")
    assert endpoint is not None
    exchange = Exchange("rct_a", endpoint, Wishes(), method="m")
    (forward,) = exchange.client_asked([], (folder / "request.json").read_bytes())
    assert isinstance(forward, Forward)
    sent: list[bytes] = []
    early = 0
    record: list[Record] = []

    def act(actions):
        nonlocal early
        for action in actions:
            match action:
                case Send(data):
                    sent.append(data)
                case Settle():
                    early = len(b"".join(sent))
                    act(exchange.attributed(CREDITS))
                case Record():
                    record.append(action)
                    act(exchange.recorded())

    act(exchange.upstream_began(200, SSE))
    for piece in pieces:
        act(exchange.upstream_sent(piece))
    act(exchange.upstream_ended())
    data = b"".join(sent)
    return exchange, data[:early], data, record


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(cuts=st.lists(st.integers(min_value=0, max_value=10_000), max_size=25))
def test_a_transcript_is_understood_wherever_it_is_cut(folder, cuts):
    stream = (folder / "stream.sse").read_bytes()
    expect = json.loads((folder / "expect.json").read_bytes())
    places = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    exchange, before, data, record = replayed(folder, pieces)

    assert {str(choice): text for choice, text in exchange.told.texts().items()} == expect["texts"]
    assert [record[0].counts.input, record[0].counts.output] == expect["counts"]
    assert len(record) == 1

    bare = stream.replace(expect["swallowed"].encode(), b"") if expect["swallowed"] else stream
    assert data.count(FIELD) == expect["spliced"]
    if expect["spliced"]:
        start = data.index(b"," + FIELD)
        _, length = json.JSONDecoder().raw_decode(data[start + 15 :].decode())
        data = data[:start] + data[start + 15 + length :]
        held = bare.index(expect["held_from"].encode())
        assert before == bare[: len(before)]
        assert len(before) <= held  # nothing of the held frame left early
        assert before.count(b"data:") + 1 == bare[:held].count(b"data:")  # and nothing before it was kept
    assert data == bare


def test_there_are_transcripts():
    assert len(FOLDERS) >= 7
