"""GET /v1/models where one backend's list is not the answer: several backends, aliases, or a key for some.

Every backend is asked at the same time and for a short while; one that does not answer adds only its aliases.
The rows stay as each backend gives them. Where a single backend has every model and the key opens all of
them, its list is passed through instead, byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from proxy.access.keys import Principal
from proxy.errors import Problem
from proxy.relay.actions import own_reply
from proxy.relay.needs import Scope, Send
from proxy.relay.passing import model_not_found
from proxy.wire.models import may_use, merged_list

if TYPE_CHECKING:
    from proxy.relay.handler import Relay

LIST_BYTES_MAX = 4 << 20  # some ten thousand models
LIST_S = 10.0  # clients show a list or start without one; they do not wait as they do for an answer
_PATH = b"/v1/models"


def is_merged(relay: Relay, principal: Principal, scope: Scope) -> bool:
    """Tell whether this asks for a list that we must make. Raises NotFound for a model not the key's."""
    path: bytes = scope["raw_path"]
    patterns = principal.limits.models
    if patterns and path.startswith(_PATH + b"/"):
        model = unquote(path[len(_PATH) + 1 :].decode("latin-1"))
        if not may_use(model, patterns):
            raise model_not_found(model)
    return scope["method"] == "GET" and path == _PATH and (relay.must_know_model or bool(patterns))


async def answer(relay: Relay, event_id: str, principal: Principal, scope: Scope, send: Send) -> None:
    """Answer with the merged list. Raises a Problem when no backend gave one and there are no aliases."""
    given = await relay.lists(scope, bytes_max=LIST_BYTES_MAX, within_s=LIST_S)
    if not any(body is not None or backend.aliases for backend, body in given):
        raise Problem(
            "no backend gave its list of models",
            remedy="try again shortly",
            code="backend_unreachable",
            status=502,
        )
    rows = ((body or b"", backend.models, tuple(backend.aliases)) for backend, body in given)
    reply = own_reply(event_id, 200, merged_list(rows, allowed=principal.limits.models))
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body})
    relay.metrics.requests.labels("models", "complete").inc()
