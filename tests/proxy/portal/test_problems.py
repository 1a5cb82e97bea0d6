from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import structlog
from litestar import Request
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from sqlalchemy.exc import DataError, OperationalError

from proxy.errors import Conflict, Unauthenticated, Unavailable
from proxy.portal.problems import answer_problem, problem_body

REQUEST = SimpleNamespace(
    url=SimpleNamespace(path="/portal/enter/a-secret"), scope={"path_template": "/portal/enter/{secret}"}
)


@pytest.mark.anyio
async def test_a_client_that_leaves_while_it_sends_is_no_fault_of_ours():
    async def gone():
        return {"type": "http.disconnect"}

    route = SimpleNamespace(resolve_request_max_body_size=lambda: None)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [],
        "route_handler": route,
        "state": {},
    }
    with pytest.raises(HTTPException) as caught:
        await Request(scope, receive=gone).body()
    with structlog.testing.capture_logs() as logs:
        assert answer_problem(REQUEST, caught.value).status_code == 400
    assert logs == []


def test_a_problem_keeps_its_status_code_cause_and_remedy():
    body = problem_body(Conflict("taken already", remedy="choose another", code="ref_taken"))
    assert body == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "code": "ref_taken",
        "detail": "taken already",
        "remedy": "choose another",
    }


def test_a_framework_error_keeps_its_status():
    answer = answer_problem(REQUEST, NotFoundException())
    assert answer.status_code == 404
    assert json.loads(answer.content)["code"] == "not_found"


def test_a_store_that_is_away_is_unavailable_and_says_when_to_come_back():
    answer = answer_problem(REQUEST, OperationalError("SELECT secret", {}, Exception("host db.internal")))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert b"secret" not in answer.content
    assert b"db.internal" not in answer.content


def test_our_own_bug_is_answered_without_its_details():
    answer = answer_problem(REQUEST, ZeroDivisionError("the secret ratio"))
    assert answer.status_code == 500
    assert b"ratio" not in answer.content


def test_a_log_line_of_our_bug_names_the_route_and_not_what_was_asked_for():
    with structlog.testing.capture_logs() as logs:
        answer_problem(REQUEST, ZeroDivisionError("the secret ratio"))
    assert [(line["event"], line["path"]) for line in logs] == [("request_failed", "/portal/enter/{secret}")]


def test_a_missing_key_says_how_to_send_one():
    assert answer_problem(REQUEST, Unauthenticated("no key")).headers["www-authenticate"] == "Bearer"
    assert answer_problem(REQUEST, Unavailable("later")).headers["retry-after"] == "5"


def test_what_a_request_got_wrong_is_named_with_a_remedy():
    wrong = [{"key": "limit", "message": "Expected `int` >= 1"}, {"message": "Unknown field `zz\x1b`"}]
    told = json.loads(answer_problem(REQUEST, ValidationException(extra=wrong)).content)
    assert told["detail"] == "limit: Expected `int` >= 1; Unknown field `zz?`"
    assert told["remedy"]


def test_a_request_that_got_everything_wrong_is_answered_shortly():
    wrong = [{"message": "a" * 10_000}] * 1_000
    assert len(answer_problem(REQUEST, ValidationException(extra=wrong)).content) < 2_000


@pytest.mark.parametrize("error", [OverflowError("int too large"), DataError("INSERT", {}, Exception("NUL"))])
def test_a_value_that_is_in_no_store_is_the_callers_mistake(error):
    assert answer_problem(REQUEST, error).status_code == 400


def test_a_wrong_method_is_told_the_right_ones():
    error = MethodNotAllowedException(headers={"allow": "GET"})
    assert answer_problem(REQUEST, error).headers["allow"] == "GET"
