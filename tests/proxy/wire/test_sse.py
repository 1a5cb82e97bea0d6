"""SseDecoder: any bytes, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.errors import WireError
from proxy.wire.sse import RUN_KEPT_BYTES_MAX, Frame, SseDecoder

PARTS = st.sampled_from(
    [b"data: {}", b"data:x", b"data", b": ping", b"event: e", b"id: 1", b"\n", b"\n\n", b"\r\n", b"\r", b"\r\n\r\n",
     b"\xef\xbb\xbf", b"data: [DONE]", b"\xc3\xa9", b" ", b"data: a\n\n", b"\r\r", b"\n\r"]
)  # fmt: skip
STREAMS = st.lists(PARTS, max_size=25).map(b"".join)


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


def decoded(pieces):
    decoder = SseDecoder()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)]
    rest = decoder.finish()
    return [*frames, *([rest] if rest is not None else [])]


@given(STREAMS, st.lists(st.integers(min_value=0, max_value=500), max_size=30))
def test_frames_do_not_depend_on_where_the_network_cuts(stream, cuts):
    assert decoded(pieces_of(stream, cuts)) == decoded([stream])


@given(STREAMS)
def test_the_frames_bytes_are_the_bytes_that_went_in(stream):
    assert b"".join(frame.raw for frame in decoded([stream])) == stream


@given(STREAMS)
def test_one_byte_at_a_time_is_the_same_stream(stream):
    assert decoded([stream[i : i + 1] for i in range(len(stream))]) == decoded([stream])


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": ping\n\ndata:a\n\n", [None, b"a"]),
        (b"event: x\ndata: a\ndata:  b\nid: 1\n\n", [b"a\n b"]),
        (b"data\n\n", [b""]),
        (b"data: a\n\ndata: [DONE]", [b"a", b"[DONE]"]),
        (b"", []),
    ],
)
def test_data_is_read_as_the_standard_says(stream, data):
    assert [frame.data for frame in decoded([stream])] == data


def test_a_frame_is_there_with_its_last_byte_and_not_before():
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert [frame.data for frame in decoder.feed(b"\n")] == [b"a"]


def test_crlf_frames_do_not_wait_for_the_next_one():
    assert [frame.data for frame in SseDecoder().feed(b"data: a\r\n\r\n")] == [b"a"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_frame_over_the_limit_breaks_the_stream_and_the_frames_before_it_are_kept(size):
    decoder = SseDecoder(frame_bytes_max=50)
    stream = b"data: a\n\n" + b"data: " + b"x" * 100 + b"\n\n"
    frames = []
    with pytest.raises(WireError, match="longer than 50 bytes"):  # noqa: PT012  which call raises depends on the cut
        for start in range(0, len(stream) + size, size):
            frames += decoder.feed(stream[start : start + size])
    assert [frame.data for frame in frames] == [b"a"]


def decoded_in_runs(pieces):
    decoder, frames = SseDecoder(), []
    for piece in pieces:
        run = decoder.run(piece)
        if run is None:
            frames += decoder.feed(piece)
        else:
            rest, passed = run.cut(len(run.data) // 2)
            frames += [Frame(b"data: " + data + b"\n\n", data) for data in run.data]
            whole = b"".join(frame.raw for frame in frames[len(frames) - len(run.data) :])
            assert passed + b"".join(frame.raw for frame in rest) == whole == run.raw
            assert rest == frames[len(frames) - len(rest) :]
    rest = decoder.finish()
    return [*frames, *([rest] if rest is not None else [])]


@given(STREAMS, st.lists(st.integers(min_value=0, max_value=500), max_size=30))
def test_a_run_is_the_frames_that_would_come_one_by_one(stream, cuts):
    assert decoded_in_runs(pieces_of(stream, cuts)) == decoded([stream])


@given(st.lists(st.sampled_from([b"data: {}\n\n", b"data: \n\n", b"data: x\n\n"]), min_size=1, max_size=9))
def test_events_of_one_data_line_are_one_run_wherever_the_last_is_cut(events):
    stream = b"".join(events)
    run = SseDecoder().run(stream + b"data: he")
    assert run is not None
    assert (run.raw, len(run.data)) == (stream, len(events))


def test_a_long_event_is_not_searched_again_with_every_piece():
    decoder = SseDecoder()
    assert decoder.run(b"data: " + b"x" * RUN_KEPT_BYTES_MAX) is None
    decoder.feed(b"data: " + b"x" * RUN_KEPT_BYTES_MAX)
    assert decoder.run(b"\n\n") is None
    (frame,) = decoder.feed(b"\n\n")
    assert len(frame.raw) == RUN_KEPT_BYTES_MAX + 8
