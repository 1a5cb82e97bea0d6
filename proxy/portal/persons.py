"""`/api` for what people may ask: their name in credits, what is held of them, and to be forgotten.

A creator (`me`) chooses the name they are shown by and reads all that is held on them; an app does that for
its own end users, and has them forgotten. Erasing a creator or a work is the operator's: who is erased can't
be brought back, and an index is built anew by the command line only, so what was erased of it stays in the
index until then, credited to nobody.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Response, Router, get, post, put
from litestar import delete as on_delete
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.access.subjects import SubjectKeys
from proxy.asking import of_pages
from proxy.billing.erasing_store import erase_creator, scrub
from proxy.billing.held import document
from proxy.billing.held_store import held_of
from proxy.billing.paying import KEY_FILE
from proxy.billing.subjects_store import answers_of, app_named, erase_subject
from proxy.catalogue.erasing_store import erase_work, show_as
from proxy.catalogue.store import Catalogue
from proxy.clock import Clock, RandomIds, iso_utc
from proxy.errors import BadRequest, NotFound
from proxy.keyfile import secret_file
from proxy.metering.audited import AuditedExchanges
from proxy.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

ME = "me"  # in a path: the creator whose key it is
NAME_CHARACTERS_MAX = 300  # ids have 30; a creator's ref may be an address
SUBJECT_CHARACTERS_MAX = 4_096  # more than any header that carries one
Row = dict[str, Any]


class NameIn(msgspec.Struct, forbid_unknown_fields=True):
    """The name or pseudonym that credits show; "" for their own again."""

    name: str


class SubjectIn(msgspec.Struct, forbid_unknown_fields=True):
    """An end user, as the app names them in x-attribution-subject. app: whose, where an operator asks."""

    subject: str
    app: str = ""


def persons_router(engine: sa.Engine, settings: Settings, clock: Clock) -> Router:
    """Return /api/creators/{who}/name and /export, DELETE of creators and of works' texts, and /api/users."""
    keys = SubjectKeys(settings.data_dir)
    catalogue = Catalogue(engine, clock=clock, ids=RandomIds())

    @put("/creators/{who:str}/name", guards=[requires(Action.EDIT_OWN_WORKS)])
    async def name(caller: NamedDependency[Principal], who: FromPath[str], data: JSONBody[NameIn]) -> Row:
        """Choose the name that credits show from now on: `{"name": "..."}`, "" for one's own again."""
        creator = await of_pages(_creator, catalogue, caller, who)
        shown = await of_pages(
            show_as, engine, creator, data.name, clock=clock, actor=caller.creator_id or by_of(caller)
        )
        return {"creator": creator, "shown": shown}

    @get("/creators/{who:str}/export", guards=[requires(Action.READ_OWN_STATEMENTS)])
    async def export(caller: NamedDependency[Principal], who: FromPath[str]) -> Response[bytes]:
        """Everything that is held on a creator: a .zip of a file for each table and each text."""
        creator = await of_pages(_creator, catalogue, caller, who)

        def made() -> bytes:
            key_file: Path = settings.data_dir / KEY_FILE
            return document(held_of(engine, creator, key=lambda: secret_file(key_file)), zipped=True)

        headers = {"content-disposition": f'attachment; filename="{creator}.zip"'}
        return Response(await of_pages(made), media_type="application/zip", headers=headers)

    @on_delete("/creators/{who:str}", guards=[requires(Action.OPERATE)], status_code=200)
    async def erased(caller: NamedDependency[Principal], who: FromPath[str]) -> Row:
        """Erase a creator: names, accounts, words and texts. What is owed stays owed."""
        done = await of_pages(erase_creator, engine, _id(who), clock=clock, by=by_of(caller))
        told: Row = msgspec.to_builtins(done)
        return told | {"remedy": "run `endcredits index build`"} if done.works else told

    @on_delete("/works/{work:str}/text", guards=[requires(Action.OPERATE)], status_code=200)
    async def erased_text(caller: NamedDependency[Principal], work: FromPath[str]) -> Row:
        """Erase a work's text: it is credited to nobody from now on, and leaves the next index."""

        def erase() -> Row:
            entry = catalogue.find_work(_id(work))
            changed = erase_work(engine, entry.id, clock=clock, by=by_of(caller))
            scrub(engine)
            return {"work": entry.id, "changed": changed, "remedy": "run `endcredits index build`"}

        return await of_pages(erase)

    @post("/users/export", guards=[requires(Action.READ_OWN_USAGE)], status_code=200)
    async def told(caller: NamedDependency[Principal], data: JSONBody[SubjectIn]) -> Row:
        """What is held of an end user of the app: answers that can still be found by their id."""
        app = await of_pages(_app, engine, caller, data)
        found = await of_pages(answers_of, engine, keys, app, data.subject)
        items = [
            {
                "id": one.id, "occurred": iso_utc(one.occurred_us), "model": one.model,
                "endpoint": one.endpoint, "outcome": one.outcome,
                "tokens": {"input": one.input_tokens, "output": one.output_tokens},
                "images": one.images, "milliseconds": one.milliseconds,
            }
            for one in found
        ]  # fmt: skip
        return {"app": app, "items": items}

    @post("/users/erase", guards=[requires(Action.READ_OWN_USAGE)], status_code=200)
    async def forgotten(caller: NamedDependency[Principal], data: JSONBody[SubjectIn]) -> Row:
        """Forget whose the answers of an end user of the app are."""

        def erase() -> Row:
            app, rules = _app(engine, caller, data), settings.audit
            ids = erase_subject(engine, keys, app, data.subject, clock=clock, by=by_of(caller))
            scrub(engine)
            kept = AuditedExchanges(settings.data_dir, exchanges_max=rules.exchanges_max, days=rules.days)
            return {"app": app, "answers": len(ids), "exchanges": sum(kept.erase(app, one) for one in ids)}

        return await of_pages(erase)

    return Router(
        "/api",
        route_handlers=[name, export, erased, erased_text, told, forgotten],
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


def by_of(caller: Principal) -> str:
    """Return under which name somebody acts: their key's, or its id."""
    return caller.name or caller.key_id


def _creator(catalogue: Catalogue, caller: Principal, who: str) -> str:
    """Return the creator who is asked for, if the caller may see them; else say that there is none."""
    if caller.creator_id:
        if who in {ME, caller.creator_id}:
            return caller.creator_id
        raise NotFound(f"there is no creator '{who[:100]}'", remedy="a creator sees themselves only")
    return catalogue.creator(_id(who)).id


def _id(name: str) -> str:
    """A name from a path. Raises NotFound for one that no store could hold."""
    if not name.isprintable() or len(name) > NAME_CHARACTERS_MAX:
        raise NotFound("there is nothing of this name", remedy="take an id as it was given")
    return name


def _app(engine: sa.Engine, caller: Principal, data: SubjectIn) -> str:
    if not 0 < len(data.subject) <= SUBJECT_CHARACTERS_MAX:
        raise BadRequest(
            f"a subject has 1 to {SUBJECT_CHARACTERS_MAX} characters",
            remedy="send it as x-attribution-subject",
        )
    if caller.app_id:
        return caller.app_id
    if not data.app:
        raise BadRequest("whose user is it?", remedy='add "app": its id or name')
    return app_named(engine, data.app)
