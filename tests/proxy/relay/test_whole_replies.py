"""The exchange of an answer that comes whole: held, settled, recorded, and sent with one field more."""

from __future__ import annotations

import gzip
import json

import pytest

from proxy.relay.actions import Began, Begin, Close, Offer, Record, Reply, Send, Settle
from tests import fakes
from tests.builders import SSE, chat_reply, chat_request, chat_stream
from tests.proxy.relay.exchanges import CREDITS, JSON, exchange, kinds, only, play, sent, without_field


def whole(body=None, **wishes):
    made = exchange(chat_request(), **wishes)
    return play(made, [body if body is not None else chat_reply()], headers=JSON)


def test_a_json_reply_is_held_until_settled_and_recorded_and_differs_by_one_field():
    body = chat_reply()
    made = exchange(chat_request())
    assert made.upstream_began(200, JSON) == [Began()]
    assert made.upstream_sent(body[:50]) == []
    assert made.upstream_sent(body[50:]) == []
    assert made.upstream_ended() == [Offer(0, "The lamp burned all night."), Settle(250)]
    assert kinds(made.attributed(CREDITS)) == ["Record"]
    begin, send, close = made.recorded()
    assert isinstance(begin, Begin)
    assert without_field(send.data) == body
    assert begin.headers == [
        (b"Content-Type", b"application/json"), (b"X-Own", b"1"), (b"content-length", str(len(send.data)).encode()),
        (b"x-attribution-id", b"rct_a"), (b"x-attribution-status", b"settled"),
        (b"x-attribution", fakes.WORK.encode() + b";ppm=400000"), (b"x-attribution-unattributed", b"600000"),
    ]  # fmt: skip
    assert close == Close()


def test_a_digest_of_the_backends_body_goes_with_a_refusal_and_not_with_a_body_that_has_changed():
    digested = [*JSON, (b"Content-Digest", b"sha-256=:x:")]
    for status, goes_down in ((200, False), (500, True)):
        begin = only(play(exchange(chat_request()), [chat_reply()], status=status, headers=digested), Begin)
        assert ((b"Content-Digest", b"sha-256=:x:") in begin.headers) is goes_down


@pytest.mark.parametrize(
    ("view", "has_field", "has_list"), [("off", 0, 0), ("headers", 0, 1), ("body", 1, 1)]
)
def test_each_view_shows_what_it_says(view, has_field, has_list):
    actions = whole(view=view)
    assert (b'"attribution"' in sent(actions)) == bool(has_field)
    assert (b"x-attribution" in dict(only(actions, Begin).headers)) == bool(has_list)
    assert only(actions, Record).outcome == "complete"


def test_evidence_is_in_the_full_view_only_and_names_its_choice_only_among_several():
    def work(actions):
        return json.loads(sent(actions))["attribution"]["works"][0]

    assert "evidence" not in work(whole())
    assert work(whole(view="full"))["evidence"] == [{"kind": "verbatim", "output": [0, 5], "score": 0.97}]
    several = play(exchange(chat_request(n=2), view="full"), [chat_reply()], headers=JSON)
    assert work(several)["evidence"][0]["choice"] == 0


def test_top_bounds_the_list_and_not_the_shares():
    actions = whole(works_top=1)
    assert json.loads(sent(actions))["attribution"]["unattributed_ppm"] == 600_000


def test_a_reply_that_is_no_json_passes_as_it_is_and_is_metered_without_text():
    actions = whole(b"<html>not json")
    assert sent(actions) == b"<html>not json"
    assert only(actions, Record).credits.reason == "no_text"


def test_a_json_reply_the_backend_breaks_off_is_our_error_and_a_failed_event():
    actions = play(exchange(chat_request()), [chat_reply()[:20]], headers=JSON, then="cut")
    assert only(actions, Record).outcome == "failed"
    reply = only(actions, Reply)
    assert reply.status == 502
    assert json.loads(reply.body)["error"]["code"] == "backend_cut"


def test_json_in_answer_to_a_streamed_request_is_read_as_json():
    actions = play(exchange(), [chat_reply()], headers=JSON)
    assert without_field(sent(actions)) == chat_reply()


def test_events_in_answer_to_a_plain_request_are_read_as_events():
    actions = play(exchange(chat_request()), chat_stream())
    assert b'"attribution":' in sent(actions)


def test_a_gzip_answer_we_did_not_ask_for_is_unpacked_and_credited():
    packed = gzip.compress(chat_reply())
    headers = [*JSON, (b"Content-Encoding", b"gzip")]
    actions = play(exchange(chat_request()), [packed[:9], packed[9:]], headers=headers)
    assert without_field(sent(actions)) == chat_reply()
    assert b"Content-Encoding" not in dict(only(actions, Begin).headers)


def test_a_gzip_stream_is_unpacked_too():
    packed = gzip.compress(b"".join(chat_stream()))
    actions = play(exchange(), [packed[i : i + 7] for i in range(0, len(packed), 7)],
                   headers=[*SSE, (b"Content-Encoding", b"gzip")])  # fmt: skip
    assert without_field(sent(actions)) == b"".join(chat_stream(usage=False))


def test_a_broken_gzip_answer_is_a_protocol_error():
    actions = play(exchange(chat_request()), [b"not gzip at all"], headers=[*JSON, (b"Content-Encoding", b"gzip")],
                   then="cut")  # fmt: skip
    assert json.loads(only(actions, Reply).body)["error"]["code"] == "backend_protocol"


def test_an_answer_we_cannot_read_passes_unread_with_its_last_piece_behind_the_record():
    made = exchange(chat_request())
    made.upstream_began(200, [*JSON, (b"Content-Encoding", b"br")])
    assert made.upstream_sent(b"one") == []
    assert made.upstream_sent(b"two") == [Send(b"one")]
    record = only(made.upstream_ended(), Record)
    assert record.credits is not None
    assert record.credits.reason == "not_attributed"
    assert made.recorded() == [Send(b"two"), Close()]
