"""What shows a closed period to whoever has a place in it: the manifest, her statement, an app's charge.

Likewise a change of the registry to whoever made it, or has the work that it is of.

The manifest is public: it holds sums, and hashes of everybody. A file that shows one party's place holds that
party's amounts and is given to her, and to operators. All of them are checked offline (docs/receipts.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from proxy.access.guards import requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.billing import store
from proxy.billing.proving import Prover
from proxy.catalogue.lookup_store import owner_of
from proxy.errors import BadRequest, NotFound
from proxy.portal.papers import own_statement
from proxy.receipts import history_store
from proxy.receipts.history import Change

HEADERS: Final = {"cache-control": "private, no-store", "x-content-type-options": "nosniff"}


def proven(engine: sa.Engine, prover: Prover) -> Sequence[BaseRouteHandler]:
    """Return the routes, to be put under /api."""

    @get("/periods/{label:str}/manifest")
    async def manifest(label: FromPath[str]) -> Response[bytes]:
        """A closed period's signed manifest and its place in the log; for anybody."""
        return as_file(await of_pages(prover.manifest_file, label))

    @get("/statements/{statement_id:str}/signed", guards=[requires(Action.READ_OWN_STATEMENTS)])
    async def statement(caller: NamedDependency[Principal], statement_id: FromPath[str]) -> Response[bytes]:
        """A creator's statement with all that shows it, as one file to check offline."""

        def shown() -> bytes:
            found = own_statement(engine, caller, statement_id)
            return prover.statement_file(found)

        return as_file(await of_pages(shown))

    @get("/statements/{statement_id:str}/uses", guards=[requires(Action.READ_OWN_STATEMENTS)])
    async def uses(caller: NamedDependency[Principal], statement_id: FromPath[str]) -> Stream:
        """The receipts of all answers that a statement counts, with its creator's lines of them opened."""
        return await uses_reply(engine, prover, caller, statement_id)

    @get("/periods/{label:str}/charge", guards=[requires(Action.READ_OWN_USAGE)])
    async def charge(
        caller: NamedDependency[Principal], label: FromPath[str], app: FromQuery[str] = ""
    ) -> Response[bytes]:
        """What an app was charged in a period, as one file to check offline; operators name `app`."""
        asked = caller.app_id or app
        if not asked:
            raise BadRequest("whose charge is not said", remedy="add ?app=app_... to the address")
        return as_file(await of_pages(charged, engine, prover, label, asked))

    return manifest, statement, uses, charge


def changed(engine: sa.Engine, prover: Prover) -> Sequence[BaseRouteHandler]:
    """Return the routes that show changes of the registry, to be put under /api."""

    @get("/works/{work:str}/changes", guards=[requires(Action.EDIT_OWN_WORKS)])
    async def changes(caller: NamedDependency[Principal], work: FromPath[str]) -> dict[str, object]:
        """Every change of the registry that is of a work of one's own, oldest first, by its number."""
        found = await of_pages(own_changes, engine, caller, work)
        return {"changes": [{"seq": one.seq, "kind": one.kind, "at_us": one.at_us} for one in found]}

    @get("/registry/{seq:int}/proof", guards=[requires(Action.EDIT_OWN_WORKS)])
    async def change(caller: NamedDependency[Principal], seq: FromPath[int]) -> Response[bytes]:
        """A change of the registry and its place in the log, as one file to check offline."""
        return as_file(await of_pages(own_change_file, engine, prover, caller, seq))

    return changes, change


def own_changes(engine: sa.Engine, caller: Principal, work: str) -> list[Change]:
    """Return all changes of a work that is the caller's, oldest first. Raises NotFound for another."""
    if not _may_see(engine, caller, work):
        raise NotFound(f"there is no work '{work[:60]}' of yours", remedy="GET /api/works lists them")
    return history_store.changes_of(engine, work)


def own_change_file(
    engine: sa.Engine, prover: Prover, caller: Principal, seq: int, work: str | None = None
) -> bytes:
    """Return the file that shows a change the caller made, or one of a work of theirs. Raises NotFound.

    work: of which it must be, where one is named.
    """
    found = history_store.change_at(engine, seq)
    mine = found is not None and found.actor == caller.creator_id
    asked = found is not None and work in {None, found.work}
    if found is None or not asked or not (mine or _may_see(engine, caller, found.work)):
        raise NotFound(
            f"the registry has no change {seq} of yours",
            remedy="GET /api/works/{id}/changes lists those of a work",
        )
    return prover.change_file(seq)


def _may_see(engine: sa.Engine, caller: Principal, work: str) -> bool:
    """Say whether the caller operates, or owns the work now."""
    if caller.role == "operator":
        return True
    try:
        with engine.connect() as connection:
            return owner_of(connection, work) == caller.creator_id
    except NotFound:
        return False


def charged(engine: sa.Engine, prover: Prover, label: str, app: str) -> bytes:
    """Return the file that shows an app's charge. Raises NotFound for a period that did not charge it."""
    period = next((one for one in store.list_periods(engine) if one.label == label), None)
    if period is None or app not in period.charged_by_app:
        raise NotFound(
            f"no period '{label}' has charged {app[:60]}",
            remedy="`endcredits periods list` shows what is closed",
        )
    return prover.charge_file(label, app, period.currency, period.closed_us, period.charged_by_app[app])


async def uses_reply(engine: sa.Engine, prover: Prover, caller: Principal, statement_id: str) -> Stream:
    """Return the receipts behind a statement that the caller may read, as they are made."""

    def begun() -> tuple[bytes, Iterator[bytes]]:
        rows = prover.uses_file(own_statement(engine, caller, statement_id))
        return next(rows), rows

    first, rows = await of_pages(begun)  # what is refused is refused before the reply begins
    headers = {**HEADERS, "content-disposition": f'attachment; filename="{statement_id}.uses.jsonl"'}
    return Stream(itertools.chain([first], rows), media_type="application/jsonl", headers=headers)


def as_file(content: bytes) -> Response[bytes]:
    """Return a file of proofs as a reply that nobody keeps."""
    return Response(content, media_type="application/json", headers=HEADERS)
