"""Reads again, at any later time, what a closed period was priced by.

All of it is numbered or dated, and what came after the period's numbers is left out: so it is the same when
the period is closed and when it is bundled, unless somebody edited a price file or the [billing] settings.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from proxy.access.links_store import app_links
from proxy.billing import floors_store, policies_store
from proxy.billing.prices import PriceTable
from proxy.billing.repricing import Rules
from proxy.billing.totals import Basis, Totals
from proxy.settings import Billing


def rules(engine: sa.Engine, billing: Billing, prices: PriceTable, basis: Basis, totals: Totals) -> Rules:
    """Return the rules of a period but for the splits of its works, as they stood at its numbers."""
    known = policies_store.agenda(engine, billing)
    known = replace(known, activations=tuple(a for a in known.activations if a.seq <= basis.policy_seq))
    seq = basis.registry_seq
    history = {
        app: tuple(change for change in changes if change[0] <= seq)
        for app, changes in app_links(engine).history.items()
    }
    return Rules(
        registry_seq=seq,
        policy_seq=basis.policy_seq,
        default=known.default.text,
        activations=tuple((one.seq, one.effective_from_us, one.policy.text) for one in known.activations),
        prices=tuple(one.text for one in prices.lists if one.effective_from_us <= totals.last_occurred_us),
        asked=floors_store.asked(engine, billing.currency, seq, known.creators),
        links={app: changes for app, changes in history.items() if changes},
    )
