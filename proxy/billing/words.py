"""What a statement says in words: names of rows, what each means, and by what a use is paid.

In one place, so that the page and the printed document cannot say two things, and so that whoever wants them
in another language knows what there is. A key that the ledger has and no text here is shown as it is.
"""

from __future__ import annotations

from typing import Final

from proxy.billing.locales import Style
from proxy.billing.money import PPM, decimal_text
from proxy.billing.schemes import BELOW_FLOOR
from proxy.billing.statement import CLAIMED, OWN_APP, RELEASED, Statement, StatementLine

POOLS_SHOWN_MAX: Final = 12  # of a period's pools; the JSON has all
STATES: Final = {
    "draft": "Draft: open for comments",
    "final": "Final",
}
# Fields of a statement between what was earned and the balance, in the order of the equation.
MOVEMENTS: Final = (
    ("adjustments", 1, "Corrections of earlier periods"),
    ("held", -1, "Held until a question is settled"),
    ("released", 1, "Let go, settled"),
    ("paid", -1, "Paid out"),
    ("withheld", -1, "Withheld for a tax authority"),
    ("returned", 1, "Payments that came back"),
    ("distributed", 1, "Given out of the common account"),
)
UNATTRIBUTED_MODES: Final = {
    "common": "It is kept in a common account, printed here, until a published rule says who gets it.",
    "platform": "It stays with the platform.",
    "not_charged": "Apps are not charged for it.",
}
# Of the common account: (name, what it means).
REASONS: Final = {
    "unattributed": ("Not traced to a work", "Answers, or parts of them, that no registered work explains."),
    "no_text": ("Answers without text", "Nothing was written that could be compared with a work."),
    "not_attributed": (
        "Never compared, held",
        "Answers that could not be compared in time. The money is held.",
    ),
    "cut_by_crash": ("Cut off, held", "Answers lost when a server stopped. The money is held."),
    "free": ("Free works", "Parts owed to works whose creators ask for no payment."),
    "own_app": (
        "Creators' own apps",
        "What creators' own apps brought for their own works; it is paid to nobody.",
    ),
    "prohibited": ("Use against consent", "Parts of works used although their creators said no."),
    "without_use": ("Users without use", "Parts of paying users who used nothing that pays."),
    BELOW_FLOOR: (
        "Below what works ask for",
        "Parts of works whose least price such a use does not pay; they are paid nothing for it.",
    ),
}
# What answers drew on, as a bar shows it from one end to the other.
MASSES: Final = (
    ("paid", "Works that are paid"),
    ("free", "Works given freely"),
    ("prohibited", "Works used against consent"),
    (BELOW_FLOOR, "Below what works ask for"),
    ("unattributed", "No registered work"),
)
UNPAID: Final = {
    "free": "free by your choice: told, not paid",
    "prohibited": "used although consent was refused: not paid, and nobody keeps it",
    CLAIMED: "somebody else claims this work: held until that is decided",
    RELEASED: "held in earlier periods, let go because the claim was decided",
    OWN_APP: "your own app: told, not paid",
    BELOW_FLOOR: "pays less than the work asks for: told, not paid",
}
_SHARE: Final = (
    "Each answer is compared with every registered work. A work's share is the part of the answer that draws"
    " on it; the shares of an answer and the part that no work explains always make one whole."
)
_DIRECT: Final = (
    "A whole answer drawn from one work pays the rate; a share of it pays that share of the rate, rounded up"
    " in the creator's favour."
)
_POOL: Final = (
    "A declared revenue is divided when the period is closed, by the shares of all answers it paid for."
)
_PART: Final = (
    "A work's money is divided by the split its creators agreed. A part nobody has claimed waits under the"
    " work's name."
)


def state(name: str, until: str) -> str:
    """Return what a period's state means, "" for none. until: the last day of a draft, or ""."""
    said = STATES.get(name, "")
    return f"{said} until {until}" if said and until and name == "draft" else said


def basis(statement: Statement, lines: list[StatementLine], style: Style) -> str:
    """Return, in a few words, what a use is paid by. lines: its own, of one scheme and verdict."""
    line, currency = lines[0], statement.currency
    if line.periods:
        first, last = line.periods[0], line.periods[-1]
        return f"earned while nobody had claimed it: {first if first == last else f'{first} to {last}'}"
    if line.verdict in UNPAID:
        return UNPAID[line.verdict]
    if line.scheme == "direct":
        return f"{style.exactly(line.rate_grains, currency)} for a whole answer, times the share"
    if line.scheme == "pool":
        return "its part of a revenue that is divided when the period is closed"
    price = style.spoken(sum(one.price_grains for one in lines), currency)
    return f"{_royalty(statement, style)} of what the answers cost ({price}), times the share"


def _royalty(statement: Statement, style: Style) -> str:
    ppms = statement.basis.royalties or (statement.basis.royalty_ppm,)
    return " or ".join(style.percent(ppm, PPM) for ppm in ppms)


def words(statement: Statement, style: Style) -> list[tuple[str, str]]:
    """Return (word, what it means) of the words that this statement uses."""
    schemes = {line.scheme for line in statement.lines if line.scheme} or {"royalty"}
    royalty, estimated = _royalty(statement, style), statement.totals.estimated_events
    rows = [("Share", _SHARE)]
    if "royalty" in schemes:
        meaning = (
            f"{royalty} of what an answer cost is divided by the shares. What an answer costs is in the price"
        )
        rows.append((f"Royalty, {royalty}", f"{meaning} table in force when it was given."))
    if "direct" in schemes:
        rows.append(("Direct rate", _DIRECT))
    if "pool" in schemes:
        rows.append(("Pool", _POOL))
    step = f"{statement.currency} {decimal_text(1, statement.currency)}"
    meaning = (
        f"Money is counted in steps of {step}. The small grey digits are below what a bank can pay; they are"
    )
    rows += [
        ("Your part", _PART),
        ("The part no work explains", UNATTRIBUTED_MODES[statement.basis.unattributed]),
        ("Digits", f"{meaning} kept, not dropped, because they add up."),
    ]
    if estimated:
        meaning = f"{style.count(estimated)} answers of the period ended before their length was reported; it"
        rows.append(("Estimates", f"{meaning} was counted by us, and is marked as an estimate."))
    return rows


def notes(statement: Statement, style: Style) -> list[str]:
    """Return what else there is to say of the whole period: its pools, and what earlier ones left over."""
    currency, totals = statement.currency, statement.totals
    said: list[str] = []
    for pool in totals.pools[:POOLS_SHOWN_MAX]:
        users = style.count(pool.users_counted or pool.users_seen)
        divided = "all use alike" if pool.division == "pro_rata" else f"equal parts for {users} users"
        said.append(
            f"{statement.app_names.get(pool.app, pool.app)} declared a revenue of"
            f" {style.exactly(pool.revenue_grains, currency)}: creators' part is"
            f" {style.percent(pool.creators_ppm, PPM)}, {style.exactly(pool.pool_grains, currency)}, divided"
            f" over {divided}. {style.exactly(pool.works_grains, currency)} of it reached works."
        )
    if len(totals.pools) > POOLS_SHOWN_MAX:
        said.append(f"{style.count(len(totals.pools) - POOLS_SHOWN_MAX)} more pools are in the JSON.")
    carried = {reason: grains for reason, grains in totals.common_carried_grains.items() if grains}
    if carried:
        parts = "; ".join(
            f"{REASONS.get(reason, (reason, ''))[0]}: {style.exactly(grains, currency)}"
            for reason, grains in sorted(carried.items())
        )
        said.append(f"From earlier periods the common account holds, given to nobody yet: {parts}.")
    return said
