"""What peers send wrong, and the shape in which OpenAI's or Anthropic's clients expect to hear of it.

The official libraries raise by status and show `error.message`; agents branch on `error.code`. So every
refusal of ours on /v1 has the same four members that OpenAI's have, and its message says the remedy too.
"""

from __future__ import annotations

from typing import Literal

import msgspec

_TYPES_OF_CODES = {"insufficient_quota": "insufficient_quota"}
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
Shape = Literal["openai", "anthropic"]


class WireError(Exception):
    """A peer sent something that breaks the protocol.

    `param` names the field or header at fault when there is one; `code` is stable, texts may change.
    """

    def __init__(
        self,
        cause: str,
        *,
        remedy: str = "",
        code: str = "invalid_request",
        param: str | None = None,
        status: int = 400,
    ) -> None:
        super().__init__(f"{cause}; {remedy}" if remedy else cause)
        self.cause = cause
        self.remedy = remedy
        self.code = code
        self.param = param
        self.status = status


class _Error(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str


class _Body(msgspec.Struct, frozen=True):
    error: _Error


class _AnthropicBody(msgspec.Struct, frozen=True):
    error: _Error
    type: str = "error"


_encode = msgspec.json.Encoder().encode


def error_shape(path: str) -> Shape:
    """Return whose clients call this path; it is the raw path with its /v1."""
    is_messages = path == "/v1/messages" or path.startswith("/v1/messages/")
    return "anthropic" if is_messages else "openai"


def error_body(
    status: int, message: str, *, code: str, param: str | None = None, shape: Shape = "openai"
) -> bytes:
    """Return an error as the clients of that shape read it.

    OpenAI's: {"error": {"message", "type", "param", "code"}}. Anthropic's: {"type": "error", "error": ...}
    with its own names of types; `param` and `code` are there too, where its clients pass over them.
    """
    if shape == "anthropic":
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return _encode(_AnthropicBody(_Error(message, kind, param, code)))
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    kind = _TYPES_OF_CODES.get(code, kind)
    return _encode(_Body(_Error(message, kind, param, code)))
