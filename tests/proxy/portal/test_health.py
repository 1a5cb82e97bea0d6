from __future__ import annotations

import pytest
from litestar import Litestar
from prometheus_client import CONTENT_TYPE_LATEST

from proxy.observability import Metrics
from proxy.portal.health import health_handlers
from tests.fakes import AsgiClient

pytestmark = pytest.mark.anyio


def app(**checks: str) -> Litestar:
    async def look():
        return checks

    return Litestar(health_handlers(Metrics(), look, lambda: {"method": "m"}), openapi_config=None)


async def get(path: str, **checks: str) -> AsgiClient:
    client = AsgiClient(_rooted(app(**checks), path))
    await client.call("GET", path)
    return client


def _rooted(inner, path):
    async def call(scope, receive, send):
        await inner(
            {**scope, "path": path, "root_path": "", "client": None, "server": None, "scheme": "http"},
            receive,
            send,
        )

    return call


async def test_alive_means_the_loop_answers_whatever_else_is_broken():
    assert (await get("/healthz", model="gone")).status == 200


async def test_ready_only_when_every_part_is_ok():
    assert (await get("/readyz", model="ok", database="ok")).status == 200
    unready = await get("/readyz", model="ok", database="does not answer")
    assert unready.status == 503
    assert b'"database":"does not answer"' in unready.body


async def test_metrics_are_prometheus_text():
    answer = await get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE_LATEST, "each parameter once, or it is refused"
    assert b"# HELP endcredits_requests_total" in answer.body


async def test_the_well_known_file_names_version_and_method():
    assert b'"method":"m"' in (await get("/.well-known/endcredits.json")).body
