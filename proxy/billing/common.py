"""What becomes of money that belongs to no one yet: paid out by a rule that was named first, or carried.

Use that no registered work explains is booked in the common account, by period and reason, and stays there
until a policy names a rule: *pro_rata* to what the period's closing gave each party (what waits in escrow for
an unclaimed work gets its part into the same escrow), *equal* to all who got something, or *to* one creator,
a fund for example. One person proposes a distribution, another approves it, and every party's next statement
tells of it. A reason's money is either all there or all given out, so nothing is divided twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from proxy.billing import ledger
from proxy.billing.ledger import Entry, Transfer, transfer_id
from proxy.billing.money import allocate, checked
from proxy.errors import Conflict

Rule = Literal["pro_rata", "equal", "to"]
KIND: Final = "distribution"


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal: by which rule a period's common money is given out. to: whom the rule `to` pays.

    Who gets what follows from this and from what the period's closing gave, which never changes (`parts`);
    parties counts them.
    """

    id: str
    period: str
    currency: str
    policy: str
    rule: Rule
    to: str
    by: str
    at_us: int
    reasons: dict[str, int]
    parties: int

    @property
    def grains(self) -> int:
        """All of it."""
        return sum(self.reasons.values())


def plan(
    *,
    id_: str,
    period: str,
    currency: str,
    policy: str,
    rule: Rule | Literal["carried"],
    to: str,
    available: Mapping[str, int],
    shares: Mapping[str, int],
    by: str,
    at_us: int,
) -> Distribution:
    """Return the proposal. available: grains by reason; shares: what the period's closing gave, by account.

    Raises Conflict where no rule is named, nothing is there, or nobody could get it.
    """
    if rule == "carried":
        raise Conflict(
            "the policy in force names no rule for common money: it is carried",
            remedy="activate a policy with common_rule pro_rata, equal or to",
            code="common_no_rule",
        )
    there = {reason: grains for reason, grains in sorted(available.items()) if grains > 0}
    if not there:
        raise Conflict(
            f"nothing of period {period} waits in the common account for this rule",
            remedy="`endcredits common list` shows what is there; common_reasons says what the rule is for",
            code="common_empty",
        )
    if not _weights(rule, to, shares):
        raise Conflict(
            f"nobody was given anything in period {period}, so there is nobody to divide it among",
            remedy="use the rule `to`, or carry it on",
            code="common_nobody",
        )
    made = Distribution(
        id=id_,
        period=period,
        currency=currency,
        policy=policy,
        rule=rule,
        to=to,
        by=by,
        at_us=at_us,
        reasons=there,
        parties=0,
    )
    parties = {account for divided in parts(made, shares).values() for account in divided}
    return msgspec.structs.replace(made, parties=len(parties))


def parts(distribution: Distribution, shares: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return {reason: {account: grains}}: who gets what. shares: as for `plan`."""
    weights = _weights(distribution.rule, distribution.to, shares)
    return {
        reason: {
            account: part
            for account, part in allocate(
                checked(grains), weights, f"{distribution.period}|{reason}|{KIND}"
            ).items()
            if part
        }
        for reason, grains in distribution.reasons.items()
    }


def _weights(rule: Rule, to: str, shares: Mapping[str, int]) -> list[tuple[str, int]]:
    if rule == "to":
        return [(ledger.payee(to), 1)]
    given = sorted((account, grains) for account, grains in shares.items() if grains > 0)
    return [(account, 1) for account, _ in given] if rule == "equal" else given


def transfers(distribution: Distribution, shares: Mapping[str, int], at_us: int) -> list[Transfer]:
    """Return what is booked when it is approved: one transfer a reason, the same every time."""
    return [
        Transfer(
            transfer_id(KIND, f"{distribution.id}|{reason}"),
            KIND,
            distribution.currency,
            at_us,
            "",
            f"{distribution.period} {reason}",
            (
                Entry(ledger.common(distribution.period, reason), "D", distribution.reasons[reason]),
                *(Entry(account, "C", part) for account, part in divided.items()),
            ),
        )
        for reason, divided in parts(distribution, shares).items()
    ]
