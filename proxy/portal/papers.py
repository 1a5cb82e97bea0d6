"""A statement as a document, for scripts and for people: one function, so that both get the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar import Response

from proxy.access.keys import Principal
from proxy.asking import of_pages
from proxy.billing import documents, periods_store
from proxy.billing import store as billing
from proxy.billing.kept import Glance
from proxy.billing.locales import preferred
from proxy.billing.periods import state_at
from proxy.billing.statement import Statement
from proxy.clock import Clock
from proxy.errors import NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

# A statement page carries its own style and nothing else may run or load in it.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def own_statement(engine: sa.Engine, caller: Principal, statement_id: str) -> Statement:
    """Return a statement that the caller may read. Raises NotFound, also for another creator's."""
    found = billing.statement(engine, statement_id)
    _refuse_others(caller, found)
    return found


def _refuse_others(caller: Principal, statement: Statement) -> None:
    if caller.role == "creator" and statement.creator != caller.creator_id:
        raise NotFound(f"no statement {statement.id}", remedy="`endcredits statements list` shows them")


def own_glance(engine: sa.Engine, caller: Principal, statement_id: str, lines_max: int) -> Glance:
    """Return what a page shows of a statement of the caller's own. Raises NotFound, also for another's."""
    found = billing.glance(engine, statement_id, lines_max)
    _refuse_others(caller, found.statement)
    return found


async def statement_document(
    engine: sa.Engine, clock: Clock, caller: Principal, name: str, *, locale: str = "", languages: str = ""
) -> Response[bytes]:
    """Return `name`, {id}.json, .csv, .tsv, .distributor.tsv, .html or .pdf, as a download or a page.

    Numbers, money and dates of the last two are written for `locale`, else for `languages`, Accept-Language.
    """
    statement_id, _, suffix = name.partition(".")
    form = documents.form_of(suffix or "json")
    if form is None:
        known = ", ".join(documents.SUFFIXES.get(one, one) for one in documents.MAKERS)
        raise NotFound(f"no such document {name[:100]}", remedy=f"ask for one of {known}")
    found = await of_pages(own_statement, engine, caller, statement_id)
    wanted = locale or (preferred(languages) if form in documents.FOR_EYES else "")
    until = await of_pages(periods_store.until, engine, found.period)
    dress = documents.dressed(form, wanted, state=state_at(until, clock.now_us()), until_us=until)
    content = await of_pages(documents.render, found, form, dress)
    place = "inline" if form == "html" else "attachment"
    headers = {
        "content-security-policy": PAGE_POLICY,
        "x-content-type-options": "nosniff",
        "content-disposition": f'{place}; filename="{documents.file_name(found, form)}"',
        "cache-control": "private, no-store",
        "vary": "accept-language",
    }
    return Response(content, media_type=documents.MEDIA_TYPES[form], headers=headers)
