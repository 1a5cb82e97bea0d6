"""The model's name in a request's bytes, and the list of models that several backends give together.

An alias is another name for a model: only that one value changes on the way up, every other byte stays.
Who may use only some models must not name two: decoders differ in which of two equal members they take, and
some take `Model` for `model`, so a body that could be read as another model is refused and not guessed at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

import msgspec

from proxy.wire import multipart
from proxy.wire.errors import WireError
from proxy.wire.spans import Span, members

_KEY = b"model"


class _Named(msgspec.Struct):
    model: str | None = None


def model_in(body: bytes, content_type: bytes = b"") -> str | None:
    """Return the model that a JSON request or a form names; None when it names none or cannot be read."""
    if multipart.is_form(content_type):
        return multipart.fields(body, content_type).get("model")
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Claims(msgspec.Struct, frozen=True):
    """What a request asks for, as far as limits care. output_tokens: the most for one choice, if it says."""

    model: str | None = None
    output_tokens: int | None = None
    choices: int = 1


class _Claiming(msgspec.Struct):
    model: Any = None
    n: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None


def claims_in(body: bytes, content_type: bytes = b"") -> Claims | None:
    """Return what a request claims, None for what is no JSON object and no form. Raises nothing."""
    if multipart.is_form(content_type):
        return Claims(model_in(body, content_type))
    try:
        said = msgspec.json.decode(body, type=_Claiming)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    limits = (said.max_tokens, said.max_completion_tokens, said.max_output_tokens)
    most = [limit for limit in limits if type(limit) is int and limit >= 0]
    choices = said.n if type(said.n) is int and said.n > 1 else 1
    model = said.model if isinstance(said.model, str) else None
    return Claims(model, max(most) if most else None, choices)


def is_model_list(raw_path: bytes) -> bool:
    """Tell whether a path asks for the list of models, or for one of them."""
    return raw_path == b"/v1/models" or raw_path.startswith(b"/v1/models/")


def renamed(body: bytes, model: str, content_type: bytes = b"") -> bytes:
    """Return the body with its model's name replaced; every other byte as it came.

    Raises WireError when no single place says it (see `the_one_place`).
    """
    if multipart.is_form(content_type):
        return multipart.renamed(body, content_type, model)
    first, last = the_one_place(body)
    return body[:first] + msgspec.json.encode(model) + body[last:]


def the_one_place(body: bytes, content_type: bytes = b"") -> Span:
    """Return the span of the model's value.

    Raises WireError when a decoder could find the name in another place: it is there twice, or in other case.
    """
    if multipart.is_form(content_type):
        return multipart.the_one_place(body, content_type)
    start = body.find(b"{")
    places = [span for key, span in members(body, start) if _may_be_model(key)] if start >= 0 else []
    if len(places) != 1:
        raise WireError(
            "the request names its model in no single place",
            remedy="write the member `model` once, in lower case",
            param="model",
        )
    return places[0]


def _may_be_model(key: bytes) -> bool:
    if b"\\" in key:  # an escaped letter: the decoder knows which
        try:
            return msgspec.json.decode(b'"' + key + b'"', type=str).casefold() == "model"
        except msgspec.DecodeError:
            return False
    return key == _KEY or key.lower() == _KEY


def may_use(model: str, patterns: Sequence[str]) -> bool:
    """Tell whether an allow-list has the model; an empty list has all. * matches any run of characters."""
    return not patterns or any(fnmatchcase(model, pattern) for pattern in patterns)


def merged_list(
    replies: Iterable[tuple[bytes, Sequence[str], Sequence[str]]], *, allowed: Sequence[str] = ()
) -> bytes:
    """Return one list of models out of several replies to GET /v1/models.

    replies: (body, the patterns of models served there, its aliases), in the order of the backends. A name
    that two give is taken from the first. A reply that is no list adds only its aliases. allowed: as for
    `may_use`.
    """
    rows: dict[str, dict[str, Any]] = {}
    for body, served, aliases in replies:
        for row in _rows(body):
            name = row.get("id")
            if isinstance(name, str) and any(fnmatchcase(name, pattern) for pattern in served):
                rows.setdefault(name, row)
        for alias in aliases:
            rows.setdefault(alias, {"id": alias, "object": "model", "created": 0, "owned_by": "alias"})
    data = [row for name, row in rows.items() if may_use(name, allowed)]
    return msgspec.json.encode({"object": "list", "data": data})


def _rows(body: bytes) -> list[dict[str, Any]]:
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    data: Any = cast("dict[str, Any]", reply).get("data") if isinstance(reply, dict) else None
    rows = cast("list[Any]", data) if isinstance(data, list) else []
    return [cast("dict[str, Any]", row) for row in rows if isinstance(row, dict)]
