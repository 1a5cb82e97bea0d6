"""The composition root: the one file that knows everybody.

`create_app` puts a Litestar application over what a worker runs (`running.py`): `/v1` goes raw to the relay,
everything else is ordinary handlers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from litestar import Litestar, asgi
from litestar.openapi.config import OpenAPIConfig
from litestar.types import Receive, Scope, Send

from proxy import __version__
from proxy.access.guards import RING
from proxy.access.identities_store import Identities
from proxy.access.providers import providers_of
from proxy.access.sessions_store import Sessions
from proxy.billing.paying import Paying
from proxy.billing.proving import Prover
from proxy.catalogue.excerpts import Excerpts
from proxy.catalogue.lookup_store import counts
from proxy.catalogue.store import Catalogue
from proxy.outside import Outside
from proxy.portal.api import api_router
from proxy.portal.appeals import appeals_router
from proxy.portal.apps import Apps, apps_router
from proxy.portal.assets import Assets
from proxy.portal.audits import Audits, audits_router
from proxy.portal.builds import Builds, index_router
from proxy.portal.claims import claims_router
from proxy.portal.compensation import compensation_router
from proxy.portal.creators import Office
from proxy.portal.described import DescribedJson, DescribedYaml
from proxy.portal.developers import Desk
from proxy.portal.doors import Doors, told_of
from proxy.portal.health import health_handlers
from proxy.portal.identities import Ways, identities_router, identity_pages
from proxy.portal.inside import inside_pages
from proxy.portal.licences import licences_router
from proxy.portal.log import log_router, proofs_router, shown_receipt
from proxy.portal.matters import matters_router
from proxy.portal.operators import Watch
from proxy.portal.pages import Pages
from proxy.portal.payouts import payouts_router
from proxy.portal.persons import persons_router
from proxy.portal.playground import playground_pages
from proxy.portal.previews import Previewer, previews_router
from proxy.portal.problems import answer_problem
from proxy.portal.public import Looking, Public, public_pages, public_router
from proxy.portal.registrar import registrar_router
from proxy.portal.site import front_door, portal_router
from proxy.portal.splits import splits_router
from proxy.portal.verifying import verifier_page
from proxy.portal.webhooks import webhooks_router
from proxy.portal.works import works_router
from proxy.relay.recognising import Recognising
from proxy.relay.watched import Watching
from proxy.running import Running
from proxy.settings import Settings

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


def create_app(settings: Settings, **parts: Any) -> Litestar:
    """Return the application; `parts` are Running's stand-ins."""
    running = Running(settings, **parts)

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        assert running.relay is not None
        await running.relay(scope, receive, send)

    serve = plain if running.telemetry is None else running.telemetry.traced(plain)

    @asgi("/v1", is_mount=True, copy_scope=False)
    async def relay(scope: Scope, receive: Receive, send: Send) -> None:
        await serve(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncGenerator[None]:
        await running.start()
        try:
            yield
        finally:
            await running.stop()
            if providers:
                await outside().aclose()

    assets = Assets()
    pages = Pages(assets, told_of)
    rules = settings.portal
    sessions = Sessions(
        running.engine,
        clock=running.clock,
        session_hours=rules.session_hours,
        link_hours=rules.link_hours,
    )
    outside = functools.cache(Outside)  # for providers alone: it reads the machine's certificates
    providers = providers_of(settings.oidc, outside, running.clock)
    titles = [(one.name, one.title) for one in providers.values()]
    doors = Doors(sessions, settings, running.clock, titles)
    linked = Identities(running.engine, clock=running.clock, ids=running.ids)
    ways = Ways(doors, sessions, linked, providers)
    catalogue = Catalogue(running.engine, clock=running.clock, ids=running.ids)
    passages = Excerpts(running.credit_of, catalogue.text)
    watching = Watching(serve, running.attributing, credited=running.credits, passages=passages)
    playground = playground_pages(
        pages,
        running.engine,
        holder=running.keyring.holder,
        answers=watching,
        models=watching.models,
        credit=running.credit_of,
    )
    public = Public(
        running.engine,
        running.issuer,
        Looking(Recognising(running.attributing), running.works_at),
        clock=running.clock,
        method=lambda: running.attributing.method,
        count=functools.partial(counts, running.engine),
    )
    seen_by_all = [*public_pages(pages, public, doors.peer, doors.form_page), verifier_page()]
    paying = Paying(running.engine, settings, clock=running.clock, ids=running.ids)
    prover = Prover(running.engine, running.issuer)
    office = Office(pages, running.engine, settings, paying, running.clock, running.ids, prover)
    watch = Watch(running.metrics, running.checks, [(b.name, b.url) for b in settings.backends])
    apps = Apps(running.engine, settings, running.prices, running.clock)
    shown = functools.partial(shown_receipt, running.engine, running.issuer)
    desk = Desk(office, apps, doors.origin, running.credit_of, shown)
    builds = Builds(running.engine, settings)
    seen_inside = [*inside_pages(office, sessions, watch, running.prices, desk, builds), *playground]
    seen_inside += identity_pages(pages, ways)
    app = Litestar(
        [
            relay,
            front_door,
            portal_router(pages, assets, doors, [*seen_inside, *seen_by_all]),
            works_router(running.engine, settings, clock=running.clock, ids=running.ids),
            appeals_router(office),
            claims_router(office),
            licences_router(office),
            registrar_router(office),
            splits_router(running.engine, clock=running.clock, ids=running.ids),
            public_router(public, doors.peer),
            api_router(running.engine, running.credit_of, [b.name for b in settings.backends]),
            apps_router(apps),
            payouts_router(running.engine, paying, catalogue),
            persons_router(running.engine, settings, running.clock),
            webhooks_router(running.engine, settings, running.clock),
            identities_router(ways),
            compensation_router(running.engine, settings.billing, clock=running.clock, ids=running.ids),
            matters_router(running.engine, settings.billing, running.clock),
            previews_router(Previewer(settings)),
            audits_router(Audits(settings)),
            index_router(builds),
            log_router(running.engine, running.issuer),
            proofs_router(running.engine, running.issuer, prover),
            *health_handlers(running.metrics, running.checks, running.about),
        ],
        lifespan=[lifespan],
        exception_handlers={Exception: answer_problem},
        openapi_config=OpenAPIConfig(
            title="Endcredits",
            version=__version__,
            use_handler_docstrings=True,
            # The other renderers load scripts from other people's hosts.
            render_plugins=[DescribedJson(), DescribedYaml()],
        ),
        logging_config=None,
    )
    app.state.running = running
    app.state.serve = serve
    app.state[RING] = running.keyring
    return app


def at_once(app: Litestar) -> Asgi:
    """Return the application with a shorter way to /v1: the framework's own costs as much as asking."""
    serve: Asgi = app.state.serve

    async def front(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan" and scope["raw_path"].startswith(b"/v1/"):
            await serve(scope, receive, send)
        else:
            await app(scope, receive, send)

    return front
