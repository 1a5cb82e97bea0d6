"""What can go wrong, said once: the cause, and what to do about it.

Every refusal that a person or a program meets is a Problem. It carries its HTTP status and a stable code, so
that one place (app.py) turns it into an RFC 9457 problem, the relay turns it into the shape of the endpoint
called, and the command line prints it and exits 1. Nothing else maps errors.
"""

from __future__ import annotations


class Problem(Exception):
    """A refusal with its cause and its remedy.

    `code` is stable and snake_case: scripts match on it, texts may change.
    """

    status: int = 500
    code: str = "internal"
    retry_after_s: int = 0  # told to HTTP clients when not 0

    def __init__(self, cause: str, *, remedy: str = "", code: str = "", status: int = 0) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy
        if code:
            self.code = code
        if status:
            self.status = status

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}" if self.remedy else self.cause


class SettingsError(Problem):
    """The configuration cannot be used as written."""

    status, code = 500, "settings"


class BadRequest(Problem):
    """The caller sent something that cannot be served."""

    status, code = 400, "bad_request"


class Unauthenticated(Problem):
    """No key, or one we do not know."""

    status, code = 401, "invalid_api_key"


class Forbidden(Problem):
    """A known key that may not do this."""

    status, code = 403, "forbidden"


class NotFound(Problem):
    """No such thing, or none this caller may see: the two are never told apart."""

    status, code = 404, "not_found"


class Conflict(Problem):
    """The request contradicts what is already recorded."""

    status, code = 409, "conflict"


class TooLarge(Problem):
    """A body or file over its limit."""

    status, code = 413, "too_large"


class TooOften(Problem):
    """The same caller asks more often than we answer. wait_s: seconds until the next is answered."""

    status, code = 429, "too_often"

    def __init__(self, cause: str, *, wait_s: int = 1, code: str = "") -> None:
        super().__init__(cause, remedy=f"try again in {wait_s} seconds", code=code)
        self.retry_after_s = wait_s


class Unavailable(Problem):
    """A part we need is away (store, journal, index); trying later is right."""

    status, code = 503, "unavailable"
    retry_after_s = 5
