from __future__ import annotations

import json
import re

import pytest

from proxy.portal.described import PUBLIC, described
from tests.live import live, settings_in

pytestmark = pytest.mark.anyio
JSON = "application/json"


def route(method="get", status="200"):
    return {method: {"responses": {status: {"content": {JSON: {"schema": {"type": "string"}}}}}}}


def test_every_refusal_under_api_is_a_problem_and_wants_a_key():
    told = described({"paths": {"/api/usage": route(), "/log/checkpoint": route()}})
    refused = told["paths"]["/api/usage"]["get"]["responses"]["403"]["content"]
    assert refused == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert told["paths"]["/api/usage"]["get"]["security"]
    assert "security" not in told["paths"]["/log/checkpoint"]["get"]


def test_what_the_framework_made_is_not_changed():
    made = {"paths": {"/api/usage": route()}}
    before = json.dumps(made)
    described(made)
    assert json.dumps(made) == before


def test_bodies_take_no_field_that_they_do_not_name():
    told = described({"paths": {}, "components": {"schemas": {"PolicyIn": {"type": "object"}, "Found": {}}}})
    assert told["components"]["schemas"]["PolicyIn"]["additionalProperties"] is False
    assert "additionalProperties" not in told["components"]["schemas"]["Found"]


async def test_no_route_of_ours_says_that_a_document_is_a_json_string(tmp_path):
    async with live(settings_in(tmp_path)) as app:
        for name in ("openapi.json", "openapi.yaml"):
            assert (await app.client.get(f"/schema/{name}")).status_code == 200
        told = (await app.client.get("/schema/openapi.json")).json()
        for path, methods in told["paths"].items():
            for operation in methods.values():
                assert " " in operation["summary"], f"{path}: {operation['summary']} is only a name"
                well = [made for code, made in operation["responses"].items() if code.startswith("2")]
                kinds = [made.get("content", {}).get(JSON, {}).get("schema", {}) for made in well]
                assert all(kind.get("type") != "string" for kind in kinds), path
                assert bool(operation.get("security")) == (path.startswith("/api/") and path not in PUBLIC), (
                    path
                )
            if path.startswith("/api/") and path not in PUBLIC and "get" in methods:
                asked = re.sub(r"{\w+}", "1", path)  # a number is a name too
                assert (await app.client.get(asked)).status_code == 401, path
