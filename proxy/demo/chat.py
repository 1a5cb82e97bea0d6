"""The chat wire as the demonstration backend speaks it: a request in, a JSON reply or a list of chunks out.

Pure: no socket and no clock, so that the shapes can be tested with plain values. Usage follows one rule:
a token is four bytes of UTF-8, a rest counts as one. Tools are accepted and ignored unless `tool_choice`
demands a call; `stop`, sampling settings and images are accepted and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from proxy.demo.answers import Repertoire, compose

MODEL = "demo-credits-1"
FINGERPRINT = "demonstration-backend"
CHOICES_MAX = 8  # OpenAI's own bound is 128; nobody watches more than a few
TOKEN_BYTES = 4

_PIECES = re.compile(r"\s*\S+|\s+\Z")


class Part(msgspec.Struct, frozen=True):
    """One part of a message's content; only text is read."""

    text: str = ""


class Message(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """What was written in it, parts joined."""
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct, frozen=True):
    """`stream_options`."""

    include_usage: bool = False


class Function(msgspec.Struct, frozen=True):
    """The function of a tool, or of a tool choice."""

    name: str = ""


class Tool(msgspec.Struct, frozen=True):
    """A tool offered or demanded."""

    function: Function = Function()


class ChatRequest(msgspec.Struct, frozen=True):
    """The fields of a chat request that change what is said; all others are accepted and ignored."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    model: str = MODEL
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Tool | None = None

    @property
    def question(self) -> str:
        """The last thing the user said; it alone chooses the answer."""
        asked = [message.text for message in self.messages if message.role == "user"]
        return asked[-1] if asked else self.messages[-1].text

    @property
    def tool_demanded(self) -> str | None:
        """The function that has to be called, None when text is wanted."""
        if isinstance(self.tool_choice, Tool):
            return self.tool_choice.function.name
        return self.tools[0].function.name if self.tool_choice == "required" and self.tools else None


class Choice(msgspec.Struct, frozen=True):
    """One finished choice, before it takes a wire shape."""

    text: str
    tool: str | None
    finish_reason: str


class Refusal(Exception):
    """A request this backend does not serve, in OpenAI's words."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def count_tokens(text: str) -> int:
    """Return the stated rule's count: bytes of UTF-8 divided by four, rounded up; nothing is nothing."""
    return -(-len(text.encode()) // TOKEN_BYTES)


def decode_request(body: bytes) -> ChatRequest:
    """Return the request. Raises Refusal (400, 404) for one that cannot be answered."""
    try:
        request = msgspec.json.decode(body, type=ChatRequest)
    except msgspec.DecodeError as error:
        raise Refusal(400, str(error), "invalid_request") from error
    if request.model != MODEL:
        raise Refusal(404, f"The model '{request.model}' does not exist; this is {MODEL}", "model_not_found")
    return request


def choices_for(request: ChatRequest, repertoire: Repertoire) -> tuple[Choice, ...]:
    """Return what each choice says, deterministic in the request."""
    tool = request.tool_demanded
    if tool is not None:
        return (Choice("", tool, "tool_calls"),) * (request.n or 1)
    limit_tokens = request.max_completion_tokens or request.max_tokens
    return tuple(
        _within(compose(repertoire, request.question, variant).text, limit_tokens)
        for variant in range(request.n or 1)
    )


def _within(text: str, limit_tokens: int | None) -> Choice:
    if limit_tokens is None or count_tokens(text) <= limit_tokens:
        return Choice(text, None, "stop")
    return Choice(text.encode()[: limit_tokens * TOKEN_BYTES].decode(errors="ignore"), None, "length")


def completion(
    request: ChatRequest, choices: tuple[Choice, ...], reply_id: str, created_s: int
) -> dict[str, Any]:
    """Return the JSON reply's object."""
    return {
        **_head(reply_id, created_s, "chat.completion"),
        "choices": [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ],
        "usage": _usage(request, choices),
    }


def chunks(
    request: ChatRequest, choices: tuple[Choice, ...], reply_id: str, created_s: int
) -> Iterator[dict[str, Any]]:
    """Yield the stream's objects in order: per choice role, text by words, finish; then usage if asked for.

    Choices take turns word by word, as those of a real server do.
    """
    wants_usage = request.stream_options is not None and request.stream_options.include_usage
    head = {**_head(reply_id, created_s, "chat.completion.chunk"), **({"usage": None} if wants_usage else {})}

    def chunk(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return {
            **head,
            "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
        }

    for index in range(len(choices)):
        yield chunk(index, {"role": "assistant", "content": ""})
    pieces = [_PIECES.findall(choice.text) for choice in choices]
    for place in range(max(map(len, pieces), default=0)):
        for index, words in enumerate(pieces):
            if place < len(words):
                yield chunk(index, {"content": words[place]})
    for index, choice in enumerate(choices):
        if choice.tool is not None:
            yield chunk(index, {"tool_calls": [{"index": 0, **_tool_call(choice.tool)}]})
        yield chunk(index, {}, choice.finish_reason)
    if wants_usage:
        yield {**head, "choices": [], "usage": _usage(request, choices)}


def _head(reply_id: str, created_s: int, kind: str) -> dict[str, Any]:
    return {
        "id": reply_id,
        "object": kind,
        "created": created_s,
        "model": MODEL,
        "system_fingerprint": FINGERPRINT,
    }


def _message(choice: Choice) -> dict[str, Any]:
    if choice.tool is None:
        return {"role": "assistant", "content": choice.text, "refusal": None}
    return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [_tool_call(choice.tool)]}


def _tool_call(name: str) -> dict[str, Any]:
    return {"id": "call_demo", "type": "function", "function": {"name": name, "arguments": "{}"}}


def _usage(request: ChatRequest, choices: tuple[Choice, ...]) -> dict[str, int]:
    prompt_tokens = sum(count_tokens(message.text) for message in request.messages)
    completion_tokens = sum(count_tokens(choice.text or choice.tool or "") for choice in choices)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
