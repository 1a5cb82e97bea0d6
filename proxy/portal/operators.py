"""What operators see first: health, works and what is held up, people and keys, and who did what.

Who acts is the name of the key or link that they signed in with. Decisions say what they do and when it
holds, because an operator is a person too. Money is in desk.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect
from prometheus_client.parser import text_string_to_metric_families

from proxy.access.identities_store import Identities
from proxy.access.keys import Principal
from proxy.access.sessions_store import Sessions
from proxy.access.store import list_keys, revoke
from proxy.asking import of_pages
from proxy.catalogue import shelf_store
from proxy.catalogue.agreements_store import Agreements, Person
from proxy.catalogue.appeals_store import appeals_among
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.store import Catalogue
from proxy.errors import BadRequest
from proxy.observability import Metrics
from proxy.portal.builds import Builds
from proxy.portal.creators import WORKS_SHOWN, Office
from proxy.portal.doors import inside
from proxy.portal.pages import AnyRequest

OPERATORS: Final = [inside("operator")]
CHANGES_SHOWN: Final = 100
DONE: Final[Mapping[str, str]] = {
    "released": "The work is released. It earns from the next index on, which is built under Works.",
    "upheld": "The work stays held, and its creator reads your reason.",
    "decided": "The claim is decided.",
    "revoked": "The key is revoked. Whoever is signed in with it is out at the next click.",
    "out": "They are signed out everywhere, and their open links are spoilt."
    " Their keys and linked accounts still sign them in: both are below.",
    "unlinked": "The account is linked no more, and whoever was signed in with it is out.",
    "creator": "The creator is registered. Make a link below, and send it to them.",
}
Checks = Callable[[], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Watch:
    """What a health page looks at."""

    metrics: Metrics
    checks: Checks
    backends: Sequence[tuple[str, str]]


def operator_pages(
    office: Office, sessions: Sessions, builds: Builds, origin: Callable[[AnyRequest], str]
) -> Sequence[BaseRouteHandler]:
    """Return the handlers of operators' pages but for health, which is at /portal/, and money.

    origin: our own address as the reader's browser has it.
    """
    return (*_works(office, builds), *_people(office, sessions, origin), *_log(office))


async def health(office: Office, watch: Watch, request: AnyRequest, _caller: Principal) -> Response[bytes]:
    """The first page of an operator: what runs, how fast, and what is behind."""
    checks = await watch.checks()
    text = (await of_pages(watch.metrics.exposed)).decode()
    return office.pages.page(
        request, "health.html.jinja", checks=checks, figures=figures(text), backends=watch.backends
    )


def figures(exposed: str) -> dict[str, Any]:
    """Return what a person wants to know of the metrics in Prometheus' text: counts, and means in ms."""
    values: dict[str, float] = {}
    by_label: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(exposed):
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                continue
            values[sample.name] = values.get(sample.name, 0) + sample.value
            told = " ".join(sample.labels.values())
            place = by_label.setdefault(sample.name, {})
            place[told] = place.get(told, 0) + sample.value

    def mean_ms(name: str) -> int | None:
        count = values.get(f"{name}_count", 0)
        return round(1_000 * values.get(f"{name}_sum", 0) / count) if count else None

    def counted(name: str) -> dict[str, int]:
        return {label: int(value) for label, value in sorted(by_label.get(name, {}).items())}

    return {
        "requests": int(values.get("endcredits_requests_total", 0)),
        "events": counted("endcredits_events_total"),
        "attributions": counted("endcredits_attributions_total"),
        "errors": counted("endcredits_backend_errors_total"),
        "circuits": counted("endcredits_backend_circuit_open"),
        "backlog_bytes": int(values.get("endcredits_backlog_bytes", 0)),
        "lag_records": int(values.get("endcredits_journal_lag_records", 0)),
        "left": int(values.get("endcredits_clients_left_total", 0)),
        "whole_ms": mean_ms("endcredits_request_seconds"),
        "backend_ms": mean_ms("endcredits_first_byte_seconds"),
        "settle_ms": mean_ms("endcredits_settle_seconds"),
        "sync_ms": mean_ms("endcredits_journal_sync_seconds"),
    }


def name_of(caller: Principal) -> str:
    """Return who acts, as it is kept."""
    return caller.name or caller.key_id


def named(office: Office, creators: Iterable[str]) -> dict[str, Person]:
    """Return {creator: who that is}, of those who are creators: operators are known by their names."""
    return Agreements(office.engine, clock=office.clock, ids=office.ids, creator="").named(creators)


def _works(office: Office, builds: Builds) -> Sequence[BaseRouteHandler]:
    pages, engine = office.pages, office.engine

    def ownership(caller: Principal) -> Ownership:
        return Ownership(engine, clock=office.clock, ids=office.ids, by=name_of(caller))

    @get("/desk/works", guards=OPERATORS)
    async def works(
        request: AnyRequest,
        caller: NamedDependency[Principal],
        after: FromQuery[int] = 0,
        creator: FromQuery[str] = "",
    ) -> Response[bytes]:
        """Every work, or those of a creator."""
        shelf = office.shelf(caller)
        rows, following = await of_pages(shelf.page, max(after, 0), WORKS_SHOWN, creator)
        known: dict[str, Any] = {"works": rows, "following": following, "after": after, "creator": creator}
        known["people"] = await of_pages(named, office, {one["creator"] for one in rows})
        index = await of_pages(builds.told)
        return pages.page(request, "desk-works.html.jinja", index=index, **known)

    @get("/desk/review", guards=OPERATORS)
    async def review(
        request: AnyRequest, caller: NamedDependency[Principal], done: FromQuery[str] = ""
    ) -> Response[bytes]:
        """What is held up and why, and claims that wait for a decision."""

        def read() -> dict[str, Any]:
            held = shelf_store.waiting(engine)
            claims = ownership(caller).claims(open_only=True)
            named = {one.held.work_id for one in held} | {one.held.copy_of for one in held}
            named |= {one.work_id for one in claims}
            catalogue = Catalogue(engine, clock=office.clock, ids=office.ids)
            return {
                "held": held[:WORKS_SHOWN],
                "held_all": len(held),
                "appeals": appeals_among(engine, [one.held.work_id for one in held]),
                "now_us": office.clock.now_us(),
                "claims": claims[:WORKS_SHOWN],
                "works": catalogue.works_by_id(named),
                "creators": {one.id: one.name for one in catalogue.creators()},
            }

        known = await of_pages(read)
        return pages.page(request, "review.html.jinja", done=DONE.get(done, ""), **known)

    @post("/desk/review/{work:str}", guards=OPERATORS)
    async def decide(
        request: AnyRequest, caller: NamedDependency[Principal], work: FromPath[str]
    ) -> Response[Any]:
        """Release a held work, or say that it stays held."""
        form = await request.form()
        decision = form.get("decision")
        if decision == "released":
            await of_pages(ownership(caller).review, work, "released", str(form.get("reason", "")))
            return Redirect("/portal/desk/review?done=released", status_code=303)
        if decision == "upheld":
            await of_pages(ownership(caller).review, work, "upheld", str(form.get("reason", "")))
            return Redirect("/portal/desk/review?done=upheld", status_code=303)
        raise BadRequest("no decision was made", remedy="choose to release it, or to hold it")

    @post("/desk/claims/{claim:str}", guards=OPERATORS)
    async def decide_claim(
        request: AnyRequest, caller: NamedDependency[Principal], claim: FromPath[str]
    ) -> Response[Any]:
        """Decide a claim, once."""
        form = await request.form()
        decision, reason = form.get("decision"), str(form.get("reason", ""))
        if decision == "upheld":
            await of_pages(ownership(caller).decide_claim, claim, "upheld", reason)
        elif decision == "rejected":
            await of_pages(ownership(caller).decide_claim, claim, "rejected", reason)
        else:
            raise BadRequest("no decision was made", remedy="choose to uphold it, or to reject it")
        return Redirect("/portal/desk/review?done=decided", status_code=303)

    return (works, review, decide, decide_claim)


def _people(
    office: Office, sessions: Sessions, origin: Callable[[AnyRequest], str]
) -> Sequence[BaseRouteHandler]:
    pages, engine = office.pages, office.engine

    def read() -> dict[str, Any]:
        creators = Catalogue(engine, clock=office.clock, ids=office.ids).creators()
        identities = Identities(engine, clock=office.clock, ids=office.ids).of()
        return {"keys": list_keys(engine), "creators": creators, "identities": identities}

    async def people_page(request: AnyRequest, **known: Any) -> Response[bytes]:
        told: dict[str, Any] = {"link": None, "done": ""} | await of_pages(read) | known
        return pages.page(request, "people.html.jinja", **told)

    @get("/desk/people", guards=OPERATORS)
    async def people(request: AnyRequest, done: FromQuery[str] = "") -> Response[bytes]:
        """Creators, keys, and links for both."""
        return await people_page(request, done=DONE.get(done, ""))

    @post("/desk/people/links", guards=OPERATORS)
    async def link(request: AnyRequest, caller: NamedDependency[Principal]) -> Response[bytes]:
        """Make a link that signs somebody in once, and show it, once."""
        form = await request.form()
        creator, name = str(form.get("creator", "")).strip(), str(form.get("name", "")).strip()
        role = "creator" if creator else "operator"
        made = await of_pages(
            sessions.link, role, creator=creator, name="" if creator else name, by=name_of(caller)
        )
        address = f"{origin(request)}/portal/enter/{made.secret}"
        return await people_page(
            request, link={"who": made.name, "until_us": made.until_us, "address": address}
        )

    @post("/desk/people/creators", guards=OPERATORS)
    async def creator(request: AnyRequest, caller: NamedDependency[Principal]) -> Response[Any]:
        """Register a creator."""
        name = str((await request.form()).get("name", "")).strip()
        catalogue = Catalogue(engine, clock=office.clock, ids=office.ids, actor=name_of(caller))
        await of_pages(catalogue.add_creator, name)
        return Redirect("/portal/desk/people?done=creator", status_code=303)

    @post("/desk/people/{creator:str}/sign-out", guards=OPERATORS)
    async def sign_out(creator: FromPath[str]) -> Response[Any]:
        """Sign a creator out everywhere."""
        await of_pages(sessions.end_all, creator)
        return Redirect("/portal/desk/people?done=out", status_code=303)

    @post("/desk/keys/{key:str}/revoke", guards=OPERATORS)
    async def revoke_key(caller: NamedDependency[Principal], key: FromPath[str]) -> Response[Any]:
        """Revoke a key."""
        await of_pages(revoke, engine, key, clock=office.clock, actor=name_of(caller))
        return Redirect("/portal/desk/people?done=revoked", status_code=303)

    return (people, link, creator, sign_out, revoke_key)


def _log(office: Office) -> Sequence[BaseRouteHandler]:
    @get("/desk/log", guards=OPERATORS)
    async def log(request: AnyRequest, before: FromQuery[int] = 0) -> Response[bytes]:
        """Who changed what in the registry, newest first."""

        def read() -> dict[str, Any]:
            found = shelf_store.changes(office.engine, max(before, 0), CHANGES_SHOWN + 1)
            shown = found[:CHANGES_SHOWN]
            catalogue = Catalogue(office.engine, clock=office.clock, ids=office.ids)
            return {
                "changes": shown,
                "following": shown[-1].seq if len(found) > CHANGES_SHOWN else 0,
                "works": catalogue.works_by_id({one.work_id for one in shown if one.work_id}),
                "people": named(office, {one.actor for one in shown}),
            }

        return office.pages.page(request, "log.html.jinja", before=before, **await of_pages(read))

    return (log,)
