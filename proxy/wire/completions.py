"""Legacy completions: one text for each prompt and each `n`, without messages.

A request may carry a list of prompts, as texts or as tokens; the answer then has n choices for each of them,
numbered through. What a person reads is `text`. With `echo` it begins with the prompt, and that is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from proxy.wire.cutting import ChoicesCutter, Cutter, cut_completions
from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.errors import WireError
from proxy.wire.output import NOTHING, Said, TextDelta, TokenCounts
from proxy.wire.reading import Count, asking_for_usage, counts_of, decoded, tolerated

CHOICES_MAX = 2_048  # n at most 128, and backends take a few dozen prompts; each choice costs us a text


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Request(msgspec.Struct, frozen=True):
    model: str | None = None
    prompt: msgspec.Raw = msgspec.Raw(b"null")
    stream: bool | None = None
    n: int | None = None
    stream_options: _StreamOptions | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Count = None
    completion_tokens: Count = None


class _Choice(msgspec.Struct, frozen=True):
    index: int | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Told(msgspec.Struct, frozen=True):
    """A whole reply and a chunk alike, without their usage."""

    choices: list[_Choice] | None = None
    model: str | None = None


class _Reply(_Told, frozen=True):
    usage: _Usage | None = None


class _BareChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: int | None = 0
    text: Literal[""] | None = None
    finish_reason: Literal[""] | None = None
    logprobs: None = None


class _Bare(msgspec.Struct, frozen=True):
    """A chunk whose choices say nothing at all. No other can be decoded as this."""

    choices: list[_BareChoice]


class _UsageOnly(msgspec.Struct, frozen=True):
    usage: _Usage | None = None


_request = msgspec.json.Decoder(_Request)
_reply = msgspec.json.Decoder(_Reply)
_told = msgspec.json.Decoder(_Told)
_bare = msgspec.json.Decoder(_Bare)
_usage = msgspec.json.Decoder(_UsageOnly)
_prompts = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_texts = msgspec.json.Decoder(list[str])


class Completions(Endpoint):
    """POST /v1/completions."""

    name = "completions"

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:  # noqa: ARG002  always JSON
        """Return what is asked for; `choices` counts n for every prompt."""
        request = decoded(_request, body, "a completions request")
        each = 1 if request.n is None else request.n
        choices = each * _prompts_in(request.prompt)
        if not 1 <= choices <= CHOICES_MAX:
            raise WireError(
                f"'n' times the prompts is {choices}",
                remedy=f"ask for 1 to {CHOICES_MAX} choices in all",
                param="n",
            )
        options = request.stream_options
        return Asked(
            model=request.model or "",
            is_streaming=bool(request.stream),
            choices=choices,
            wants_usage=bool(options and options.include_usage),
            prompt=request.prompt,
        )

    def read_reply(self, body: bytes) -> Said | None:
        """Return what a whole reply says; None when it is no JSON object at all."""
        reply = tolerated(_reply, body)
        return _what_can_be_read(body) if reply is None else _said(reply, reply.usage)

    def read_chunk(self, data: bytes) -> Said:
        """Return what one chunk says."""
        said = self.read_reply(data) or NOTHING
        if said.counts is None or said.usage_only or said.texts or said.finished:
            return said
        # Some gateways give the chunk that carries usage a choice that says nothing, where OpenAI has none.
        return msgspec.structs.replace(said, usage_only=tolerated(_bare, data) is not None)

    def asking_for_usage(self, body: bytes) -> bytes:
        """Return the body with `stream_options.include_usage` true (see `reading.asking_for_usage`)."""
        return asking_for_usage(body)

    def cut_reply(self, body: bytes, ends: Mapping[int, int]) -> bytes:
        """Return a whole reply, each choice's text ended at these code points, and saying so."""
        return cut_completions(body, ends)

    def cutter(self) -> Cutter:
        """Return what ends a stream in the backend's place."""
        return ChoicesCutter({"text": ""})

    def prompt_text(self, asked: Asked) -> str:
        """Return the prompts, one a line; prompts given as tokens count nothing in an estimate."""
        texts = tolerated(_texts, asked.prompt)
        return tolerated(_text, asked.prompt) or "" if texts is None else "\n".join(texts)


def _prompts_in(prompt: msgspec.Raw) -> int:
    """Return how many prompts there are: a list of texts or of token lists has several, tokens are one."""
    listed = tolerated(_prompts, prompt)
    if not listed:
        return 1
    return len(listed) if bytes(listed[0])[:1] in {b'"', b"["} else 1


def _said(reply: _Told, usage: _Usage | None) -> Said:
    choices = [
        (place if choice.index is None else choice.index, choice)
        for place, choice in enumerate(reply.choices or ())
    ]
    return Said(
        tuple(TextDelta(index, choice.text) for index, choice in choices if choice.text),
        tuple(index for index, choice in choices if choice.finish_reason),  # some say "" until there is one
        _counts(usage),
        usage is not None and not choices,
        reply.model or "",
    )


def _counts(usage: _Usage | None) -> TokenCounts | None:
    return None if usage is None else counts_of(usage.prompt_tokens, usage.completion_tokens)


def _what_can_be_read(data: bytes) -> Said | None:
    """Return what is said where choices or usage cannot be read; None when it is no JSON object at all."""
    told = tolerated(_told, data)
    if told is not None:
        return _said(told, None)
    found = tolerated(_usage, data)
    return None if found is None else Said(counts=_counts(found.usage))
