"""Everything under /api asked as its own schema says, and against what it says, by everybody there is.

The store is a year of books, and ids in paths and bodies are often real ones, so that requests get somewhere.
Bounded and the same in every run: some thirteen hundred requests.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from proxy.access.store import create_key
from proxy.clock import RandomIds, SystemClock
from proxy.database import open_engine
from tests.kept_books import written
from tests.processes import serving

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(600)]
EXAMPLES = 8  # of each route, each of requests that fit the schema and of such that do not
ROLES = ("app", "creator", "operator", "second operator")
PERIOD = "2026-11"
# These books were written with other secrets than the server's, which says so.
OTHER_BOOKS = {"log_contradicted", "payees_key"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A served year of books: (client, header of each role, real values by the name they have in requests)."""
    data = tmp_path_factory.mktemp("fuzzed") / "data"
    data.mkdir()
    url = f"sqlite:///{data / 'endcredits.db'}"
    written(url)
    engine = open_engine(url)

    def header(role, **who):
        made = create_key(engine, role, clock=SystemClock(), ids=RandomIds(), **who)
        return {"authorization": f"Bearer {made.secret}"}

    headers = dict(
        zip(
            ROLES,
            (
                header("app", name="app_0"),
                header("creator", creator="c_0"),
                header("operator", name="Ines"),
                header("operator", name="Omar"),
            ),
            strict=True,
        )
    )
    engine.dispose()
    with serving(data) as base, httpx.Client(base_url=base, timeout=60, trust_env=False) as client:

        def ids(path):
            found = client.get(f"/api/{path}", headers=headers["operator"]).json()["items"]
            return [one["id"] for one in found][:10]

        statements = ids("statements")
        forms = (".json", ".csv", ".tsv", ".html", "")
        known = {
            "event_id": ids("usage"), "statement": statements, "batch": ids("payouts/batches"),
            "case": ids("disputes"), "adjustment": ids("adjustments"), "policy": ids("policies"),
            "revenue": ids("pools"), "who": ["c_0", "c_1", "me"], "creator": ["c_0", "me"], "app": ["app_0", "me"],
            "name": [f"{one}{form}" for one in statements[:2] for form in forms] + [f"{PERIOD}.csv"],
            "work": ["w_0", "w_1"], "period": [PERIOD, "2026-12"],
        }  # fmt: skip
        yield client, headers, known


def told(response):
    """The problem that a refusal is; fails when it is none."""
    assert response.headers["content-type"] == ["application/problem+json"]
    problem = json.loads(response.content)
    assert problem["status"] == response.status_code
    assert problem["code"]
    assert problem["detail"]
    return problem


def shortened(error):
    causes = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
    return "; ".join(f"{type(one).__name__}: {str(one)[:400]}" for one in causes)


class Asking:
    """Asks one route after the other, as anybody, and notes what was wrong."""

    def __init__(self, api, held_to, bodies):
        self.client, self.headers, self.known = api
        self.held_to, self.bodies = held_to, bodies
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []

    def exercise(self, operation, mode, *, real):
        """real: put real values into half of the requests."""

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=operation.as_strategy(generation_mode=mode),
            role=st.sampled_from(ROLES),
            pick=st.integers(0, 99),
        )
        def run(case, role, pick):
            if real and pick % 3:
                self.fill(case, pick)
            self.ask(case, self.headers[role])

        try:
            with suppress(Unsatisfiable):  # nothing about this route can be wrong
                run()
        except (AssertionError, BaseExceptionGroup) as error:  # a group of failures is no Exception
            self.wrong.append(f"{operation.method} {operation.path}, {mode}: {shortened(error)}")

    def fill(self, case, pick):
        for values in (case.path_parameters, case.body):
            for name in self.known.keys() & (values if isinstance(values, dict) else {}):
                if self.known[name]:
                    values[name] = self.known[name][pick % len(self.known[name])]

    def ask(self, case, header):
        response = case.call(headers=header, timeout=60)
        self.statuses[response.status_code] += 1
        if response.status_code >= 400:
            problem = told(response)
            assert problem.get("remedy"), problem
            if problem["code"] in OTHER_BOOKS:
                return
            assert response.status_code < 500, problem
        # A query's parameter that nobody knows is passed over, as is usual; a body's field is refused.
        case.validate_response(
            response, checks=self.held_to, additional_checks=self.bodies if case.operation.body else None
        )
        if case.operation.method == "post" and response.status_code < 300:
            again = case.call(headers=header, timeout=60)
            assert again.status_code < 300, again.content
            if "json" in response.headers["content-type"][0] and response.json().get("kept", True):
                assert again.json().get("id") == response.json().get("id")


def test_every_answer_is_one_that_the_schema_names(api):
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    asking = Asking(
        api,
        [
            not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
        ],
        bodies=[checks.negative_data_rejection],
    )
    schema = schemathesis.openapi.from_url(f"{asking.client.base_url}/schema/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.startswith("/api/"):
            asking.exercise(operation, GenerationMode.POSITIVE, real=True)
            asking.exercise(operation, GenerationMode.NEGATIVE, real=False)
    print(dict(asking.statuses))
    assert not asking.wrong, "\n\n".join(asking.wrong)
    assert asking.statuses[200] > 100
