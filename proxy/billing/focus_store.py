"""What the ledger charged each app for a closed period, and which answers it was charged for.

Answers are rated again by the rules of the close, and their sum must be what the ledger has, to the grain; a
document that disagrees with the ledger is not made.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from proxy.access.store import app_names
from proxy.billing import focus, ledger, policies_store, retention_store, store
from proxy.billing.focus import Charged, Frame, Used, UseKey
from proxy.billing.prices import PriceTable
from proxy.billing.schemes import rate
from proxy.billing.store import AccountRow, EntryRow, PeriodSummary, TransferRow
from proxy.errors import Conflict, NotFound
from proxy.settings import Settings

ISSUER = "Endcredits"  # where the settings name nobody
_tables = AccountRow.metadata.tables
_account, _entry, _transfer = (_tables[str(row.__tablename__)] for row in (AccountRow, EntryRow, TransferRow))


def charged(engine: sa.Engine, label: str, app: str = "") -> dict[str, Charged]:
    """Return {app: what the ledger charged it} of a closed period; one app's, or all."""
    # The works of one app may be many, and only their sum is asked for.
    kind = sa.case((_account.c.code.startswith(ledger.OF_WORK), focus.WORKS), else_=_account.c.code)
    query = (
        sa.select(_transfer.c.ref, _transfer.c.kind, kind, sa.func.sum(_entry.c.amount))
        .join_from(_entry, _transfer, _transfer.c.id == _entry.c.transfer_id)
        .join(_account, _account.c.id == _entry.c.account_id)
        .where(
            _transfer.c.period_label == label, _transfer.c.kind.in_(("charge", "pool")), _entry.c.side == "C"
        )
        .group_by(_transfer.c.ref, _transfer.c.kind, kind)
    )
    found: dict[str, Charged] = {}
    with engine.connect() as connection:
        rows: list[Any] = list(connection.execute(query.where(_transfer.c.ref == app) if app else query))
    for ref, transfer, code, amount in rows:
        one = found.setdefault(str(ref), Charged())
        if transfer == "pool":
            one.pool_grains += int(amount)
        else:
            place = _place(str(code), str(ref), label)
            one.goes_to[place] = one.goes_to.get(place, 0) + int(amount)
    return found


def _place(code: str, app: str, label: str) -> str:
    if code == focus.WORKS:
        return code
    return focus.PLATFORM if code == ledger.platform(app) else code.removeprefix(ledger.common(label, ""))


def invoice(engine: sa.Engine, settings: Settings, label: str, app: str = "") -> bytes:
    """Return what a closed period's apps are charged, or one of them, as FOCUS CSV. Raises NotFound."""
    period = _period(engine, label)
    names = app_names(engine)
    rows = (
        row
        for one, sums in sorted(charged(engine, label, app).items())
        for row in focus.invoice_rows(_frame(period, one, names.get(one, ""), settings), sums)
    )
    return focus.to_csv(rows)


def usage(
    engine: sa.Engine,
    settings: Settings,
    prices: PriceTable,
    label: str,
    app: str = "",
    *,
    events_max: int = 0,
) -> bytes:
    """Return what the answers of a closed period cost, by day, model, endpoint and scheme, as FOCUS CSV.

    app: only of this one. events_max: refuse a period of more answers, 0 for none. Raises NotFound, and
    Conflict where the answers no longer sum to what the ledger has ("usage_changed"), are too many
    ("usage_too_large"), or have left the store and no archive was kept ("usage_trimmed").
    """
    period = _period(engine, label)
    if events_max and period.totals.events > events_max:
        raise Conflict(
            f"period {label} has {period.totals.events} answers; over {events_max} are not rated here",
            remedy=f"take the invoice, or ask the operator for `endcredits apps usage --period {label}`",
            code="usage_too_large",
        )
    terms = policies_store.terms_now(engine, settings.billing, period.basis.registry_seq)
    uses: dict[UseKey, Used] = {}
    for event in retention_store.answers(engine, settings.data_dir, period):
        if not app or event.app_id == app:
            rated = rate(event, terms, prices)
            if rated is None:
                raise _changed(label, f"{event.model} has no price")
            focus.add(uses, event, rated)
    booked, names = charged(engine, label, app), app_names(engine)
    by_app: dict[str, dict[UseKey, Used]] = {}
    for key, used in uses.items():
        by_app.setdefault(key[0], {})[key] = used
    rows: list[list[str]] = []
    for one in sorted(booked.keys() | by_app.keys()):
        sums, mine = booked.get(one, Charged()), by_app.get(one, {})
        rated_grains = sum(used.grains for used in mine.values()) + sums.pool_grains
        if rated_grains != sums.grains:
            raise _changed(
                label, f"{one} was charged {sums.grains} grains, its answers sum to {rated_grains}"
            )
        rows += focus.usage_rows(_frame(period, one, names.get(one, ""), settings), sums, mine)
    return focus.to_csv(rows)


def _changed(label: str, what: str) -> Conflict:
    return Conflict(
        f"the answers of {label} no longer sum to what the ledger has: {what}",
        remedy="use the price files and [billing] settings of the close, or take the invoice",
        code="usage_changed",
    )


def _period(engine: sa.Engine, label: str) -> PeriodSummary:
    found = next((one for one in store.list_periods(engine) if one.label == label), None)
    if found is None:
        raise NotFound(f"no period '{label[:40]}' is closed", remedy="`endcredits periods list` shows them")
    return found


def _frame(period: PeriodSummary, app: str, name: str, settings: Settings) -> Frame:
    start, end = focus.bounds(period.label, period.totals.first_occurred_us, period.closed_us)
    issuer = settings.payouts.debtor_name or ISSUER
    return Frame(period.label, app, name or app, period.currency, start, end, issuer)
