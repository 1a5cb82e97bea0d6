"""What `/schema` says of our routes beyond what their signatures tell.

A handler's types describe what it takes and what it gives when all goes well. Who may ask, how everything is
refused, which status means "not yet" and what a document is made of stand here, so that a client made from
the schema knows the errors it will meet and a test can hold every answer to it.
"""

from __future__ import annotations

import copy
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin

from proxy.portal.problems import PROBLEM_JSON

if TYPE_CHECKING:
    from litestar import Request

Schema = dict[str, Any]

# How anything under /api may be refused. 404 is also what a caller may not see, 503 a store that is away.
REFUSALS = (400, 401, 403, 404, 409, 413, 503)
ELSEWHERE = (400, 404, 503)  # the same of what needs no key
PROBLEM: Schema = {
    "type": "object",
    "description": "What is wrong and what to do about it (RFC 9457); scripts match on `code`.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
    },
}
BEARER: Schema = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key: ec_app_, ec_creator_ or ec_operator_.",
}
# What also means that all went well: what was there already, or is yet to come.
ALSO = {
    ("/api/receipts", "get"): 202,
    ("/api/receipts/{event_id}", "get"): 202,
    ("/api/receipts/{event_id}/proof", "get"): 202,
    ("/api/policies", "post"): 200,
    ("/api/common/distributions", "post"): 200,
    ("/api/payouts/batches", "post"): 200,
    ("/api/statements/{statement}/comments", "post"): 200,
    ("/api/disputes", "post"): 200,
    ("/api/adjustments", "post"): 200,
}
GONE = (
    "/api/receipts",
    "/api/receipts/{event_id}",
    "/api/receipts/{event_id}/proof",
)  # answers that left the store
PUBLIC = ("/api/transparency", "/api/periods/{label}/manifest")  # what needs no key
# Of what a document is made: their handlers give bytes.
DOCUMENTS = {
    "/api/statements/{name}": (
        "application/json",
        "text/csv",
        "text/tab-separated-values",
        "text/html",
        "application/pdf",
    ),
    "/api/apps/{app}/invoices/{name}": ("text/csv",),
    "/api/apps/{app}/usage/{name}": ("text/csv",),
    "/api/payouts/batches/{batch}/export": ("application/xml", "text/csv"),
    "/api/transparency": ("application/json",),
    "/api/creators/{who}/export": ("application/zip",),
    "/log/tile/{path}": ("application/octet-stream",),
}


class DescribedJson(JsonRenderPlugin):
    """The schema as JSON."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Schema) -> bytes:
        return super().render(request, described(openapi_schema))  # pyright: ignore[reportUnknownMemberType]


class DescribedYaml(YamlRenderPlugin):
    """The schema as YAML."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Schema) -> bytes:
        return super().render(request, described(openapi_schema))  # pyright: ignore[reportUnknownMemberType]


def described(schema: Schema) -> Schema:
    """Return the schema that the framework made, completed."""
    whole = copy.deepcopy(schema)
    parts = whole.setdefault("components", {})
    parts.setdefault("schemas", {})["Problem"] = PROBLEM
    parts.setdefault("securitySchemes", {})["key"] = BEARER
    for name, part in parts["schemas"].items():
        if name.endswith("In"):  # what a body may be; every one of ours forbids fields that it does not know
            part["additionalProperties"] = False
    for path, methods in cast("dict[str, Schema]", whole["paths"]).items():
        for method, operation in cast("dict[str, Schema]", methods).items():
            _complete(path, method, operation)
    return whole


def _complete(path: str, method: str, operation: Schema) -> None:
    # The framework makes a summary of a function's name; what its docstring begins with says more.
    said, _, more = cast("str", operation.pop("description", "")).partition("\n")
    if said:
        operation["summary"] = said.rstrip(".")
    if more.strip():
        operation["description"] = more.strip()
    ours = path.startswith("/api/") and path not in PUBLIC
    responses = cast("Schema", operation["responses"])
    if ours:
        operation["security"] = [{"key": []}]
    well = next(code for code in responses if code.startswith("2"))
    if path in DOCUMENTS or _is_bytes(responses[well]):
        responses[well]["content"] = {kind: {} for kind in DOCUMENTS.get(path, ("*/*",))}
    if (path, method) in ALSO:
        responses[str(ALSO[path, method])] = responses[well]
    if path == "/readyz":
        responses["503"] = responses[well]
        return
    refusals = (*REFUSALS, 410) if path in GONE else REFUSALS if ours else ELSEWHERE
    for status in refusals:
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }


def _is_bytes(response: Schema) -> bool:
    """Say whether a handler gives bytes, which the framework takes for a text in JSON."""
    return response.get("content", {}).get("application/json", {}).get("schema", {}).get("type") == "string"
