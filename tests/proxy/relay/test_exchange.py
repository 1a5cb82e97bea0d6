"""The exchange as transcripts: what happened, and what it asks for. No socket, no clock."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.actions import Begin, Close, Offer, Record, Reply, Send, Settle
from proxy.relay.exchange import Exchange
from proxy.wire import endpoint_for
from proxy.wire.headers import Wishes
from proxy.wire.output import TokenCounts
from tests.builders import DONE, SSE, chat_reply, chat_request, chat_stream, chunk, frame, usage_chunk
from tests.proxy.relay.exchanges import CREDITS, JSON, exchange, kinds, only, play, sent, without_field

# -- streams ----------------------------------------------------------------------------------------------------


def test_each_frame_goes_on_at_once_and_its_text_is_offered():
    made = exchange()
    head = made.upstream_began(200, SSE)
    assert kinds(head) == ["Began", "Begin"]
    assert made.upstream_sent(chunk("The ")) == [Send(chunk("The ")), Offer(0, "The ")]


def test_the_head_of_a_stream_carries_the_id_before_any_byte():
    begin = only(exchange().upstream_began(200, [*SSE, (b"Content-Length", b"5")]), Begin)
    assert begin.headers == [*SSE, (b"x-attribution-id", b"rct_a")]


def test_the_finish_chunk_waits_until_shares_are_settled_and_usage_is_recorded():
    made = exchange(chat_request(stream=True, stream_options={"include_usage": True}))
    made.upstream_began(200, SSE)
    made.upstream_sent(chunk("a"))
    assert made.upstream_sent(chunk(finish="stop")) == []
    assert made.upstream_sent(usage_chunk()) == []
    assert made.upstream_sent(DONE) == [Settle(250)]
    record = only(made.attributed(CREDITS), Record)
    assert record == Record("complete", "small-1-2026", TokenCounts(11, 7), CREDITS)
    released = made.recorded()
    assert kinds(released) == ["Send"]
    assert without_field(sent(released)) == chunk(finish="stop") + usage_chunk() + DONE
    assert made.upstream_ended() == [Close()]


def test_a_usage_chunk_we_asked_for_ourselves_is_swallowed():
    actions = play(exchange(), chat_stream())
    assert without_field(sent(actions)) == b"".join(chat_stream(usage=False))
    assert only(actions, Record).counts == TokenCounts(11, 7)


def test_a_finish_chunk_with_usage_on_it_is_not_swallowed():
    last = chunk(finish="stop", usage={"prompt_tokens": 1, "completion_tokens": 2})
    actions = play(exchange(), [chunk("a"), last, DONE])
    assert without_field(sent(actions)) == chunk("a") + last + DONE
    assert only(actions, Record).counts == TokenCounts(1, 2)


def test_with_two_choices_the_second_to_finish_is_held():
    made = exchange(chat_request(stream=True, n=2))
    made.upstream_began(200, SSE)
    assert sent(made.upstream_sent(chunk(finish="stop", choice=1))) == chunk(finish="stop", choice=1)
    assert sent(made.upstream_sent(chunk("late ", choice=0))) == chunk("late ", choice=0)
    assert made.upstream_sent(chunk("text", choice=0, finish="stop")) == [Offer(0, "text")]


def test_without_a_finish_chunk_done_is_held_and_nothing_is_spliced():
    made = exchange()
    made.upstream_began(200, SSE)
    made.upstream_sent(chunk("a"))
    assert made.upstream_sent(DONE) == [Settle(250)]
    made.attributed(CREDITS)
    assert sent(made.recorded()) == DONE


def test_without_done_the_end_itself_is_held():
    made = exchange()
    made.upstream_began(200, SSE)
    made.upstream_sent(chunk("a"))
    assert made.upstream_ended() == [Settle(250)]
    assert kinds(made.attributed(CREDITS)) == ["Record"]
    assert made.recorded() == [Close()]


def test_a_last_event_without_its_blank_line_is_read_and_passed_on():
    stream = b"".join(chat_stream(usage=False)).rstrip(b"\n")
    assert without_field(sent(play(exchange(), [stream]))) == stream


def test_what_comes_after_done_still_reaches_the_client():
    actions = play(exchange(), [*chat_stream(usage=False), b": bye", b"\n\n: more\n\n"])
    assert sent(actions).endswith(DONE + b": bye\n\n: more\n\n")


@given(st.lists(st.integers(min_value=0, max_value=2000), max_size=20), st.sampled_from(["body", "full", "off", "headers"]),
       st.booleans(), st.sampled_from([b"\n", b"\r\n"]))  # fmt: skip
def test_a_stream_is_the_backends_bytes_and_one_field_wherever_it_is_cut(cuts, view, wants, line_end):
    options = {"stream_options": {"include_usage": True}} if wants else {}
    stream = b": hello\n\n" + b"".join(chat_stream(["The l\u00e4mp ", "\U0001f5fa", "x" * 99]))
    stream = stream.replace(b"\n", line_end)
    places = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    actions = play(exchange(chat_request(stream=True, **options), view=view), pieces)
    swallowed = b"" if wants else usage_chunk().replace(b"\n", line_end)
    expected = stream.replace(swallowed, b"") if swallowed else stream
    assert without_field(sent(actions)) == expected
    assert (b'"attribution":' in sent(actions)) == (view in {"body", "full"})
    assert (
        "".join(action.text for action in actions if isinstance(action, Offer))
        == "The l\u00e4mp \U0001f5fa" + "x" * 99
    )
    assert only(actions, Record).counts == TokenCounts(11, 7)


EVENTS = st.sampled_from([
    chunk("one "), chunk("two", choice=1), chunk(""), chunk("\u00e4\n"), chunk(None), chunk("x" * 40, choice=0),
    chunk("cited", citations=["https://a.example/"]), chunk("counted", usage={"prompt_tokens": 3, "completion_tokens": 2}),
    frame(b"{}"), frame(b"broken"), frame(b""), b": ping\n\n", b"event: e\ndata: {}\n\n", usage_chunk(), chunk(finish="stop"),
    frame({"choices": [{"delta": {"tool_calls": []}}]}), frame({"choices": [{"delta": {"content": [{"type": "text", "text": "p"}]}}]}),
    frame({"model": "named", "choices": [{"index": 0, "delta": {"content": "n"}}, {"index": 1, "delta": {"content": "m"}}]}),
    chunk("late").replace(b"\n", b"\r\n"),
])  # fmt: skip


@given(
    st.lists(EVENTS, max_size=12),
    st.lists(st.integers(min_value=0, max_value=4000), max_size=6),
    st.booleans(),
)
def test_what_a_stream_tells_does_not_depend_on_how_many_events_come_at_once(events, cuts, wants):
    def told(pieces):
        options = {"stream_options": {"include_usage": True}} if wants else {}
        made = exchange(chat_request(stream=True, n=2, **options))
        actions = play(made, pieces)
        texts = dict.fromkeys((0, 1), "")
        for action in actions:
            if isinstance(action, Offer):
                texts[action.choice] += action.text
        record = only(actions, Record)
        return sent(actions), texts, record, made.told.texts(), list(made.told.cited), made.told.characters

    stream = b"".join([*events, DONE])
    places = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert told(pieces) == told([stream]) == told([*events, DONE])


def test_usage_that_comes_twice_counts_once_and_the_last_word_holds():
    pieces = [chunk("a"), usage_chunk(1, 1), chunk(finish="stop"), usage_chunk(11, 7), DONE]
    assert only(play(exchange(), pieces), Record).counts == TokenCounts(11, 7)


def test_usage_that_never_comes_is_left_to_be_estimated():
    assert only(play(exchange(), chat_stream(usage=False)), Record).counts == TokenCounts()


def test_an_explicit_zero_stays_zero():
    pieces = [chunk("a"), chunk(finish="stop"), usage_chunk(0, 0), DONE]
    assert only(play(exchange(), pieces), Record).counts == TokenCounts(0, 0)


def test_events_that_make_no_sense_pass_and_say_nothing():
    pieces = [frame(b"garbage"), b"event: ping\n\n", chunk("a"), frame({"error": {"message": "x"}}), DONE]
    actions = play(exchange(), pieces)
    assert sent(actions) == b"".join(pieces)
    assert only(actions, Record).outcome == "complete"


def test_a_frame_without_end_cuts_the_stream_and_is_metered():
    actions = play(exchange(), [chunk("a"), b"data: " + b"x" * (5 << 20), b"never read"])
    assert only(actions, Record).outcome == "cut"
    assert actions[-1] == Close(is_clean=False)


def test_a_stream_the_backend_breaks_off_is_metered_and_broken_off_for_the_client_too():
    actions = play(exchange(), [chunk("a"), chunk("b")], then="cut")
    assert only(actions, Record).outcome == "cut"
    assert sent(actions) == chunk("a") + chunk("b")
    assert actions[-1] == Close(is_clean=False)


def test_a_stream_without_text_settles_fully_unattributed_without_a_scorer():
    actions = play(exchange(), [chunk(finish="tool_calls"), DONE])
    record = only(actions, Record)
    assert "Settle" not in kinds(actions)
    assert record.credits is not None
    assert (record.credits.unattributed_ppm, record.credits.reason) == (1_000_000, "no_text")


# -- views ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wishes", "status", "deadline_ms"),
    [
        ({"view": "off"}, b"off", 0), ({"view": "headers"}, b"pending", 0), ({"mode": "deferred"}, b"pending", 0),
        ({"deadline_ms": 70}, None, 70),
    ],
)  # fmt: skip
def test_a_stream_says_at_once_what_is_known_at_once(wishes, status, deadline_ms):
    actions = play(exchange(**wishes), chat_stream(), shares=None)
    head = dict(only(actions, Begin).headers)
    assert head.get(b"x-attribution-status") == status
    assert only(actions, Settle).deadline_ms == deadline_ms
    assert only(actions, Record).credits is None


def test_late_shares_are_pending_and_never_guessed():
    held = sent(play(exchange(), chat_stream(), shares=None))
    assert b'"status":"pending","method":"endcredits/1 x","unattributed_ppm":null,"works":[]}' in held


def test_annotations_are_added_to_the_held_chunk_only():
    data = sent(play(exchange(view="annotations"), chat_stream()))
    final = next(json.loads(line[6:]) for line in data.split(b"\n\n") if b'"attribution"' in line)
    assert (
        final["choices"][0]["delta"]["annotations"][0]["url_citation"]["url"]
        == "https://works.example/almanac"
    )
    assert data.startswith(b"".join(chat_stream()[:3]))


# -- refusals, ours and theirs ----------------------------------------------------------------------------------


def test_a_bad_header_is_answered_and_nothing_goes_up():
    endpoint = endpoint_for("POST", "/v1/chat/completions")
    assert endpoint is not None
    reply, close = Exchange("rct_a", endpoint, Wishes()).client_asked(
        [(b"x-attribution", b"on")], chat_request()
    )
    assert isinstance(reply, Reply)
    assert reply.status == 400
    assert b"off, headers, body, full, annotations" in reply.body
    assert dict(reply.headers)[b"x-attribution-id"] == b"rct_a"
    assert close == Close()


def test_a_backends_error_passes_with_status_and_body_and_no_event():
    body = b'{"error": {"message": "slow down"}}'
    actions = play(exchange(), [body], status=429, headers=[*JSON, (b"Retry-After", b"3")])
    begin = only(actions, Begin)
    assert (begin.status, sent(actions)) == (429, body)
    assert (b"Retry-After", b"3") in begin.headers
    assert "Record" not in kinds(actions)
    assert "Began" not in kinds(actions)


def test_a_backends_error_that_reports_usage_is_a_failed_event():
    body = b'{"error": {"message": "filtered"}, "usage": {"prompt_tokens": 4, "completion_tokens": 0}}'
    actions = play(exchange(), [body], status=400, headers=JSON)
    record = only(actions, Record)
    assert (record.outcome, record.counts) == ("failed", TokenCounts(4, 0))
    assert sent(actions) == body


def test_a_long_error_is_passed_on_unread():
    body = b"x" * (1 << 20)
    actions = play(exchange(), [body, body], status=500, headers=JSON)
    assert sent(actions) == body + body
    assert "Record" not in kinds(actions)


@pytest.mark.parametrize(
    ("kind", "status"), [("connect", 502), ("timeout", 504), ("cut", 502), ("protocol", 502)]
)
def test_a_backend_that_gives_no_answer_is_our_error(kind, status):
    reply, _ = exchange().upstream_failed(kind)
    assert isinstance(reply, Reply)
    assert reply.status == status


def test_a_journal_that_refuses_means_no_reply_or_no_last_byte():
    made = exchange(chat_request())
    made.upstream_began(200, JSON)
    made.upstream_sent(chat_reply())
    made.upstream_ended()
    made.attributed(CREDITS)
    reply, _ = made.not_recorded()
    assert isinstance(reply, Reply)
    assert (reply.status, dict(reply.headers)[b"retry-after"]) == (503, b"5")

    made = exchange()
    made.upstream_began(200, SSE)
    for piece in chat_stream():
        made.upstream_sent(piece)
    made.attributed(CREDITS)
    assert made.not_recorded() == [Close(is_clean=False)]


# -- the client leaves ------------------------------------------------------------------------------------------


def test_what_a_leaving_client_already_read_is_still_metered_and_the_rest_is_read_for_its_usage():
    made = exchange()
    made.upstream_began(200, SSE)
    made.upstream_sent(chunk("a"))
    assert made.client_gone() == []
    assert made.upstream_sent(chunk("b")) == [Offer(0, "b")]
    assert made.upstream_sent(chunk(finish="stop") + DONE) == []
    assert made.upstream_sent(usage_chunk()) == []
    assert made.upstream_ended() == [Settle(250)]
    assert only(made.attributed(CREDITS), Record) == Record(
        "cut", "small-1-2026", TokenCounts(11, 7), CREDITS
    )
    assert made.recorded() == [Close(is_clean=False)]


def test_reading_on_after_the_client_left_is_bounded():
    made = exchange()
    made.upstream_began(200, SSE)
    made.upstream_sent(chunk("a"))
    made.client_gone()
    piece = chunk("x" * 1_000_000)
    actions: list = []
    while not any(isinstance(action, Settle) for action in actions):
        actions = made.upstream_sent(piece)
    assert only(made.attributed(CREDITS), Record).outcome == "cut"


def test_a_client_that_leaves_after_the_last_byte_changes_nothing():
    made = exchange()
    actions = play(made, chat_stream())
    assert only(actions, Record).outcome == "complete"
    made.client_gone()
    assert made.is_over


def test_a_client_that_leaves_while_a_json_reply_is_made_is_cut():
    made = exchange(chat_request())
    made.client_gone()
    actions = play(made, [chat_reply()], headers=JSON)
    assert only(actions, Record).outcome == "cut"
    assert sent(actions) == b""
    assert "Begin" not in kinds(actions)
