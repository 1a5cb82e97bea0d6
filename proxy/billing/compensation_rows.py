"""Policies, pools, common money and what works ask for, as rows: the same for a command and for /api.

Beside every amount in grains stands its exact decimal text, as in statements.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.billing.common_store import Proposal
from proxy.billing.floors_store import AskedTerm
from proxy.billing.money import decimal_text
from proxy.billing.policies import Activation, Policy
from proxy.billing.policies_store import Known
from proxy.billing.pools import Revenue
from proxy.clock import iso_utc

Row = dict[str, Any]


def policy_row(known: Known) -> Row:
    """Return a policy without its rules."""
    return {
        "id": known.policy.id,
        "name": known.policy.name,
        "added": iso_utc(known.at_us),
        "by": known.by,
        "holds_from": [iso_utc(since) for since in known.since_us],
        "activations": list(known.activations),  # as receipts quote them
    }


def rules_row(policy: Policy) -> Row:
    """Return a policy with all its rules, as its canonical text says them."""
    said: Row = msgspec.json.decode(policy.text)
    return {"id": policy.id, **said}


def activation_row(made: Activation) -> Row:
    """Return from when on a policy holds."""
    since = iso_utc(made.effective_from_us)
    return {
        "seq": made.seq,
        "id": made.policy.id,
        "name": made.policy.name,
        "holds_from": since,
        "by": made.by,
    }


def revenue_row(revenue: Revenue) -> Row:
    """Return a declaration with what became of it."""
    return {
        "id": revenue.id,
        "app": revenue.app,
        "period": revenue.period,
        "kind": revenue.kind,
        "amount": decimal_text(revenue.amount_grains, revenue.currency),
        "amount_grains": revenue.amount_grains,
        "currency": revenue.currency,
        "users": revenue.users,
        "why": revenue.why,
        "declared": iso_utc(revenue.at_us),
        "by": revenue.by,
        "state": revenue.outcome or "declared",
        "decided_by": revenue.decided_by,
    }


def proposal_row(proposal: Proposal) -> Row:
    """Return a distribution with what became of it; `parties` counts who gets something."""
    made = proposal.distribution
    return {
        "id": made.id,
        "period": made.period,
        "rule": made.rule,
        "policy": made.policy,
        "amount": decimal_text(made.grains, made.currency),
        "amount_grains": made.grains,
        "currency": made.currency,
        "reasons": {reason: decimal_text(grains, made.currency) for reason, grains in made.reasons.items()},
        "parties": made.parties,
        "proposed": iso_utc(made.at_us),
        "by": made.by,
        "state": proposal.outcome or "proposed",
        "decided_by": proposal.decided_by,
    }


def carried_rows(carried: dict[str, int], currency: str) -> list[Row]:
    """Return what stands in the common account, by reason."""
    return [
        {
            "reason": reason,
            "amount": decimal_text(grains, currency),
            "amount_grains": grains,
            "currency": currency,
        }
        for reason, grains in carried.items()
    ]


def term_row(term: AskedTerm) -> Row:
    """Return what was asked, and from which number of the registry on."""
    if term.value is None:
        said = "none"
    else:
        said = decimal_text(term.value, term.currency) if term.currency else str(term.value)
    return {
        "seq": term.seq,
        "scope": term.scope,
        "of": term.scope_id,
        "kind": term.kind,
        "value": said,
        "currency": term.currency,
        "why": term.why,
        "by": term.by,
        "at": iso_utc(term.at_us),
    }
