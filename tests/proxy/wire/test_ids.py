"""Ids of what backends keep: in addresses, in requests, in replies."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.ids import IDS_MAX, ids_in_body, ids_in_path, made_in


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("/v1/responses/resp_1", ["resp_1"]),
        ("/v1/responses/resp_1/input_items", ["resp_1"]),
        ("/v1/chat/completions/chatcmpl-9", ["chatcmpl-9"]),
        ("/v1/files/file-1/content", ["file-1"]),
        ("/v1/vector_stores/vs_1/files/file-2", ["vs_1", "file-2"]),
        ("/v1/fine_tuning/jobs/ftjob-1/cancel", ["ftjob-1"]),
        ("/v1/files/file%2D1", ["file-1"]),
        ("/v1/models/gpt-4o-2024", []),
        ("/v1/batches", []),
        ("/v1", []),
        ("/v1/files/" + "a1" * 200, []),
    ],
)
def test_an_address_names_its_ids(path, ids):
    assert ids_in_path(path.encode()) == ids


@pytest.mark.parametrize(
    ("request_", "ids"),
    [
        ({"previous_response_id": "resp_1"}, ["resp_1"]),
        ({"conversation": {"id": "conv_1"}}, ["conv_1"]),
        ({"conversation": "conv_1"}, ["conv_1"]),
        ({"input_file_id": "file-1", "endpoint": "/v1/responses"}, ["file-1"]),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]}]}, ["vs_1", "vs_2"]),
        ({"input": [{"content": [{"type": "input_file", "file_id": "file-9"}]}]}, ["file-9"]),
        (
            {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-3"]}}]},
            ["file-3"],
        ),
        ({"prompt": "again, at night", "video": {"id": "video_1"}}, ["video_1"]),
        ({"messages": [{"content": [{"type": "video", "video": "https://a.example/v.mp4"}]}]}, []),
        ({"messages": [{"role": "tool", "tool_call_id": "call_1"}]}, []),
        ({"input": 'they wrote "file_id": "file-1" and "previous_response_id":"resp_1"'}, []),
        ({"conversation": None, "previous_response_id": None}, []),
    ],
)
def test_a_request_names_what_it_leads_to(request_, ids):
    assert ids_in_body(json.dumps(request_).encode()) == ids


def test_letters_written_as_escapes_hide_nothing():
    assert ids_in_body(b'{"previous\\u005fresponse_id":"resp\\u005F1"}') == ["resp_1"]
    assert ids_in_body(b'{"input":"a\\u0022file_id\\u0022: \\u0022file-1\\u0022"}') == []


def test_only_so_many_are_looked_up():
    assert len(ids_in_body(json.dumps({"file_ids": [f"file-{n}" for n in range(500)]}).encode())) == IDS_MAX


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(junk):
    ids_in_body(junk)
    ids_in_body(b'{"file_ids":[' + junk + b']}"')
    ids_in_path(b"/v1/" + junk)
    made_in(junk)


@pytest.mark.parametrize(
    ("reply", "ids"),
    [
        ({"id": "resp_1", "object": "response"}, ["resp_1"]),
        ({"type": "response.created", "response": {"id": "resp_1"}}, ["resp_1"]),
        ({"id": "batch_1", "output_file_id": "file-o", "error_file_id": None}, ["batch_1", "file-o"]),
        ({"id": "upload_1", "file": {"id": "file-1"}}, ["upload_1", "file-1"]),
        ({"id": "run_1", "thread_id": "thread_1"}, ["run_1", "thread_1"]),
        ({"id": 7}, []),
        ({"error": {"message": "no"}}, []),
        ([], []),
    ],
)
def test_a_reply_says_what_there_is_now(reply, ids):
    assert made_in(json.dumps(reply).encode()) == ids
