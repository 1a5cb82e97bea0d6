"""What peers send wrong, and the shape in which OpenAI's clients expect to hear of it.

The official libraries raise by status and show `error.message`; agents branch on `error.code`. So every
refusal of ours on /v1 has the same four members that OpenAI's have, and its message says the remedy too.
"""

from __future__ import annotations

import msgspec

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}


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


_encode = msgspec.json.Encoder().encode


def error_body(status: int, message: str, *, code: str, param: str | None = None) -> bytes:
    """Return an error as OpenAI writes it: {"error": {"message", "type", "param", "code"}}."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return _encode(_Body(_Error(message, kind, param, code)))
