"""The transparency log for anybody: /log/checkpoint, /log/tile/..., as C2SP's tlog-tiles lays them out.

Nothing here is secret and nothing asks for a key: entries are hashes. What a proof needs beside them, the
receipt itself, is under /api with its reader's rights.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from litestar import MediaType, Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.billing.proving import Prover
from proxy.errors import NotFound, Unavailable
from proxy.metering.usage import MeteredEvent
from proxy.portal.events import carried, may_see
from proxy.portal.proven import changed, proven
from proxy.receipts import store
from proxy.receipts.issuing import Issuer
from proxy.receipts.receipt import open_line, payload, to_object
from proxy.receipts.signing import proof_file
from proxy.receipts.tree import Tile, consistency_path, inclusion_path, parse_path
from proxy.receipts.verify import HASH_BYTES, b64, b64url, receipt_entry

FOR_EVER = "public, max-age=31536000, immutable"


def log_router(engine: sa.Engine, issuer: Issuer) -> Router:
    """Return everything under /log."""

    @get("/checkpoint", media_type=MediaType.TEXT)
    async def checkpoint() -> Response[str]:
        """How many entries the log has and the hash over them, signed."""
        return Response(await signed_checkpoint(engine, issuer), headers={"cache-control": "no-cache"})

    @get("/tile/{path:path}")
    async def tile(path: FromPath[str]) -> Response[bytes]:
        """256 hashes of the log, or as many as there are; or as many entries."""
        asked = parse_path(f"tile{path}")
        raw = await of_pages(_read, engine, asked) if asked is not None else b""
        if not raw:
            raise NotFound(
                "the log has no such tile", remedy="ask for those of the size that /log/checkpoint says"
            )
        return Response(raw, media_type="application/octet-stream", headers={"cache-control": FOR_EVER})

    @get("/consistency/{old:int}/{new:int}")
    async def consistency(old: FromPath[int], new: FromPath[int]) -> dict[str, object]:
        """The hashes that show the log of `old` entries in that of `new`, for who would not read tiles."""
        return await of_pages(_consistency, engine, old, new)

    return Router("/log", route_handlers=[checkpoint, tile, consistency])


def proofs_router(engine: sa.Engine, issuer: Issuer, prover: Prover) -> Router:
    """Return what shows one answer's receipt, with its place in the log and its lines opened, and periods."""

    @get("/receipts/{event_id:str}/proof", guards=[requires(Action.READ_RECEIPT)])
    async def proof(caller: NamedDependency[Principal], event_id: FromPath[str]) -> Response[dict[str, Any]]:
        """A receipt that anybody can check offline: 202 until the answer is settled and logged."""
        event = await carried(engine, event_id)
        if event is None or not may_see(caller, event):
            raise NotFound(f"no receipt {event_id}", remedy="an app sees its own answers' only")
        if event.status == "pending":
            return Response(
                {"id": event_id, "status": "pending"}, status_code=202, headers={"retry-after": "1"}
            )
        shown = await of_pages(shown_receipt, engine, issuer, event)
        later = {} if shown["proof"] else {"retry-after": "1"}
        return Response(shown, status_code=200 if shown["proof"] else 202, headers=later)

    return Router(
        "/api",
        route_handlers=[proof, *proven(engine, prover), *changed(engine, prover)],
        dependencies={"caller": Provide(provide_principal)},
    )


def shown_receipt(engine: sa.Engine, issuer: Issuer, event: MeteredEvent) -> dict[str, Any]:
    """Return what shows a settled answer's receipt; `proof` is None while it is not in the log."""
    secrets = issuer.kept_secrets_of(event.occurred_us)
    said = payload(event, secrets)
    place = store.place_of(engine, event.id)
    if place is not None and list(store.read_entries(engine, place, place + 1)) != [receipt_entry(said)]:
        raise Unavailable(
            f"the log holds another receipt of {event.id} than the store would make now",
            remedy="restore what receipts are salted with (receipt-secrets/), and run `endcredits audit`",
            code="log_contradicted",
        )
    return {
        "receipt": issuer.signer.jws(said),
        "nonce": b64url(secrets.nonce(event.id)),
        "proof": proof_of(engine, issuer, event.id),
        "lines": [to_object(open_line(event, secrets, line.work)) for line in event.lines],
    }


async def signed_checkpoint(engine: sa.Engine, issuer: Issuer) -> str:
    """Return the log's checkpoint as it is now."""
    state = await of_pages(store.read_state, engine)
    return issuer.signer.checkpoint(state.size, state.root)


def proof_of(engine: sa.Engine, issuer: Issuer, ref: str) -> str | None:
    """Return the tlog-proof of an answer or a period; None while it is not in the log."""
    place = store.place_of(engine, ref)
    if place is None:
        return None
    state = store.read_state(engine)
    path = inclusion_path(place, state.size, store.nodes(engine, state.size))
    return proof_file(place, path, issuer.signer.checkpoint(state.size, state.root))


def _read(engine: sa.Engine, tile: Tile) -> bytes:
    if tile.level >= 0:
        raw = store.read_tile(engine, tile)
        return raw if len(raw) == tile.width * HASH_BYTES else b""
    begin = tile.index * 256
    entries = list(store.read_entries(engine, begin, begin + tile.width))
    return store.bundle(entries) if len(entries) == tile.width else b""


def _consistency(engine: sa.Engine, old: int, new: int) -> dict[str, object]:
    size = store.read_state(engine).size
    if not 0 <= old <= new <= size:
        raise NotFound(
            f"the log has {size} entries: there is no growth from {old} to {new} in it",
            remedy="name two sizes it has had, the smaller first",
        )
    path = consistency_path(old, new, store.nodes(engine, new))
    return {"old": old, "new": new, "path": [b64(one) for one in path]}
