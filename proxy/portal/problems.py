"""One place that turns errors into HTTP replies, as RFC 9457 problems.

A Problem keeps its status, code and remedy; a framework error keeps its status and says no more than its
phrase; anything else is our bug: it is logged with its traceback and answered without one.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as OutOfConnections

from proxy.errors import Problem, Unavailable
from proxy.observability import get_log

if TYPE_CHECKING:
    from litestar import Request

PROBLEM_JSON = "application/problem+json"


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
    headers = {"retry-after": "1"} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
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
        status = HTTPStatus(error.status_code)
        return Problem(error.detail or status.phrase, code=status.name.lower(), status=status)
    if isinstance(error, (OperationalError, InterfaceError, OutOfConnections)):
        return Unavailable(
            "the store does not answer", remedy="try again in a moment", code="store_unavailable"
        )
    get_log().error("request_failed", path=request.url.path, exc_info=error)
    return Problem("something broke on our side", remedy="try again; the operator's log says more")
