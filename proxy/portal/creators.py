"""What a creator sees: an overview, works and what used them, statements, disputes and claims.

Each page asks the functions that /api asks, for whoever is signed in, and prints what they say in words for
people who write. A form does one thing and leads back to the page that shows it; what is said there comes
from a list here and never from an address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from proxy.access.keys import Principal
from proxy.access.store import app_names
from proxy.asking import of_pages
from proxy.billing import daily_store, documents, periods_store
from proxy.billing import store as billing
from proxy.billing.disputes_store import Disputes
from proxy.billing.locales import Style
from proxy.billing.matter_rows import case_row, comment_row
from proxy.billing.money import PPM
from proxy.billing.paying import Paying
from proxy.billing.periods import state_at
from proxy.billing.periods_store import Comments
from proxy.billing.proving import Prover
from proxy.catalogue import shelf_store
from proxy.catalogue.agreements_store import Agreements
from proxy.catalogue.appeals_store import appeals_among
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import Use
from proxy.clock import Clock, Ids, iso_utc
from proxy.errors import BadRequest
from proxy.portal.cursors import page_of, place_in
from proxy.portal.doors import inside
from proxy.portal.pages import AnyRequest, Pages
from proxy.portal.papers import own_glance, own_statement, statement_document
from proxy.portal.proven import as_file, uses_reply
from proxy.portal.works import Shelf, taken
from proxy.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

WORKS_SHOWN: Final = 50
CASES_SHOWN: Final = 20
SPANS: Final = (30, 7, 90)  # days that a picture of use may show, the usual one first
DAY_US: Final = 86_400_000_000
LINES_SHOWN: Final = 20  # of a statement, the largest; its documents have all
SIGNED: Final = "signed.json"  # a statement with what shows it, and
BEHIND: Final = "uses.jsonl"  # the receipts behind it: documents that are checked, not read
CREATORS: Final = [inside("creator")]
DONE: Final[Mapping[str, str]] = {
    "allowed": "What you allow is kept, and holds from the next answer on.",
    "withdrawn": "The work is withdrawn. It will still be recognised, so that nobody else earns with it.",
    "appealed": "Your appeal is with whoever runs this place. Their answer will stand here.",
    "said": "Your comment is with whoever runs this place. Their answer will stand below it.",
    "opened": "Your dispute is open. What it is about is held until it is settled.",
    "answered": "Your answer is kept.",
    "taken-back": "You took the dispute back; what it held is owed to you again.",
    "claimed": "Your claim is open. Whoever runs this place will look at what you gave.",
}
# In the order in which they matter to somebody who writes, with what each means.
USES: Final[Sequence[tuple[Use, str, str]]] = (
    (
        Use.OUTPUT_INFLUENCE,
        "Answers may draw on it",
        "When an answer uses your words or your story. This is what pays.",
    ),
    (Use.EXCERPT_DISPLAY, "A passage may be shown", "Beside an answer, as evidence that it came from you."),
    (
        Use.GROUND,
        "It may be looked up for an answer",
        "A program reads it at that moment to answer a question.",
    ),
    (Use.SEARCH, "It may be found in a search", "Listed with its title, so that people come to you."),
    (Use.INDEX, "It may be in the index", "So that it is recognised at all."),
    (Use.TRAIN_GEN, "A model that writes may learn from it", "It becomes part of what the model knows."),
    (
        Use.FINETUNE,
        "A model may be shaped by it",
        "To make it better at one thing, with your work as the example.",
    ),
    (
        Use.TRAIN_OTHER,
        "Other models may learn from it",
        "Such that sort, translate or check, and write nothing.",
    ),
    (Use.STYLE_IMITATION, "Your style may be imitated", "Somebody asks for a text the way you write."),
    (Use.VOICE_LIKENESS, "Your voice may be imitated", "As a speaker or a singer."),
    (Use.DERIVATIVE, "It may be made into something else", "A translation, a script, a song from a story."),
)
GIVEN: Final = (
    ("", "Nothing said"),
    ("paid", "Yes, for pay"),
    ("free", "Yes, for nothing"),
    ("denied", "No"),
)


@dataclass(frozen=True, slots=True)
class Office:
    """What the pages lean on."""

    pages: Pages
    engine: sa.Engine
    settings: Settings
    paying: Paying
    clock: Clock
    ids: Ids
    prover: Prover

    def shelf(self, caller: Principal) -> Shelf:
        """Return the works that are the caller's."""
        return Shelf(self.engine, self.settings, caller, clock=self.clock, ids=self.ids)

    def disputes(self, caller: Principal) -> Disputes:
        """Return the disputes that the caller may see."""
        return Disputes(self.engine, clock=self.clock, creator=caller.creator_id, by=_name(caller))

    def comments(self, caller: Principal) -> Comments:
        """Return what is said about the caller's statements."""
        return Comments(self.engine, clock=self.clock, creator=caller.creator_id, by=_name(caller))

    def statements(self, caller: Principal) -> list[dict[str, Any]]:
        """Return the caller's statements with the state of their periods."""
        found = billing.list_statements(self.engine, creator=caller.creator_id)
        until, now_us = periods_store.windows(self.engine), self.clock.now_us()
        return [
            {
                "id": one.id,
                "period": one.period,
                "currency": one.currency,
                "earned_grains": one.earned_grains,
                "closing_grains": one.closing_grains,
                "state": state_at(until.get(one.period, 0), now_us),
                "until": until.get(one.period, 0),
            }
            for one in found
        ]


def creator_pages(office: Office) -> Sequence[BaseRouteHandler]:
    """Return the handlers of creators' pages, but for the overview, which is at /portal/."""
    return (*_works(office), *_uses(office), *_statements(office), *_matters(office))


async def overview(office: Office, request: AnyRequest, caller: Principal) -> Response[bytes]:
    """The first page of a creator: what stands, what waits, what to do next."""

    def read() -> dict[str, Any]:
        kept = office.paying.payees(_name(caller))
        open_cases = office.disputes(caller).cases(open_only=True)
        return {
            "standing": office.paying.standing(caller.creator_id),
            "statements": office.statements(caller)[:3],
            "works": shelf_store.count_works(office.engine, caller.creator_id),
            "has_account": bool(kept.known(caller.creator_id)),
            "open_cases": len(open_cases),
            "to_answer": _to_answer(office, caller),
        }

    return office.pages.page(request, "creator.html.jinja", **await of_pages(read))


def _works(office: Office) -> Sequence[BaseRouteHandler]:
    pages = office.pages

    @get("/works", guards=CREATORS)
    async def works(
        request: AnyRequest, caller: NamedDependency[Principal], after: FromQuery[int] = 0
    ) -> Response[bytes]:
        """One's works, in the order of registration."""
        shelf = office.shelf(caller)
        rows, following = await of_pages(shelf.page, max(after, 0), WORKS_SHOWN)
        number = await of_pages(shelf_store.count_works, office.engine, caller.creator_id)
        return pages.page(
            request, "works.html.jinja", works=rows, following=following, after=after, number=number
        )

    @post("/works", guards=CREATORS, request_max_body_size=office.settings.server.body_bytes_max)
    async def upload(request: AnyRequest, caller: NamedDependency[Principal]) -> Response[bytes]:
        """Register uploaded files, and say what became of each."""
        form = await request.form()
        if form.get("attest") != "yes":
            raise BadRequest(
                "nobody said that the texts are yours", remedy="tick the box below the files, if they are"
            )
        rows = await taken(office.shelf(caller), form.getall("files", []), str(form.get("consent", "")))
        return pages.page(request, "uploaded.html.jinja", rows=rows)

    @get("/works/{work:str}", guards=CREATORS)
    async def work(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        work: FromPath[str],
        done: FromQuery[str] = "",
    ) -> Response[bytes]:
        """One work: what is allowed, whose parts it has, what holds it up."""
        row = await of_pages(office.shelf(caller).one, work)
        return pages.page(
            request,
            "work.html.jinja",
            work=row,
            appeal=(await of_pages(appeals_among, office.engine, [row["id"]])).get(row["id"]),
            uses=USES,
            given=GIVEN,
            split_rows=_roll(row["split"], pages.style(request)),
            done=DONE.get(done, ""),
        )

    @post("/works/{work:str}/consents", guards=CREATORS)
    async def allow(
        request: AnyRequest, caller: NamedDependency[Principal], work: FromPath[str]
    ) -> Response[Any]:
        """Keep what is allowed now, where it is not what was allowed before."""
        form, shelf = await request.form(), office.shelf(caller)
        row = await of_pages(shelf.one, work)
        for use, _, _ in USES:
            wanted = str(form.get(use.value, ""))
            if wanted and wanted != row["consents"].get(use.value):
                await of_pages(shelf.allow, work, use.value, wanted)
        return Redirect(f"/portal/works/{row['id']}?done=allowed", status_code=303)

    @post("/works/{work:str}/withdraw", guards=CREATORS)
    async def withdraw(
        request: AnyRequest, caller: NamedDependency[Principal], work: FromPath[str]
    ) -> Response[Any]:
        """Withdraw a work, when that was said twice."""
        if (await request.form()).get("sure") != "yes":
            raise BadRequest("this cannot be undone", remedy="tick the box that says that you are sure")
        row = await of_pages(office.shelf(caller).withdraw, work)
        return Redirect(f"/portal/works/{row['work']}?done=withdrawn", status_code=303)

    return (works, upload, work, allow, withdraw)


def _uses(office: Office) -> Sequence[BaseRouteHandler]:
    @get("/uses", guards=CREATORS)
    async def uses(
        request: AnyRequest, caller: NamedDependency[Principal], span: FromQuery[int] = 30
    ) -> Response[bytes]:
        """What used one's works: by day, app and model, and the works that were used most."""
        chosen = span if span in SPANS else SPANS[0]
        first_us = office.clock.now_us() - (chosen - 1) * DAY_US

        def read() -> dict[str, Any]:
            found = daily_store.uses_of(office.engine, caller.creator_id, iso_utc(first_us)[:10])
            return {"uses": found, "names": app_names(office.engine)}

        known = await of_pages(read)
        return office.pages.page(request, "uses.html.jinja", span=chosen, spans=SPANS, **known)

    return (uses,)


def _statements(office: Office) -> Sequence[BaseRouteHandler]:
    pages, engine = office.pages, office.engine

    @get("/statements", guards=CREATORS)
    async def statements(request: AnyRequest, caller: NamedDependency[Principal]) -> Response[bytes]:
        """One's statements, newest first."""
        found = await of_pages(office.statements, caller)
        return pages.page(request, "statements.html.jinja", statements=found)

    @get("/statements/{name:str}", guards=CREATORS)
    async def statement(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        name: FromPath[str],
        done: FromQuery[str] = "",
    ) -> Response[Any]:
        """One statement, in words; as a document when its name has a suffix."""
        statement_id, _, suffix = name.partition(".")
        if suffix == SIGNED:
            found = await of_pages(own_statement, engine, caller, statement_id)
            return as_file(await of_pages(office.prover.statement_file, found))
        if suffix == BEHIND:
            return await uses_reply(engine, office.prover, caller, statement_id)
        if suffix:
            languages = request.headers.get("accept-language", "")
            return await statement_document(engine, office.clock, caller, name, languages=languages)

        def read() -> dict[str, Any]:
            found = own_glance(engine, caller, name, LINES_SHOWN)
            until = periods_store.until(engine, found.statement.period)
            return {
                "statement": found.statement,
                "lines": found.largest,
                "count": found.count,
                "disputable": list({line.work: line.title or line.work for _, line in found.largest}.items()),
                "state": state_at(until, office.clock.now_us()),
                "until": until,
                "comments": [comment_row(one) for one in office.comments(caller).of(name)],
            }

        known = await of_pages(read)
        signed = await of_pages(office.prover.has_signed, known["statement"].period)
        forms = [(form, documents.SUFFIXES.get(form, form)) for form in documents.MAKERS]
        told = {"forms": forms, "done": DONE.get(done, ""), "signed": signed}
        return pages.page(request, "statement.html.jinja", **told, **known)

    @post("/statements/{name:str}/comments", guards=CREATORS)
    async def say(
        request: AnyRequest, caller: NamedDependency[Principal], name: FromPath[str]
    ) -> Response[Any]:
        """Comment on a draft."""
        text = str((await request.form()).get("text", ""))
        said, _ = await of_pages(office.comments(caller).say, name, text)
        return Redirect(f"/portal/statements/{said.statement}?done=said", status_code=303)

    @post("/statements/{name:str}/disputes", guards=CREATORS)
    async def dispute(
        request: AnyRequest, caller: NamedDependency[Principal], name: FromPath[str]
    ) -> Response[Any]:
        """Dispute a statement, or what one work has in it."""
        form = await request.form()
        case, _ = await of_pages(
            office.disputes(caller).open,
            name,
            str(form.get("reason", "")),
            work=str(form.get("other", "")).strip() or str(form.get("work", "")),
            answer_days=office.settings.billing.answer_days,
        )
        return Redirect(f"/portal/matters/{case.id}?done=opened", status_code=303)

    return (statements, statement, say, dispute)


def _matters(office: Office) -> Sequence[BaseRouteHandler]:
    pages = office.pages

    def ownership(caller: Principal) -> Ownership:
        return Ownership(office.engine, clock=office.clock, ids=office.ids, creator=caller.creator_id)

    @get("/matters", guards=CREATORS)
    async def matters(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        work: FromQuery[str] = "",
        before: FromQuery[str] = "",
        done: FromQuery[str] = "",
    ) -> Response[bytes]:
        """Disputes about one's money and claims that one made; `work` is what a new claim would be on."""

        def read() -> dict[str, Any]:
            cases = cases_page(office, caller, before, CASES_SHOWN)
            claims = ownership(caller).claims(claimant=caller.creator_id)
            catalogue = Catalogue(office.engine, clock=office.clock, ids=office.ids)
            works = catalogue.works_by_id({one.work_id for one in claims})
            titles = {work: entry.title for work, entry in works.items()}
            return {
                "cases": cases["items"],
                "following": cases["next_cursor"],
                "claims": [
                    {"id": one.id, "work": one.work_id, "title": titles.get(one.work_id, ""),
                     "state": one.state, "basis": one.basis, "opened": iso_utc(one.opened_us),
                     "reason": one.reason}
                    for one in reversed(claims)
                ],
            }  # fmt: skip

        known = await of_pages(read)
        known |= {"work": work[:60], "before": before, "done": DONE.get(done, "")}
        return pages.page(request, "matters.html.jinja", **known)

    @get("/matters/{case:str}", guards=CREATORS)
    async def matter(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        case: FromPath[str],
        done: FromQuery[str] = "",
    ) -> Response[bytes]:
        """One dispute with its clock and all that was said."""
        found = await of_pages(office.disputes(caller).case, case)
        row = case_row(*found, office.clock.now_us())
        mine = found[0].side == "creator" and found[0].opened_by == caller.creator_id
        return pages.page(request, "matter.html.jinja", case=row, mine=mine, done=DONE.get(done, ""))

    @post("/matters/{case:str}/answer", guards=CREATORS)
    async def answer(
        request: AnyRequest, caller: NamedDependency[Principal], case: FromPath[str]
    ) -> Response[Any]:
        """Answer a dispute that somebody else opened."""
        text = str((await request.form()).get("text", ""))
        found, _ = await of_pages(office.disputes(caller).answer, case, text)
        return Redirect(f"/portal/matters/{found.id}?done=answered", status_code=303)

    @post("/matters/{case:str}/withdraw", guards=CREATORS)
    async def take_back(
        request: AnyRequest, caller: NamedDependency[Principal], case: FromPath[str]
    ) -> Response[Any]:
        """Take back a dispute of one's own."""
        reason = str((await request.form()).get("reason", ""))
        found, _ = await of_pages(office.disputes(caller).withdraw, case, reason)
        return Redirect(f"/portal/matters/{found.id}?done=taken-back", status_code=303)

    @post("/claims", guards=CREATORS)
    async def claim(request: AnyRequest, caller: NamedDependency[Principal]) -> Response[Any]:
        """Say that a work which stands under another name is one's own."""
        form = await request.form()
        evidence = str(form.get("evidence", "")).split()
        await of_pages(
            ownership(caller).open_claim,
            str(form.get("work", "")).strip(),
            caller.creator_id,
            str(form.get("basis", "")),
            evidence,
        )
        return Redirect("/portal/matters?done=claimed", status_code=303)

    return (matters, matter, answer, take_back, claim)


def cases_page(office: Office, caller: Principal, before: str, limit: int) -> dict[str, Any]:
    """Return a page of the disputes that the caller may see, as /api/disputes has it."""
    now_us, place = office.clock.now_us(), place_in(before)
    found = office.disputes(caller).cases(before=place, limit=limit + 1)
    return page_of(
        found, limit, lambda one: case_row(*one, now_us), lambda one: (one[0].opened_us, one[0].id)
    )


def _to_answer(office: Office, caller: Principal) -> int:
    """Return how many proposed splits wait for the caller's word."""
    agreements = Agreements(office.engine, clock=office.clock, ids=office.ids, creator=caller.creator_id)
    waiting = agreements.mine(open_only=True)
    return sum(caller.creator_id in one.proposal.waits_for for one in waiting)


def _name(caller: Principal) -> str:
    return caller.creator_id or caller.name or caller.key_id


def _roll(split: Sequence[Mapping[str, Any]], style: Style) -> list[tuple[str, str]]:
    return [
        (style.percent(part["ppm"], PPM), part["name"] or "Nobody yet: it waits for whoever it is")
        for part in split
    ]
