"""The lines of a batch's output: cut anywhere, read by their endpoints, bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.batches import END_BYTES, LineCutter, RawLine, file_in, is_output, read_line
from proxy.wire.output import MediaCounts, TextDelta, TokenCounts

CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "small-1-2026",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "The sea"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7},
}  # fmt: skip


def line(body=CHAT, custom_id="request-1", status=200, **more):
    response = None if body is None else {"status_code": status, "request_id": "req_1", "body": body}
    return json.dumps(
        {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None, **more}
    ).encode()


def read(data):
    return read_line(RawLine(data, length=len(data)))


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")), max_size=6), st.data())
def test_lines_do_not_depend_on_where_the_network_cuts(lines, data):
    whole = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    cutter, found = LineCutter(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += cutter.feed(whole[start:end])
    last = cutter.finish()
    found += [last] if last else []
    assert [one.data for one in found] == [one for one in lines if one]


@given(st.integers(1, 400), st.integers(1, 64))
def test_of_a_line_that_is_too_long_both_ends_are_kept_and_the_next_is_whole(length, step):
    limit = 3 * END_BYTES
    long = bytes(n % 251 + 1 for n in range(limit + length)).replace(b"\n", b" ")
    cutter, found, data = LineCutter(limit), [], long + b"\nnext\n"
    for start in range(0, len(data), step * 997):
        found += cutter.feed(data[start : start + step * 997])
    assert found[0] == RawLine(long[:END_BYTES] + long[-END_BYTES:], is_whole=False, length=len(long))
    assert found[1].data == b"next"


def test_an_answer_is_read_by_the_endpoint_that_its_body_is_of():
    found = read(line())
    assert (found.custom_id, found.endpoint.name, found.created_s) == (
        "request-1",
        "chat.completions",
        1_700_000_000,
    )
    assert (found.said.texts, found.said.counts) == ((TextDelta(0, "The sea"),), TokenCounts(11, 7))
    response = {"id": "resp_1", "object": "response", "created_at": 5.0, "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 4},
                "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}]}  # fmt: skip
    found = read(line(response))
    assert (found.endpoint.name, found.created_s, found.said.counts) == ("responses", 5, TokenCounts(3, 4))
    found = read(
        line({"object": "list", "data": [{"embedding": [0.1]}], "model": "e", "usage": {"prompt_tokens": 9}})
    )
    assert (found.endpoint.name, found.said.counts) == ("embeddings", TokenCounts(9, 0))
    assert read(line({"id": "modr-1", "model": "m", "results": []})).endpoint.name == "moderations"
    assert (
        read(line({"object": "text_completion", "choices": [{"text": "a"}]})).endpoint.name == "completions"
    )


def test_an_answer_of_an_unheard_kind_counts_by_its_usage():
    found = read(line({"object": "new.thing", "usage": {"input_tokens": 5, "output_tokens": 6}}))
    assert (found.endpoint, found.said.counts) == (None, TokenCounts(5, 6))
    assert read(line({"object": "new.thing"})) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        b"[]",
        b'{"a":1}',
        b'{"messages":[]}',
        line(None),
        line({"error": {}}, status=400),
        line("text"),
    ],
)
def test_a_line_without_an_answer_counts_nothing(data):
    assert read(data) is None


def test_a_refusal_that_reports_usage_is_one():
    assert read(line(CHAT, status=500)).is_refusal


def test_of_a_line_too_long_the_name_and_the_last_usage_are_read():
    text = "x" * (3 * END_BYTES)
    whole = line(
        {
            "choices": [{"message": {"content": text + '\\"usage\\": {'}}],
            "usage": {"prompt_tokens": 2, "completion_tokens": 9},
        }
    )
    raw = RawLine(whole[:END_BYTES] + whole[-END_BYTES:], is_whole=False, length=len(whole))
    found = read_line(raw)
    assert (found.custom_id, found.said.counts, found.endpoint) == ("request-1", TokenCounts(2, 9), None)
    assert found.bytes_left_out == len(whole) - 2 * END_BYTES
    assert read_line(RawLine(b"y" * 99, is_whole=False, length=10**7)) is None


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/v1/files/file-1/content", "file-1"),
        ("/v1/files/file-1/content/", "file-1"),
        ("/v1/files/file-1", ""),
        ("/v1/files", ""),
    ],
)
def test_a_path_that_asks_for_a_files_content_names_it(path, file):
    assert file_in(path.encode())[0] == file


@pytest.mark.parametrize(
    ("said", "is_batch"),
    [
        (b'{"purpose":"batch_output","created_at":7}', (True, 7)),
        (b'{"purpose":"fine-tune"}', (False, None)),
        (b"{}", (None, None)),
        (b"", (None, None)),
    ],
)
def test_the_backend_says_what_a_file_is(said, is_batch):
    assert is_output(said) == is_batch


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(junk):
    read(junk)
    read_line(RawLine(b'{"custom_id":"a"' + junk, is_whole=False, length=99))
    is_output(junk)


MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1-2026", "stop_reason": "end_turn",
    "content": [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "The sea"}],
    "usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 7},
}  # fmt: skip


def result(message=MESSAGE, custom_id="request-1", kind="succeeded"):
    return json.dumps({"custom_id": custom_id, "result": {"type": kind, "message": message}}).encode()


def test_a_batch_of_messages_holds_messages_and_what_caches_served_counts():
    one = read(result())
    assert (one.custom_id, one.endpoint.name, one.said.model) == ("request-1", "messages", "claude-1-2026")
    assert [delta.text for delta in one.said.texts] == ["The sea"]
    assert (one.said.counts.input, one.said.counts.output) == (11, 7)


@pytest.mark.parametrize("kind", ["errored", "canceled", "expired", "new"])
def test_a_request_of_such_a_batch_that_came_to_nothing_is_no_answer(kind):
    assert read(result(None, kind=kind)) is None
    assert read(result(None)) is None


def test_a_message_too_long_to_be_read_counts_what_its_usage_says():
    data = result({**MESSAGE, "content": [{"type": "text", "text": "x" * (4 * END_BYTES)}]})
    (one,) = LineCutter(2 * END_BYTES).feed(data + b"\n")
    read_one = read_line(one)
    assert (read_one.custom_id, read_one.said.counts.input, read_one.said.counts.output) == (
        "request-1",
        11,
        7,
    )


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (
            "/v1/messages/batches/msgbatch_01Hk/results",
            ("msgbatch_01Hk", b"/v1/messages/batches/msgbatch_01Hk"),
        ),
        (
            "/v1/messages/batches/msgbatch_01Hk/results/",
            ("msgbatch_01Hk", b"/v1/messages/batches/msgbatch_01Hk"),
        ),
        ("/v1/messages/batches/msgbatch_01Hk", ("", b"")),
        ("/v1/messages/batches//results", ("", b"")),
        ("/v1/messages/batches/a/b/results", ("", b"")),
    ],
)
def test_the_results_of_a_batch_of_messages_are_its_output(path, found):
    assert file_in(path.encode()) == found


def test_a_batch_of_messages_says_when_it_ended():
    batch = {"id": "msgbatch_01Hk", "type": "message_batch", "ended_at": "2024-08-20T18:37:24.435Z"}
    assert is_output(json.dumps(batch).encode()) == (True, 1_724_179_044)
    for odd in (None, 5, "soon", "2024-08-20T18:37:24"):
        assert is_output(json.dumps({**batch, "ended_at": odd}).encode()) == (True, None)


def test_images_are_known_by_themselves_and_a_video_by_its_name():
    images = read(line({"created": 1_700_000_000, "data": [{"b64_json": "AAAA"}, {"url": "u"}]}))
    assert (images.endpoint.name, images.said.media) == ("images", MediaCounts(images=2))
    video = read(line({"id": "video_1", "object": "video", "model": "v", "seconds": "8"}))
    assert (video.endpoint.name, video.said.media) == ("videos", MediaCounts(milliseconds=8_000))
    for other in (
        {"data": [{"embedding": [0.1]}]},
        {"data": []},
        {"object": "new.thing", "data": [{"url": "u"}]},
    ):
        assert read(line(other)) is None
