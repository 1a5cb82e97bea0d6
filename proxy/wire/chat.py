"""Chat completions: what is asked, what is said, and how to ask for usage without touching the rest.

Attributed is what a person reads: `message.content`, as a string or as text parts. Refusals, tool calls,
reasoning, logprobs and audio are passed on and neither attributed nor changed. Reading is tolerant, because
backends differ (`usage` with missing parts, `content` as parts, floats for integers): what cannot be read
says nothing, and still goes by as it came.
"""

from __future__ import annotations

import msgspec

from proxy.wire.endpoint import Asked
from proxy.wire.errors import WireError
from proxy.wire.output import NOTHING, Said, TextDelta, TokenCounts
from proxy.wire.spans import member_of

CHOICES_MAX = 128  # OpenAI's own limit for n


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Request(msgspec.Struct, frozen=True):
    model: str
    stream: bool | None = None
    n: int | None = None
    stream_options: _StreamOptions | None = None
    messages: msgspec.Raw = msgspec.Raw(b"[]")


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None


class _Part(msgspec.Struct, frozen=True):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | list[_Part] | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Reply(msgspec.Struct, frozen=True):
    """A whole reply and a chunk alike: one has `message`, the other `delta`."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None


class _UsageOnly(msgspec.Struct, frozen=True):
    usage: _Usage | None = None


_request = msgspec.json.Decoder(_Request)
_reply = msgspec.json.Decoder(_Reply)
_spoken = msgspec.json.Decoder(list[_Message])
_usage = msgspec.json.Decoder(_UsageOnly)


class ChatCompletions:
    """POST /v1/chat/completions."""

    name = "chat.completions"

    def read_request(self, body: bytes) -> Asked:
        """Return what is asked for; only the members the relay needs are looked at."""
        try:
            request = _request.decode(body)
        except msgspec.ValidationError as error:
            message, _, place = str(error).partition(" - at `$.")
            param = place.rstrip("`") or None
            raise WireError(
                f"the request body cannot be read: {message}" + (f" at '{param}'" if param else ""),
                remedy="send a chat completions request as a JSON object",
                param=param,
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WireError(
                f"the request body is not JSON: {error}",
                remedy="send one JSON object in UTF-8",
                code="invalid_json",
            ) from error
        choices = 1 if request.n is None else request.n
        if not 1 <= choices <= CHOICES_MAX:
            raise WireError(f"'n' is {choices}", remedy=f"ask for 1 to {CHOICES_MAX} choices", param="n")
        options = request.stream_options
        return Asked(
            model=request.model,
            is_streaming=bool(request.stream),
            choices=choices,
            wants_usage=bool(options and options.include_usage),
            prompt=request.messages,
        )

    def read_reply(self, body: bytes) -> Said | None:
        """Return what a whole reply says; None when it is no JSON object at all."""
        try:
            return _said(_reply.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _usage_alone(body)

    def read_chunk(self, data: bytes) -> Said:
        """Return what one chunk says."""
        try:
            return _said(_reply.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _usage_alone(data) or NOTHING

    def asking_for_usage(self, body: bytes) -> bytes:
        """Return the body with `stream_options.include_usage` true; every other byte as it came.

        Without `stream_options` it is put in first. With it, only that member changes: a missing
        `include_usage` is added inside, a false one becomes true, null becomes an object. A body too wide to
        walk stays as it is: usage is then estimated.
        """
        try:
            return self._asking_for_usage(body)
        except WireError:
            return body

    def _asking_for_usage(self, body: bytes) -> bytes:
        start = body.index(b"{")
        options = member_of(body, start, b"stream_options") if b'"stream_options"' in body else None
        if options is None:
            return body[: start + 1] + b'"stream_options":{"include_usage":true},' + body[start + 1 :]
        first, last = options
        if body[first:last] == b"null":
            return body[:first] + b'{"include_usage":true}' + body[last:]
        flag = member_of(body, first, b"include_usage")
        if flag is not None:
            return body[: flag[0]] + b"true" + body[flag[1] :]
        comma = b"" if body[first + 1 : last - 1].strip() == b"" else b","
        return body[: first + 1] + b'"include_usage":true' + comma + body[first + 1 :]

    def prompt_text(self, asked: Asked) -> str:
        """Return the messages' text, one message a line; images and tools count nothing in an estimate."""
        try:
            messages = _spoken.decode(asked.prompt)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
        return "\n".join(_plain(message.content) for message in messages if message.content)


def _plain(content: str | list[_Part] | None) -> str:
    """Return the text of a message's content, given as a string or as parts."""
    if isinstance(content, list):
        return "".join(part.text or "" for part in content if part.type in {"text", "output_text"})
    return content or ""


def _said(reply: _Reply) -> Said:
    texts: list[TextDelta] = []
    finished: list[int] = []
    for choice in reply.choices or ():
        message = choice.delta or choice.message
        if message is not None and message.content:
            text = _plain(message.content)
            if text:
                texts.append(TextDelta(choice.index, text))
        if choice.finish_reason is not None:
            finished.append(choice.index)
    return Said(
        tuple(texts),
        tuple(finished),
        _counts(reply.usage),
        reply.usage is not None and not reply.choices,
        reply.model or "",
    )


def _counts(usage: _Usage | None) -> TokenCounts | None:
    if usage is None:
        return None
    return TokenCounts(_natural(usage.prompt_tokens), _natural(usage.completion_tokens))


def _natural(number: float | None) -> int | None:
    if number is None or not 0 <= number < 2**53 or number != int(number):
        return None  # a backend that reports nonsense has reported nothing
    return int(number)


def _usage_alone(data: bytes) -> Said | None:
    try:
        return Said(counts=_counts(_usage.decode(data).usage))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
