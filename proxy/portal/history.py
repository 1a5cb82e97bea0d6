"""A work's history for whoever owns it: every change, in words, with the file that shows it to anybody.

`/api/works/{id}/changes` lists the same changes by number, `/api/registry/{seq}/proof` gives the same files.
What exactly changed is told where the registry can still say it; of other changes it keeps a hash, and they
are told by their kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery

from proxy.access.keys import Principal
from proxy.asking import of_pages
from proxy.catalogue.store import Catalogue
from proxy.errors import NotFound
from proxy.portal.creators import USES, Office
from proxy.portal.doors import inside
from proxy.portal.pages import AnyRequest
from proxy.portal.proven import as_file, own_change_file, own_changes
from proxy.receipts import history_store
from proxy.receipts.history import Change

CHANGES_SHOWN: Final = 50
READERS: Final = [inside("creator")]
KINDS: Final[Mapping[str, str]] = {
    "work_registered": "It was put in",
    "work_withdrawn": "It was withdrawn",
    "work_erased": "Its text was erased",
    "consent_set": "What is allowed was changed",
    "consent_by_licence": "What is allowed was changed, by a licence",
    "terms_asked": "What it asks for was changed",
    "split_set": "Who gets what of it was agreed",
    "split_proposed": "Another split was proposed",
    "split_agreed": "A proposed split was agreed to",
    "split_refused": "A proposed split was refused",
    "split_withdrawn": "A proposed split was taken back",
    "work_held": "It was held up, to be looked at",
    "hold_cleared": "It was held up no longer",
    "work_released": "Somebody looked at it, and released it",
    "hold_upheld": "Somebody looked at it, and it stays held up",
    "hold_appealed": "Its creator appealed against its being held up",
    "claim_opened": "Somebody claimed it",
    "claim_upheld": "A claim of it was upheld",
    "claim_rejected": "A claim of it was rejected",
    "claim_withdrawn": "A claim of it was taken back",
    "identifier_verified": "Its identifier was checked",
    "identifier_revoked": "Its identifier was taken away",
    "adaptation_set": "What it was made from was changed",
    "link_stated": "It was linked with another work",
    "link_ended": "A link with another work was ended",
}
LINKS: Final[Mapping[str, str]] = {
    "recording_of": "a recording of",
    "excerpt_of": "an excerpt of",
    "translation_of": "a translation of",
}
VERDICTS: Final[Mapping[str, str]] = {"paid": "yes, for pay", "free": "yes, for nothing", "denied": "no"}
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_NAMES: Final = {use.value: name for use, name, _ in USES}


def history_pages(office: Office) -> Sequence[BaseRouteHandler]:
    """Return the page, and the files behind it."""

    @get("/works/{work:str}/changes", guards=READERS)
    async def changes(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        work: FromPath[str],
        before: FromQuery[int] = 0,
    ) -> Response[bytes]:
        """A work's changes, newest first."""

        def read() -> dict[str, Any]:
            title = office.shelf(caller).one(work)["title"]
            found = own_changes(office.engine, caller, work)[::-1]
            later = [one for one in found if not before or one.seq < before]
            shown = later[:CHANGES_SHOWN]
            said = [history_store.said_of(office.engine, one) for one in shown]
            catalogue = Catalogue(office.engine, clock=office.clock, ids=office.ids)
            others = catalogue.works_by_id({what["of"] for what in said if what and "of" in what})
            titles = {other: entry.title for other, entry in others.items()}
            rows = [
                (one, words_of(one, what, titles), by_of(one, caller))
                for one, what in zip(shown, said, strict=True)
            ]
            following = shown[-1].seq if len(later) > CHANGES_SHOWN else 0
            return {"title": title, "rows": rows, "following": following}

        known = await of_pages(read)
        return office.pages.page(request, "history.html.jinja", work=work, before=before, **known)

    @get("/works/{work:str}/changes/{seq:str}", guards=READERS)
    async def proof(
        caller: NamedDependency[Principal], work: FromPath[str], seq: FromPath[str]
    ) -> Response[bytes]:
        """The file that shows one change to anybody."""
        if _NUMBER.fullmatch(seq) is None:
            raise NotFound(f"there is no change {seq[:30]}", remedy="the work's history has a link to each")
        asked = (office.engine, office.prover, caller, int(seq), work)
        made = as_file(await of_pages(own_change_file, *asked))
        made.headers["content-disposition"] = f'attachment; filename="change-{seq}.json"'
        return made

    return (changes, proof)


def words_of(change: Change, said: Mapping[str, str] | None, titles: Mapping[str, str]) -> str:
    """Return what changed, in words. said: what the registry can still say of it; titles: of works in it."""
    known = KINDS.get(change.kind, change.kind.replace("_", " ").capitalize())
    if said is None:
        return known
    if "use" in said:
        use, verdict = said["use"], said["verdict"]
        return f"{_NAMES.get(use, use)}: {VERDICTS.get(verdict, verdict)}"
    if "of" in said:
        begin = "It was said to be" if change.kind == "link_stated" else "It is said no longer to be"
        return f"{begin} {LINKS.get(said['kind'], said['kind'])} {titles.get(said['of'], said['of'])}"
    return known


def by_of(change: Change, caller: Principal) -> str:
    """Return who made a change, as far as its reader may know."""
    if change.actor == caller.creator_id:
        return "You"
    return "Another creator" if change.actor.startswith("c_") else "Whoever runs this place"
