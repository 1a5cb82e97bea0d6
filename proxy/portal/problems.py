"""One place that turns errors into HTTP replies, as RFC 9457 problems.

A Problem keeps its status, code and remedy; a framework error keeps its status, and one about parameters or
bodies says which of them and why; anything else is our bug: it is logged with its traceback and answered
without one.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as OutOfConnections

from proxy.errors import BadRequest, Problem, Unavailable
from proxy.observability import get_log

if TYPE_CHECKING:
    from litestar import Request

PROBLEM_JSON = "application/problem+json"
FAULTS_MAX, FAULT_CHARACTERS_MAX = 5, 200  # of what a request got wrong; names in it are the caller's own
CLIENT_LEFT = "client disconnected prematurely"  # the framework's words, which it says with status 500
# What the framework refuses, and what to do about it.
REMEDIES = {
    400: "/schema/openapi.json says what this route takes",
    404: "/schema/openapi.json lists the routes",
    405: "the header `allow` names the methods of this route",
    413: "send less",
    500: "try again; the operator's log says more",
    415: "send JSON, with content-type: application/json",
}


def problem_body(problem: Problem) -> dict[str, object]:
    """Return the RFC 9457 members for a Problem; `remedy` is our extension."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.cause,
    }
    if problem.remedy:
        body["remedy"] = problem.remedy
    return body


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer any exception that left a handler."""
    problem = as_problem(request, error)
    headers = {"retry-after": str(problem.retry_after_s)} if problem.retry_after_s else {}
    allowed = error.headers.get("allow") if isinstance(error, HTTPException) and error.headers else None
    if allowed is not None:
        headers["allow"] = allowed
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(problem_body(problem)),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=headers,
    )


def as_problem(request: Request[Any, Any, Any], error: Exception) -> Problem:
    """Return what is to be said of any exception; one that is our bug is logged."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        if error.detail == CLIENT_LEFT:
            return BadRequest("the client left while it was sending", remedy="send the request again")
        status = HTTPStatus(error.status_code)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            get_log().error("request_failed", path=_route(request), exc_info=error)
        why = _faults(error) or error.detail or status.phrase
        return Problem(why, remedy=REMEDIES.get(status, ""), code=status.name.lower(), status=status)
    if isinstance(error, (OperationalError, InterfaceError, OutOfConnections)):
        return Unavailable(
            "the store does not answer", remedy="try again in a moment", code="store_unavailable"
        )
    if isinstance(error, (DataError, OverflowError)):
        return BadRequest(
            "a value of this request can be in no store",
            remedy="send whole numbers of at most 64 bits, and texts without NUL characters",
        )
    get_log().error("request_failed", path=_route(request), exc_info=error)
    return Problem("something broke on our side", remedy="try again; the operator's log says more")


def _route(request: Request[Any, Any, Any]) -> str:
    """Return the route as it was declared: the path that was asked for may hold a sign-in link's secret."""
    return cast("dict[str, str]", request.scope).get("path_template", "unknown")


def _faults(error: HTTPException) -> str:
    """Return what a request got wrong, by name: a body of another type, a field that nobody knows."""
    said = cast("Any", error.extra)
    if not isinstance(said, list):
        return ""
    told: list[str] = []
    for one in cast("list[dict[str, str]]", said)[:FAULTS_MAX]:
        name, why = one.get("key", ""), one.get("message", "")
        shown = f"{name}: {why}" if name and name != "data" else why
        told.append("".join(c if c.isprintable() else "?" for c in shown[:FAULT_CHARACTERS_MAX]))
    return "; ".join(told)
