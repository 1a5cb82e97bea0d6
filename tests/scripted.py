"""A backend that answers every wire by rote, so that two ways to it can be compared word for word.

What it says depends on the request alone: tools asked for are called, a schema asked for is followed, n choices
are n texts, `stream` cuts the same answer into events, and usage comes when it is asked for. Ids and times stand still.
A model named for a work (w_...) ends its answer with that name, which the tests' toy scorer takes for a quotation;
one named in `REFUSALS` refuses.
"""

from __future__ import annotations

import json
from typing import Any

from proxy.wire import endpoint_for
from tests import fakes
from tests.builders import DONE, frame

TEXTS = ("The keeper lit the lamp, ", "and the sea — “dark” — ", "went round it 🌊.")
TEXT = "".join(TEXTS)
SHAPE = '{"place":"the tower","lamps":2}'
CALL = '{"place":"the tower"}'
BASE = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "small-1-2026", "system_fingerprint": "fp_1"}
USAGE = {
    "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip
COUNTS = {
    "input_tokens": 11, "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 18,
}  # fmt: skip
# model: (status, more of the reply's head, type and code of the error)
REFUSALS = {
    "refused": ("400 Bad Request", "", "invalid_request_error", "resting"),
    "busy": ("429 Too Many Requests", "Retry-After: 7\r\n", "rate_limit_error", "rate_limit_exceeded"),
    "broken": ("500 Internal Server Error", "", "api_error", "server_error"),
}
THOUGHT = "The lamp comes first."


async def scripted(request: fakes.RawRequest, write: Any) -> None:
    """Answer as `tests.fakes.LoopbackBackend` asks for."""
    path = request.target.partition("?")[0]
    if endpoint_for(request.method, path) is None or path not in WIRES:
        models = {
            "object": "list",
            "data": [{"id": "small-1", "object": "model", "created": 1, "owned_by": "x"}],
        }
        await write(fakes.http_reply(json.dumps(models).encode()))
        return
    asked = json.loads(request.body)
    if asked["model"] in REFUSALS:
        status, more, kind, code = REFUSALS[asked["model"]]
        error = {"message": "this model is resting", "type": kind, "param": "model", "code": code}
        shape = {"type": "error", "error": error} if path.endswith("/messages") else {"error": error}
        await write(fakes.http_reply(json.dumps(shape).encode(), status=status, more=more))
        return
    whole, events = WIRES[path]
    if not asked.get("stream"):
        await write(fakes.http_reply(json.dumps(whole(asked), ensure_ascii=False).encode()))
        return
    await write(fakes.STREAM_HEAD)
    for event in events(asked):
        await write(fakes.http_chunk(event))
    await write(fakes.STREAM_END)


def _pieces(asked: dict[str, Any], index: int = 0) -> tuple[str, ...]:
    said = asked.get("response_format") or asked.get("text") or {}
    if said.get("type") == "json_schema" or said.get("format", {}).get("type") == "json_schema":
        return (SHAPE[:9], SHAPE[9:])
    pieces = (*TEXTS, f" ({index})") if index else TEXTS
    return (*pieces, f" {asked['model']}") if asked["model"].startswith("w_") else pieces


def _called(name: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": CALL}}


def _chat(asked: dict[str, Any]) -> dict[str, Any]:
    tools = asked.get("tools")
    choices = [
        {"index": n, "logprobs": None, "finish_reason": "tool_calls" if tools else "stop", "message": {
            "role": "assistant", "refusal": None, "content": None if tools else "".join(_pieces(asked, n)),
            **({"tool_calls": [_called(tools[0]["function"]["name"])]} if tools else {})}}
        for n in range(asked.get("n") or 1)
    ]  # fmt: skip
    return {**BASE, "object": "chat.completion", "choices": choices, "usage": USAGE}


def _chat_events(asked: dict[str, Any]) -> list[bytes]:
    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return frame({**BASE, "object": "chat.completion.chunk", "choices": [choice]})

    several, tools = range(asked.get("n") or 1), asked.get("tools")
    events = [chunk(n, {"role": "assistant", "content": None if tools else ""}) for n in several]
    if tools:
        call = _called(tools[0]["function"]["name"])
        begun = {"index": 0, **call, "function": {**call["function"], "arguments": ""}}
        events.append(chunk(0, {"tool_calls": [begun]}))
        events += [
            chunk(0, {"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
            for part in (CALL[:5], CALL[5:])
        ]
    else:
        events += [chunk(n, {"content": piece}) for n in several for piece in _pieces(asked, n)]
    events += [chunk(n, {}, "tool_calls" if tools else "stop") for n in several]
    if (asked.get("stream_options") or {}).get("include_usage"):
        events.append(frame({**BASE, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}))
    return [*events, DONE]


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    choices = [
        {"index": n, "text": "".join(_pieces(asked, n)), "finish_reason": "stop", "logprobs": None}
        for n in range(asked.get("n") or 1)
    ]
    return {**BASE, "object": "text_completion", "choices": choices, "usage": USAGE}


def _completion_events(asked: dict[str, Any]) -> list[bytes]:
    def chunk(index: int, text: str, finish: str | None = None) -> bytes:
        choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": None}
        return frame({**BASE, "object": "text_completion", "choices": [choice]})

    several = range(asked.get("n") or 1)
    events = [chunk(n, piece) for n in several for piece in _pieces(asked, n)]
    events += [chunk(n, "", "stop") for n in several]
    if (asked.get("stream_options") or {}).get("include_usage"):
        events.append(frame({**BASE, "object": "text_completion", "choices": [], "usage": USAGE}))
    return [*events, DONE]


def _item(asked: dict[str, Any]) -> dict[str, Any]:
    if asked.get("tools"):
        return {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": asked["tools"][0]["name"],
                "arguments": CALL, "status": "completed"}  # fmt: skip
    part = {"type": "output_text", "text": "".join(_pieces(asked)), "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _response(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": "small-1-2026",
        "output": [_item(asked)], "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto",
        "tools": asked.get("tools") or [], "top_p": 1.0, "text": asked.get("text") or {"format": {"type": "text"}},
        "usage": COUNTS,
    }  # fmt: skip


def _response_events(asked: dict[str, Any]) -> list[bytes]:
    begun = {**_response(asked), "status": "in_progress", "output": [], "usage": None}
    item = _item(asked)
    at = {"item_id": item["id"], "output_index": 0}
    if item["type"] == "function_call":
        middle = [
            ("output_item.added", {"output_index": 0, "item": {**item, "arguments": "", "status": "in_progress"}}),
            ("function_call_arguments.delta", {**at, "delta": CALL[:5]}),
            ("function_call_arguments.delta", {**at, "delta": CALL[5:]}),
            ("function_call_arguments.done", {**at, "name": item["name"], "arguments": CALL}),
        ]  # fmt: skip
    else:
        (part,) = item["content"]
        at["content_index"] = 0
        middle = [
            ("output_item.added", {"output_index": 0, "item": {**item, "content": [], "status": "in_progress"}}),
            ("content_part.added", {**at, "part": {**part, "text": ""}}),
            *(("output_text.delta", {**at, "delta": piece, "logprobs": []}) for piece in _pieces(asked)),
            ("output_text.done", {**at, "text": part["text"], "logprobs": []}),
            ("content_part.done", {**at, "part": part}),
        ]  # fmt: skip
    told = [
        ("created", {"response": begun}), ("in_progress", {"response": begun}), *middle,
        ("output_item.done", {"output_index": 0, "item": item}), ("completed", {"response": _response(asked)}),
    ]  # fmt: skip
    return [_named(f"response.{kind}", sequence_number=n, **more) for n, (kind, more) in enumerate(told)]


def _blocks(asked: dict[str, Any]) -> list[dict[str, Any]]:
    thinking = (asked.get("thinking") or {}).get("type") == "enabled"
    thought = [{"type": "thinking", "thinking": THOUGHT, "signature": "c2lnbmVk"}] if thinking else []
    if tools := asked.get("tools"):
        use = {"type": "tool_use", "id": "toolu_1", "name": tools[0]["name"], "input": json.loads(CALL)}
        return [*thought, use]
    return [*thought, {"type": "text", "text": "".join(_pieces(asked))}]


def _message(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "small-1-2026", "content": _blocks(asked),
        "stop_reason": "tool_use" if asked.get("tools") else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 11, "cache_read_input_tokens": 3, "output_tokens": 7},
    }  # fmt: skip


def _block_events(asked: dict[str, Any], index: int, block: dict[str, Any]) -> list[bytes]:
    if block["type"] == "tool_use":
        empty = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", CALL[:5], CALL[5:])]
    elif block["type"] == "thinking":
        empty = {**block, "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": part} for part in (THOUGHT[:9], THOUGHT[9:])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    else:
        empty = {**block, "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(asked)]
    return [
        _named("content_block_start", index=index, content_block=empty),
        *(_named("content_block_delta", index=index, delta=delta) for delta in deltas),
        _named("content_block_stop", index=index),
    ]


def _message_events(asked: dict[str, Any]) -> list[bytes]:
    whole = _message(asked)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    blocks = [event for n, block in enumerate(whole["content"]) for event in _block_events(asked, n, block)]
    return [
        _named("message_start", message=begun),
        _named("ping"),
        *blocks,
        _named("message_delta", delta={"stop_reason": whole["stop_reason"], "stop_sequence": None},
               usage={"output_tokens": 7}),
        _named("message_stop"),
    ]  # fmt: skip


def _named(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\n".encode() + frame({"type": kind, **more})


WIRES = {
    "/v1/chat/completions": (_chat, _chat_events),
    "/v1/completions": (_completion, _completion_events),
    "/v1/responses": (_response, _response_events),
    "/v1/messages": (_message, _message_events),
}
