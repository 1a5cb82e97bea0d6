"""`/api/works`: a creator's own works, over HTTP as the command line has them.

A creator registers, allows and withdraws what is theirs, and nothing else: what is not theirs is answered
like what does not exist. What is uploaded is theirs whatever a list says of its rows, and was registered now:
a date that somebody gives for themselves could put them before others. Registered is not yet recognised: an
index is built by whoever runs this.
"""

from __future__ import annotations

import bisect
import dataclasses
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from litestar import Request, Router, get, post
from litestar.datastructures import CacheControlHeader, UploadFile
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from proxy.access.guards import provide_principal, requires
from proxy.access.keys import Action, Principal
from proxy.access.store import app_names
from proxy.asking import of_pages
from proxy.billing.passages import CELL, By, Leaf, leaf, leaf_starts
from proxy.billing.passages_store import WorkPassages, passages_of, uses_between
from proxy.catalogue import shelf_store
from proxy.catalogue.intake import Defaults, read
from proxy.catalogue.licences_store import Licences
from proxy.catalogue.linking import kind_of
from proxy.catalogue.linking_store import SHOWN_MAX, Links, StatedLink
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import (
    GIVEN,
    WHOLE_PPM,
    Consent,
    Given,
    NewWork,
    Outcome,
    Refusal,
    WorkEntry,
    printable,
)
from proxy.clock import Clock, Ids, iso_utc
from proxy.errors import BadRequest, Forbidden, NotFound
from proxy.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

Row = dict[str, Any]
PAGE_MAX: Final = 500
FILES_MAX: Final = 200  # in one upload; more are a list, which is one file
PIECE_BYTES: Final = 1 << 20
NAME_BYTES_MAX: Final = 200  # file systems take 255
MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


class ConsentIn(msgspec.Struct, forbid_unknown_fields=True):
    """What is allowed from now on."""

    use: str
    verdict: str


class LinkIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a work is of which other: its id, or the ref of one of one's own."""

    kind: str
    of: str


class UnlinkIn(msgspec.Struct, forbid_unknown_fields=True):
    """The other work, by its id."""

    of: str


@dataclasses.dataclass(frozen=True, slots=True)
class Drawn:
    """What answers drew on of one work. leaf: number `at` of `starts`, None where the text is not kept."""

    work: WorkEntry
    sums: WorkPassages
    starts: tuple[int, ...]
    characters: int
    at: int
    leaf: Leaf | None

    def at_cell(self, cell: int) -> int:
        """Return the number of the leaf on which a cell is."""
        return max(bisect.bisect_right(self.starts, cell * CELL + CELL // 2) - 1, 0)


class Shelf:
    """The works of one creator, or everybody's for an operator. Calls block on the store."""

    def __init__(
        self, engine: sa.Engine, settings: Settings, caller: Principal, *, clock: Clock, ids: Ids
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._creator = caller.creator_id
        self._clock = clock
        self._ids = ids
        self._catalogue = Catalogue(
            engine,
            clock=clock,
            ids=ids,
            default_consent=settings.catalogue.default_consent,
            actor=caller.creator_id or caller.name or caller.key_id,
        )
        self._ownership = Ownership(engine, clock=clock, ids=ids, creator=caller.creator_id)
        self._links = Links(engine, clock=clock, creator=caller.creator_id, by=caller.name or caller.key_id)

    def page(self, after_seq: int, limit: int, creator: str = "") -> tuple[list[Row], int | None]:
        """Return works in the order of registration, and where the next page begins, None at the end."""
        found = self._catalogue.works(creator=self._creator or creator, after_seq=after_seq, limit=limit + 1)
        held = shelf_store.held_among(self._engine, [one.id for one in found])
        rows = [work_row(one) | {"held": _why(held, one.id)} for one in found[:limit]]
        return rows, found[limit - 1].registered_seq if len(found) > limit else None

    def one(self, work_id: str) -> Row:
        """Return a work with everything that was said of it. Raises NotFound, also for another's."""
        entry = self._own(work_id)
        alone = [(entry.creator_id, self._catalogue.creator(entry.creator_id).name, WHOLE_PPM)]
        parts = shelf_store.split_of(self._engine, entry.id) or alone
        split = [{"party": who, "name": name, "ppm": ppm} for who, name, ppm in parts]
        said = {consent.use.value: consent.verdict for consent in self._catalogue.consents(entry.id)}
        claims = self._ownership.claims(work_id=entry.id)
        return work_row(entry) | {
            "held": _why(shelf_store.held_among(self._engine, [entry.id]), entry.id),
            "split": split,
            "consents": said,
            "attested": [
                {"by": one.attested_by, "at": iso_utc(one.at_us)}
                for one in self._ownership.attestations(entry.id)
            ],
            "identifiers": [one.identifier for one in self._ownership.identifiers(entry.id)],
            **self._linked(entry.id),
            "claims": [
                {"id": one.id, "state": one.state, "opened": iso_utc(one.opened_us)} for one in claims
            ],
        }

    def allow(self, work_id: str, use: str, verdict: str) -> Row:
        """Say what may be done with a work from now on."""
        entry = self._own(work_id)
        consent = Consent.of(use, verdict)
        seq = self._catalogue.set_consent(entry.id, consent)
        return {"work": entry.id, "use": consent.use.value, "verdict": consent.verdict, "seq": seq}

    def link(self, work_id: str, kind: str, of: str) -> Row:
        """State what a work is of another: anybody's by its id, one's own by its ref too."""
        stated, entry = kind_of(kind), self._own(work_id)
        other = self._catalogue.works_by_id([of]).get(of)
        try:
            other = other or self._catalogue.find_work(of, creator=self._creator)
        except NotFound as error:
            remedy = "name it by its id, or one of your own by its name here"
            raise NotFound(error.cause, remedy=remedy) from error
        changed = self._links.state(entry.id, stated, other.id)
        return {"work": entry.id, "kind": stated, "of": other.id, "changed": changed}

    def unlink(self, work_id: str, of: str) -> Row:
        """End a link between two works of which one is the caller's."""
        return {"work": work_id, "of": of, "changed": self._links.end(work_id, of)}

    def withdraw(self, work_id: str) -> Row:
        """Withdraw a work, for ever."""
        entry = self._own(work_id)
        return {"work": entry.id, "status": "withdrawn", "changed": self._catalogue.withdraw(entry.id)}

    def drawn(self, work_id: str, month: str = "", at: int = 0) -> Drawn:
        """Return what answers drew on, in `month` ("2026-11") or ever, and leaf `at` of the creator's text.

        Raises NotFound, also for another's; Forbidden for an operator, who has no business in a text.
        """
        entry = self._own(work_id)
        if not self._creator:
            raise Forbidden("a work's text is its creator's to read", remedy="ask with the creator's key")
        if month and not MONTH.fullmatch(month):
            raise BadRequest(f"'{printable(month, 20)}' is no month", remedy="write it like 2026-11")
        sums = passages_of(self._engine, entry.id, month, now_us=self._clock.now_us())
        try:
            text = self._catalogue.text(entry.id)
        except NotFound:  # erased: what is counted stays
            return Drawn(entry, sums, (0,), 0, 0, None)
        starts = tuple(leaf_starts(text))
        at = min(max(at, 0), len(starts) - 1)
        start, end = starts[at], [*starts[1:], len(text)][at]
        uses = uses_between(self._engine, entry.id, start, end, month)
        return Drawn(entry, sums, starts, len(text), at, leaf(text, start, end, uses))

    def take(self, folder: Path, consent: Given | None) -> list[Outcome]:
        """Register what lies in `folder`, file by file, as the creator's own and by their own word."""
        if not self._creator:
            raise BadRequest(
                "an operator is no creator", remedy="`endcredits works add` registers for others"
            )
        bytes_max = self._settings.catalogue.file_bytes_max
        defaults = Defaults(creator=self._creator, consent=consent, bytes_max=bytes_max)
        outcomes: list[Outcome] = []
        for path in sorted(folder.iterdir()):
            rows = self._mine(read(path, defaults))
            added = self._catalogue.add_works(rows, new_creators=False, creators_attest=True)
            outcomes += [
                dataclasses.replace(one, place=one.place.replace(f"{folder}/", "", 1)) for one in added
            ]
        if any(one.status == "added" for one in outcomes):
            default = self._settings.catalogue.default_consent
            Licences(self._engine, clock=self._clock, ids=self._ids, default=default).judge_all()
        return outcomes

    def _mine(self, rows: Iterable[NewWork | Refusal]) -> Iterator[NewWork | Refusal]:
        ref = self._catalogue.creator(self._creator).ref
        for row in rows:
            if isinstance(row, NewWork) and row.creator not in {self._creator, ref}:
                why = f"this row is of '{printable(row.creator, 60)}', who is not you"
                yield Refusal(row.place, row.ref, why, "leave creator_id out: what you upload is yours")
            elif isinstance(row, NewWork) and row.adapts:
                # It would let a copy through that is held otherwise.
                why = "what a work adapts, and by which licence, is said by whoever runs this"
                yield Refusal(row.place, row.ref, why, "leave adapts out, and write to them")
            elif isinstance(row, NewWork):
                # Neither a date of their own making, nor a name that others are shown under.
                yield dataclasses.replace(
                    row, creator=self._creator, creator_name="", registered_us=None, split=None
                )
            else:
                yield row

    def _linked(self, work_id: str) -> dict[str, list[Row]]:
        """Return a work's links and adaptations, both ways. Who stated a link, an operator is told."""
        of, to = self._links.of(work_id), self._links.to(work_id)
        made, by = self._ownership.adapts(work_id), self._ownership.adapted_by(work_id)[:SHOWN_MAX]
        named = {one.of for one in of} | {one.work_id for one in to} | {one.work for one in made} | {*by}
        known = self._catalogue.works_by_id(named)

        def row(one: StatedLink, other: str) -> Row:
            entry = known[other]
            told = {"kind": one.kind, "work": other, "title": entry.title, "stated": iso_utc(one.at_us)}
            own = {"own": entry.creator_id == self._creator} if self._creator else {"by": one.by}
            return told | own

        return {
            "links": [row(one, one.of) for one in of],
            "linked_by": [row(one, one.work_id) for one in to],
            "adapts": [{"work": one.work, "title": known[one.work].title, "ppm": one.ppm} for one in made],
            "adapted_by": [{"work": one, "title": known[one].title} for one in by],
        }

    def _own(self, work_id: str) -> WorkEntry:
        entry = self._catalogue.works_by_id([work_id]).get(work_id)
        if entry is None or (self._creator and entry.creator_id != self._creator):
            raise NotFound(f"there is no work '{printable(work_id, 60)}'", remedy="take its id from the list")
        return entry


def works_router(engine: sa.Engine, settings: Settings, *, clock: Clock, ids: Ids) -> Router:
    """Return /api/works."""
    allowed = [requires(Action.EDIT_OWN_WORKS)]

    def shelf(caller: Principal) -> Shelf:
        return Shelf(engine, settings, caller, clock=clock, ids=ids)

    @get("", guards=allowed)
    async def listed(
        caller: NamedDependency[Principal],
        cursor: FromQuery[int] = 0,
        creator: FromQuery[str] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 100,
    ) -> Row:
        """Works in the order of registration: one's own, or everybody's for an operator."""
        rows, following = await of_pages(shelf(caller).page, cursor, limit, creator)
        return {"items": rows, "next_cursor": following}

    @get("/{work:str}", guards=allowed)
    async def one(caller: NamedDependency[Principal], work: FromPath[str]) -> Row:
        """One work: its split, what is allowed, what holds it up."""
        return await of_pages(shelf(caller).one, work)

    @get("/{work:str}/passages", guards=allowed)
    async def passages(
        caller: NamedDependency[Principal],
        work: FromPath[str],
        month: FromQuery[str] = "",
        cursor: Annotated[int, QueryParameter(ge=0)] = 0,
    ) -> Row:
        """Which passages of one's own text answers drew on, a part of the text at a time."""
        drawn = await of_pages(shelf(caller).drawn, work, month, cursor)
        names = await of_pages(app_names, engine)
        return drawn_row(drawn, names)

    @post("", guards=allowed, request_max_body_size=settings.server.body_bytes_max)
    async def add(caller: NamedDependency[Principal], request: Request[Any, Any, Any]) -> Row:
        """Register the files of a multipart form: what became of each text, in order."""
        form = await request.form()
        return {"items": await taken(shelf(caller), form.getall("files", []), str(form.get("consent", "")))}

    @post("/{work:str}/consents", guards=allowed, status_code=200)
    async def allow(
        caller: NamedDependency[Principal], work: FromPath[str], data: JSONBody[ConsentIn]
    ) -> Row:
        """Say what may be done with a work from now on."""
        return await of_pages(shelf(caller).allow, work, data.use, data.verdict)

    @post("/{work:str}/links", guards=allowed, status_code=200)
    async def link(caller: NamedDependency[Principal], work: FromPath[str], data: JSONBody[LinkIn]) -> Row:
        """State what a work is of another: `recording_of`, `excerpt_of` or `translation_of`."""
        return await of_pages(shelf(caller).link, work, data.kind, data.of)

    @post("/{work:str}/unlink", guards=allowed, status_code=200)
    async def unlink(
        caller: NamedDependency[Principal], work: FromPath[str], data: JSONBody[UnlinkIn]
    ) -> Row:
        """End what a work was stated to be of another; one of both is one's own."""
        return await of_pages(shelf(caller).unlink, work, data.of)

    @post("/{work:str}/withdraw", guards=allowed, status_code=200)
    async def withdraw(caller: NamedDependency[Principal], work: FromPath[str]) -> Row:
        """Withdraw a work: still recognised, paid nothing any more."""
        return await of_pages(shelf(caller).withdraw, work)

    handlers: Sequence[BaseRouteHandler] = (listed, one, passages, add, allow, link, unlink, withdraw)
    return Router(
        "/api/works",
        route_handlers=handlers,
        dependencies={"caller": Provide(provide_principal)},
        cache_control=CacheControlHeader(no_store=True),
    )


async def taken(shelf: Shelf, files: Sequence[Any], consent: str) -> list[Row]:
    """Register uploaded files and return what became of each text. Raises BadRequest for nothing."""
    uploads = [one for one in files if isinstance(one, UploadFile) and one.filename]
    if not uploads:
        raise BadRequest("no file came", remedy="choose at least one file", code="no_files")
    if len(uploads) > FILES_MAX:
        raise BadRequest(f"{len(uploads)} files came", remedy=f"send {FILES_MAX} at once, or a list")
    given: Given | None = next((one for one in GIVEN if one == consent), None)
    with tempfile.TemporaryDirectory(prefix="endcredits-upload-") as kept:
        folder = Path(kept)
        for upload in uploads:
            with (folder / _name_of(upload.filename, folder)).open("wb") as file:
                while piece := await upload.read(PIECE_BYTES):
                    file.write(piece)
        outcomes = await of_pages(shelf.take, folder, given)
    return [dataclasses.asdict(one) for one in outcomes]


def _name_of(said: str, folder: Path) -> str:
    """Return the name an upload is kept under, which becomes its ref. Raises BadRequest where there is none.

    A browser may say anything: only a name is taken, which is no path and hides nothing.
    """
    name = printable(PurePath(said.replace("\\", "/")).name, NAME_BYTES_MAX).lstrip(".") or "text.txt"
    if len(name.encode()) > NAME_BYTES_MAX:
        raise BadRequest("a file's name is too long", remedy="give it a shorter one", code="file_name")
    if (folder / name).exists():  # the second would take the place of the first
        raise BadRequest(
            f"two files are called '{name}'", remedy="rename one, or send them one by one", code="file_name"
        )
    return name


def work_row(entry: WorkEntry) -> Row:
    """Return a work as lists show it."""
    return {
        "id": entry.id,
        "ref": entry.ref,
        "creator": entry.creator_id,
        "creator_ref": entry.creator_ref,
        "title": entry.title,
        "medium": entry.medium,
        "licence": entry.licence,
        "url": entry.url,
        "text_bytes": entry.text_bytes,
        "registered": iso_utc(entry.registered_us),
        "status": entry.status,
        "verdict": entry.verdict,
    }


def drawn_row(drawn: Drawn, names: Mapping[str, str]) -> Row:
    """Return what answers drew on as /api tells it. names: of apps, by id."""

    def told(by: Sequence[By]) -> list[Row]:
        return [
            {"app": one.app, "name": names.get(one.app, ""), "model": one.model, "answers": one.answers}
            for one in by
        ]

    sums, shown = drawn.sums, drawn.leaf
    return {
        "work": drawn.work.id,
        "answers": sums.answers,
        "months": [{"month": month, "answers": answers} for month, answers in sums.months],
        "by": told(sums.by),
        "characters": drawn.characters,
        "is_text_kept": shown is not None,
        "items": [
            {"start": one.start, "end": one.end, "answers": one.answers, "by": told(one.by)}
            for one in (shown.passages if shown else ())
        ],
        "next_cursor": drawn.at + 1 if drawn.at + 1 < len(drawn.starts) else None,
    }


def _why(held: dict[str, Any], work: str) -> Row | None:
    if work not in held:
        return None
    why, said = held[work]
    return {
        "kind": why.kind,
        "note": why.note,
        "copy_of": why.copy_of,
        "part_ppm": why.part_ppm,
        "said": said,
    }
