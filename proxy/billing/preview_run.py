"""Asking the store what a period would have paid by another policy: it is read, and nothing is written.

A closed period is computed again of its answers, between its bounds and at its number of the registry, while
its answers are in the store; what is not closed yet, up to the log's marks of this moment.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from proxy.access.links_store import app_links
from proxy.access.store import app_names
from proxy.billing import floors_store, policies_store, pools_store, store
from proxy.billing.policies import Policy, of_settings
from proxy.billing.preview import Preview, Rules, paid, rolled_up
from proxy.billing.prices import FILE_BYTES_MAX, PriceTable
from proxy.billing.schemes import Terms
from proxy.billing.statements import UNCLAIMED, Books
from proxy.errors import BadRequest, NotFound, SettingsError
from proxy.metering.log_store import pages_between
from proxy.metering.store import watermarks
from proxy.settings import Billing

SETTINGS: Final = "settings"  # names the [billing] settings as they are now


def preview(
    engine: sa.Engine,
    policy_id: str,
    billing: Billing,
    prices: PriceTable,
    *,
    now_us: int,
    period: str = "",
    price_file: str = "",
) -> Preview:
    """Return what `period` would have paid by a policy, beside what it pays; "" is what is not closed yet.

    So is a period for which only revenue was declared, which its pools then divide. price_file: the text of a
    price file by which each answer is priced anew, whatever day it begins; else recorded prices stand.
    Raises NotFound for a policy or period that is not there, BadRequest for a price file that cannot be read,
    Conflict ("usage_trimmed", "unpriced_models", "pool_undeclared") where it cannot be computed.
    """
    policy = of_settings(billing) if policy_id == SETTINGS else policies_store.policy(engine, policy_id)
    closing = store.load_closing(engine, period) if period else None
    revenues = pools_store.revenues(engine, period) if period else []
    if period and closing is None and not revenues:
        raise NotFound(
            f"no period '{period}' is closed", remedy="leave `period` empty for what is not closed yet"
        )
    if closing is None:
        (_, start), end = store.last_period(engine), watermarks(engine)
        registry_seq, closed_us = store.registry_now(engine), now_us
    else:
        start, end = closing.basis.start_bounds, closing.basis.end_bounds
        registry_seq, closed_us = closing.basis.registry_seq, closing.closed_us
    sides = (
        Rules(policies_store.terms_now(engine, billing, registry_seq), prices),
        _proposed(engine, policy, prices, price_file, registry_seq),
    )
    if sides[1].terms.currency != sides[0].terms.currency:
        raise BadRequest("the policy is in another currency", remedy=f"write it in {billing.currency}")
    pages = pages_between(engine, start, end)
    rollups = rolled_up(period, pages, sides, app_links(engine), revenues)
    works = {work for rollup in rollups for work in rollup.uses.works}
    splits = store.splits_of(engine, works, registry_seq)
    creators = {party for split in splits.values() for party, _ in split.parties if party != UNCLAIMED}
    books = Books(
        splits=splits,
        creator_names=store.creator_names(engine, creators),
        app_names=app_names(engine),
        opening_grains={},
        registry_seq=registry_seq,
        claimed=store.claimed_works(engine, registry_seq),
    )
    before, after = (
        paid(period, rollup, rules.terms, books, closed_us)
        for rollup, rules in zip(rollups, sides, strict=True)
    )
    return Preview(
        period=period,
        policy=policy.id,
        currency=sides[0].terms.currency,
        is_open=closing is None,
        as_booked=None if closing is None else dict(closing.charged_by_app) == dict(before.charged),
        before=before,
        after=after,
        creators=books.creator_names,
        apps=books.app_names,
    )


def _proposed(
    engine: sa.Engine, policy: Policy, prices: PriceTable, price_file: str, registry_seq: int
) -> Rules:
    named = frozenset(row.creator for row in policy.rules.rates if row.creator != "*")
    asked = floors_store.asked(engine, policy.rules.currency, registry_seq, named)
    table = _table(price_file) if price_file else prices
    return Rules(Terms.of(policy, asked), table, anew=bool(price_file))


def _table(text: str) -> PriceTable:
    """Return the prices of a file as if they had always held."""
    if len(text.encode()) > FILE_BYTES_MAX:
        raise BadRequest("the price file is too large", remedy=f"send up to {FILE_BYTES_MAX} bytes")
    with tempfile.TemporaryDirectory(prefix="endcredits-prices-") as kept:
        folder = Path(kept)
        (folder / "proposed.toml").write_text(text, encoding="utf-8")
        try:
            (only,) = PriceTable.load(folder).lists
        except SettingsError as error:
            cause = error.cause.replace(f"{folder}/", "")
            raise BadRequest(cause, remedy=error.remedy, code="prices") from error
    return PriceTable((dataclasses.replace(only, effective_from_us=0),))
