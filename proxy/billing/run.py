"""Closing a period for real: read, compute, write.

The events of a period are those between the end of the last period and the journal's watermarks, which are
read first: below a shard's watermark nothing is missing and nothing changes, so the events can be read
without holding anybody up, and answers go on being given, and metered into the next period, meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Generator
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from proxy.access.links_store import app_links
from proxy.access.store import app_names
from proxy.billing import (
    common_store,
    concentration,
    escrow_store,
    ledger,
    movements_store,
    periods_store,
    policies_store,
    pools_store,
    repricing_store,
    store,
)
from proxy.billing.closing_files import spilled_statements, spilled_transfers
from proxy.billing.periods import window_end
from proxy.billing.prices import PriceTable
from proxy.billing.proving import Prover
from proxy.billing.rating import roll_up_pages
from proxy.billing.statements import UNCLAIMED, Books, Closing
from proxy.billing.statements import close_period as closed
from proxy.errors import BadRequest, NotFound, Unavailable
from proxy.metering.log_store import pages_between
from proxy.metering.store import watermarks
from proxy.settings import Billing, Concentration

_LABEL: Final = re.compile(r"[A-Za-z0-9._-]{1,40}", re.ASCII)


def close_period(
    engine: sa.Engine,
    label: str,
    billing: Billing,
    prices: PriceTable,
    *,
    dry_run: bool,
    now_us: int,
    prover: Prover | None = None,
) -> Closing:
    """Close everything metered since the last period as `label`; with `dry_run`, only say what would be.

    prover: signs the period, which then ends where the log does; without one its statements prove nothing.
    A label that is already closed returns the stored closing, unchanged. Raises BadRequest for a label that
    cannot be one, Conflict when a model has no price ("unpriced_models") or another close won the race, and
    Unavailable when the store is away.
    """
    if not _LABEL.fullmatch(label):
        raise BadRequest(
            f"'{label}' cannot name a period",
            remedy="use 1 to 40 letters, digits, dots, underscores or hyphens, like 2026-11",
            code="period_label",
        )
    try:
        with _seldom_collected():
            return _close(engine, label, billing, prices, prover, dry_run=dry_run, now_us=now_us)
    except OperationalError as error:
        raise Unavailable(
            f"the store went away while {label} was being closed: nothing of it was written",
            remedy="see that the store answers and close the period again",
            code="store_unavailable",
        ) from error


def concentration_of(engine: sa.Engine, label: str, rules: Concentration) -> concentration.Report:
    """Return what is concentrated in a closed period, beside the one before it. Raises NotFound."""
    periods = store.list_periods(engine)  # newest first
    place = next((place for place, period in enumerate(periods) if period.label == label), None)
    if place is None:
        raise NotFound(f"no period '{label}' is closed", remedy="`endcredits periods list` shows them")
    period, earlier = periods[place], periods[place + 1 :]
    before = next((one for one in earlier if one.currency == period.currency), None)
    earned = (
        {one.creator: one.earned_grains for one in store.list_statements(engine, label=before.label)}
        if before
        else {}
    )
    since = earlier[0].basis.registry_seq if earlier else 0
    return concentration.report(
        label,
        period.totals,
        concentration.tally(store.statements(engine, label)),
        concentration.Thresholds.from_settings(rules, period.currency),
        currency=period.currency,
        previous=before.label if before else "",
        before=earned,
        registered=store.registered_between(engine, since, period.basis.registry_seq),
    )


@contextlib.contextmanager
def _seldom_collected() -> Generator[None]:
    """Look for cycles seldom: a close makes millions of small values and no cycle, and a sixth of its time
    went into looking at them again and again. A million of them at once is more than one transfer has.
    """
    usual = gc.get_threshold()
    gc.set_threshold(1_000_000, 100, 1_000)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _close(
    engine: sa.Engine,
    label: str,
    billing: Billing,
    prices: PriceTable,
    prover: Prover | None,
    *,
    dry_run: bool,
    now_us: int,
) -> Closing:
    stored = store.load_closing(engine, label)
    if stored is not None:
        return stored
    folder = _beside(engine)
    after_seq, start = store.last_period(engine)
    end = watermarks(engine) if prover is None or dry_run else prover.ends(start)
    # After the marks: whatever held for an answer below them was said before that answer was given.
    registry_seq = store.registry_now(engine)
    terms = policies_store.terms_now(engine, billing, registry_seq)
    links = app_links(engine)
    revenues = pools_store.revenues(engine, label)
    pages = pages_between(engine, start, end)
    rollup = roll_up_pages(label, pages, terms, prices, links, revenues=revenues, folder=folder)
    waiting = {
        ledger.claim_of(code): grains
        for (code, currency), grains in store.balances(engine, ledger.CLAIMED).items()
        if currency == terms.currency and grains
    }
    unclaimed = escrow_store.unclaimed(engine, terms.currency, registry_seq)
    works = {*rollup.uses.works, *(work for work, _ in waiting), *unclaimed}
    splits = store.splits_of(engine, works, registry_seq)
    opening = movements_store.opening(engine, terms.currency)
    moves = movements_store.unreported(engine, terms.currency)
    creators = {party for split in splits.values() for party, _ in split.parties if party != UNCLAIMED}
    claimed = store.claimed_works(engine, registry_seq)
    books = Books(
        splits=splits,
        creator_names=store.creator_names(engine, creators | opening.keys() | moves.keys()),
        app_names=app_names(engine),
        opening_grains=opening,
        registry_seq=registry_seq,
        pending_events=store.count_pending(engine),
        claimed=claimed,
        waiting=waiting,
        moves=moves,
        unclaimed=unclaimed,
        common_carried=common_store.carried(engine, terms.currency),
    )
    closing = closed(
        label=label,
        rollup=rollup,
        terms=terms,
        books=books,
        start_bounds=start,
        end_bounds=end,
        closed_us=now_us,
        transfers=spilled_transfers(folder),
        statements=spilled_statements(folder),
    )
    rules = ""
    if prover is not None and not dry_run:
        found = repricing_store.rules(engine, billing, prices, closing.basis, closing.totals)
        rules = found.digest(rollup.uses.works, splits, claimed)
    # What it was computed of: its room is wanted for the store's pages while it is written.
    del pages, rollup, waiting, unclaimed, works, splits, opening, moves, creators, claimed, books
    if not dry_run:
        until_us = window_end(now_us, billing.comment_days)

        def beside(connection: sa.Connection) -> None:
            pools_store.refuse_changed(connection, label, closing.totals.pools)
            periods_store.open_window(connection, label, until_us)
            if prover is not None:
                prover.sign(connection, closing, after_seq + 1, rules)

        store.write(engine, closing, after_seq=after_seq, folder=folder, also=beside)
        if prover is not None:
            prover.log()
    return closing


def _beside(engine: sa.Engine) -> Path | None:
    """Return where a close keeps its files while it computes: by the store, which needs as much room later.

    None, where the system keeps temporary files (TMPDIR), for a store that is no file of this machine.
    """
    is_file = engine.dialect.name == "sqlite" and engine.url.database not in {None, "", ":memory:"}
    return Path(str(engine.url.database)).resolve().parent if is_file else None
