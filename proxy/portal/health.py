"""Whether we are alive, ready, and how we fare: /healthz, /readyz, /metrics; and who we are.

Alive means the loop answers. Ready means that an answer given now would be attributed, metered and billed:
the model is loaded, the index serves, the journal takes records, the store answers. A missing catalogue is
not unready: everything is then unattributed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from litestar import MediaType, Response, get
from litestar.handlers import BaseRouteHandler
from litestar.status_codes import HTTP_503_SERVICE_UNAVAILABLE
from prometheus_client import CONTENT_TYPE_LATEST

from proxy import __version__
from proxy.observability import Metrics

Checks = Mapping[str, str]  # part -> "ok", or what is wrong with it


def health_handlers(
    metrics: Metrics, checks: Callable[[], Awaitable[Checks]], about: Callable[[], Mapping[str, object]]
) -> list[BaseRouteHandler]:
    """Return the handlers. `checks` looks at each part now; `about` names the running method."""

    @get("/healthz", media_type=MediaType.JSON, sync_to_thread=False)
    def healthz() -> dict[str, object]:
        """Whether the process lives."""
        return {"status": "alive", "version": __version__}

    @get("/readyz", media_type=MediaType.JSON)
    async def readyz() -> Response[dict[str, object]]:
        """Whether an answer given now would be attributed, metered and billed, part by part."""
        found = await checks()
        ready = all(state == "ok" for state in found.values())
        body: dict[str, object] = {"ready": ready, "checks": dict(found)}
        return Response(body, status_code=200 if ready else HTTP_503_SERVICE_UNAVAILABLE)

    @get("/metrics", sync_to_thread=False, include_in_schema=False)
    def prometheus() -> Response[bytes]:
        # As a header: to a media type that is a text the framework would add the charset a second time, and
        # Prometheus refuses a type that says it twice.
        return Response(metrics.exposed(), headers={"content-type": CONTENT_TYPE_LATEST})

    @get("/.well-known/endcredits.json", media_type=MediaType.JSON, sync_to_thread=False)
    def well_known() -> dict[str, object]:
        """The public keys, the log's origin, and which version and method run."""
        return {"product": "endcredits", "version": __version__, **about()}

    return [healthz, readyz, prometheus, well_known]
