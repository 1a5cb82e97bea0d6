"""`/api/licences`: rights signals that creators publish, contracts that operators agreed, and what follows.

A creator brings in files about works of their own, or about all of theirs, reads and ends them; what a
contract says is the operator's to record, and to end. Where nothing is theirs, nothing is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.datastructures import CacheControlHeader, UploadFile
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.asking import of_pages
from proxy.catalogue.licences_store import Changed, KnownLicence, Licences, LicenceScope
from proxy.catalogue.signals import FILE_BYTES_MAX
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import Consent, printable
from proxy.clock import iso_utc
from proxy.errors import BadRequest, NotFound
from proxy.portal.creators import Office
from proxy.portal.payouts import ReasonIn

ME = "me"
FORM_BYTES_MAX = FILE_BYTES_MAX + 65_536  # the file, and the fields and borders around it
Row = dict[str, Any]
Scope = tuple[LicenceScope, str]


class ContractIn(msgspec.Struct, forbid_unknown_fields=True):
    """What was agreed about a work, or about all works of a creator; one of both is named."""

    effect: Literal["allow", "deny"]
    why: str
    use: str = "output_influence"
    work: str = ""
    creator: str = ""


class Shelved:
    """Licences of what the caller owns, or everybody's for an operator. Calls block on the store."""

    def __init__(self, office: Office, caller: Principal) -> None:
        clock, ids, default = office.clock, office.ids, office.settings.catalogue.default_consent
        self._creator = caller.creator_id
        self._catalogue = Catalogue(office.engine, clock=clock, ids=ids, default_consent=default)
        by = caller.creator_id or caller.name or caller.key_id
        self._licences = Licences(office.engine, clock=clock, ids=ids, by=by, default=default)

    def listed(self, work: str, creator: str) -> list[Row]:
        """Return every licence that a work or a creator ever had by its own name, oldest first."""
        _, scope_id = self._scope(work, creator)
        return [self._row(one) for one in self._licences.of(scope_id)]

    def take(self, raw: bytes, work: str, creator: str, origin: str) -> Row:
        """Take in a file as it is, and act on it; the same again changes nothing."""
        scope, scope_id = self._scope(work, creator)
        return self._changed(self._licences.import_file(raw, scope, scope_id, origin=origin))

    def agree(self, said: ContractIn) -> Row:
        """Record what was agreed; the same again changes nothing."""
        scope, scope_id = self._scope(said.work, said.creator)
        use = Consent.of(said.use, "paid").use
        return self._changed(self._licences.contract(scope, scope_id, use, said.effect, said.why))

    def revoke(self, licence: str, reason: str) -> Row:
        """End a licence. Raises NotFound, also for another's, and for a contract that a creator would end."""
        known = self._licences.one(licence)
        if self._creator and (known.source == "contract" or not self._owns(known.scope, known.scope_id)):
            raise NotFound(
                f"there is no licence '{printable(licence, 60)}'", remedy="take its id from the list"
            )
        return self._changed(self._licences.revoke(licence, reason))

    def file(self, licence: str) -> bytes:
        """Return a licence's file as it came. Raises NotFound, also for another's, and for a contract."""
        known = self._licences.one(licence)
        if not known.file_sha256 or (self._creator and not self._owns(known.scope, known.scope_id)):
            raise NotFound(f"'{printable(licence, 60)}' has no file", remedy="take its id from the list")
        return self._licences.file(known.file_sha256)

    def _owns(self, scope: str, scope_id: str) -> bool:
        if scope == "creator":
            return scope_id == self._creator
        found = self._catalogue.works_by_id([scope_id]).get(scope_id)
        return found is not None and found.creator_id == self._creator

    def _scope(self, work: str, creator: str) -> Scope:
        if bool(work) == bool(creator):
            raise BadRequest("nobody says what it is about", remedy="name one, work or creator", code="scope")
        if creator:
            if self._creator and creator not in {ME, self._creator}:
                raise NotFound(f"there is no creator '{printable(creator, 60)}'", remedy="`me` is you")
            return "creator", self._creator or self._catalogue.creator(creator).id
        found = self._catalogue.works_by_id([work]).get(work)
        if found is None or (self._creator and found.creator_id != self._creator):
            raise NotFound(f"there is no work '{printable(work, 60)}'", remedy="take its id from the list")
        return "work", found.id

    def _changed(self, changed: Changed) -> Row:
        added = [self._row(one) for one in changed.added]
        return {"added": added, "ended": list(changed.ended), "consents_changed": changed.consents}

    def _row(self, one: KnownLicence) -> Row:
        row: Row = {
            "id": one.id,
            "source": one.source,
            one.scope: one.scope_id,
            "about": one.about,
            "terms": [dataclasses.asdict(term) for term in one.terms],
            "unread": list(one.unread),
            "file_sha256": one.file_sha256,
            "origin": one.origin,
            "at": iso_utc(one.at_us),
            "seq": one.seq,
            "ended": one.ended,
        }
        return row if self._creator else row | {"by": one.by}


def licences_router(office: Office) -> Router:
    """Return /api/licences."""
    return Router(
        "/api/licences",
        route_handlers=_handlers(office),
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


def _handlers(office: Office) -> Sequence[BaseRouteHandler]:
    allowed = [requires(Action.EDIT_OWN_WORKS)]

    def of(caller: Principal) -> Shelved:
        return Shelved(office, caller)

    @get("", guards=allowed)
    async def listed(
        caller: NamedDependency[Principal], work: FromQuery[str] = "", creator: FromQuery[str] = ""
    ) -> Row:
        """Every licence that a work, or a creator (`me`), ever had by its own name, oldest first."""
        return {"items": await of_pages(of(caller).listed, work, creator)}

    @post("", guards=allowed, status_code=200, request_max_body_size=FORM_BYTES_MAX)
    async def take(caller: NamedDependency[Principal], request: Request[Any, Any, Any]) -> Row:
        """Take in the `file` of a multipart form, about its `work` or `creator`, and act on it."""
        form = await request.form()
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise BadRequest("no file came", remedy="send it as `file`", code="no_files")
        raw = await upload.read(FILE_BYTES_MAX + 1)
        about = [str(form.get(name, "")) for name in ("work", "creator", "origin")]
        return await of_pages(of(caller).take, raw, *about)

    @post("/contracts", guards=[requires(Action.OPERATE)], status_code=200)
    async def agree(caller: NamedDependency[Principal], data: JSONBody[ContractIn]) -> Row:
        """Record what was agreed with a creator: it holds before every signal until it is revoked."""
        return await of_pages(of(caller).agree, data)

    @post("/{licence:str}/revoke", guards=allowed, status_code=200)
    async def revoke(
        caller: NamedDependency[Principal], licence: FromPath[str], data: JSONBody[ReasonIn]
    ) -> Row:
        """End a licence: what it alone allowed or denied ends with it."""
        return await of_pages(of(caller).revoke, licence, data.reason)

    @get("/{licence:str}/file", guards=allowed)
    async def file(caller: NamedDependency[Principal], licence: FromPath[str]) -> Response[bytes]:
        """A licence's file, byte for byte as it came."""
        raw = await of_pages(of(caller).file, licence)
        headers = {
            "content-disposition": 'attachment; filename="licence"',
            "x-content-type-options": "nosniff",
        }
        return Response(raw, media_type="application/octet-stream", headers=headers)

    return (listed, take, agree, revoke, file)
