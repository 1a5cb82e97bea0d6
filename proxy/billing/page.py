"""A statement as a person reads it: the page, and the view that the page and the printed document share.

The view holds finished text: every amount with all its digits, cut into pieces so that the ones below the
minor unit can be set back, because a sum that is printed must add up as printed. It is bounded, however much
was used: beyond that the tables hold the rest, and a row says what the rest sums to. Numbers, money and dates
are written in the reader's style (locales.py); words are English. The page loads nothing and runs nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2

from proxy.billing import words
from proxy.billing.locales import Amount, English, Style, percent, permille
from proxy.billing.money import PPM, allocate
from proxy.billing.movements import KINDS, Move
from proxy.billing.schemes import BELOW_FLOOR
from proxy.billing.statement import CLAIMED, Statement, StatementLine
from proxy.billing.totals import Totals
from proxy.clock import iso_utc

WORKS_SHOWN_MAX: Final = 200  # beyond that one row says the rest, and the tables hold all
USES_SHOWN_MAX: Final = 6  # rows under one work, likewise
SHARDS_SHOWN_MAX: Final = 24  # logs named one by one, likewise
REASON_MAX: Final = 200  # characters of why a transfer was made; the JSON has all
MOVES_SHOWN_MAX: Final = 6  # dates and references under one row of the balance, likewise
_TEMPLATES: Final = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class Dress:
    """How a statement is shown, beside what it says.

    state: of its period, one of words.STATES, or ""; until_us: how long it is a draft. fonts: a folder with
    more fonts for paper.
    """

    style: Style
    state: str = ""
    until_us: int = 0
    fonts: str = ""


PLAIN: Final = Dress(English())


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the balance: a name, what it adds, and what it was made of."""

    name: str
    amount: Amount
    details: list[str]


@dataclass(frozen=True, slots=True)
class Use:
    """One row under a work: an app and model, over the days it was used."""

    app: str
    model: str
    days: str
    answers: str
    share: str
    basis: str
    gross: Amount
    net: Amount


@dataclass(frozen=True, slots=True)
class WorkPart:
    """One work's section. bar: its part of what was earned, as a CSS percentage; part: for eyes."""

    title: str
    work: str
    answers: str
    split: str
    bar: str
    part: str
    net: Amount
    uses: list[Use]


@dataclass(frozen=True, slots=True)
class Place:
    """Where part of the period's money went."""

    kind: str
    name: str
    meaning: str
    amount: Amount


def to_html(statement: Statement, dress: Dress = PLAIN) -> bytes:
    """Return one self-contained page: no script, no request, light and dark, fit for paper."""
    page = _template().render(view(statement, dress))
    return (page.strip() + "\n").encode("utf-8")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("statement.html.jinja")


def view(statement: Statement, dress: Dress = PLAIN, *, works_max: int = WORKS_SHOWN_MAX) -> dict[str, Any]:
    """Return what both show: text, amounts in pieces, lists of them; nothing to be computed further."""
    totals, style = statement.totals, dress.style

    def money(grains: int) -> Amount:
        return style.amount(grains, statement.currency)

    works = _by_work(statement)
    shown = works[:works_max]
    unscored = sum(totals.unscored_events.values())
    claimed = sum(line.gross_grains for line in statement.lines if line.verdict == CLAIMED)
    return {
        "name": statement.name,
        "creator": statement.creator,
        "id": statement.id,
        "label": statement.period,
        "currency": statement.currency,
        "lang": style.lang,
        "direction": style.direction,
        "state": words.state(dress.state, style.date(iso_utc(dress.until_us)[:10]) if dress.until_us else ""),
        "period": style.month(statement.period),
        "closed": style.date(iso_utc(statement.closed_us)[:10]),
        "used_from": style.date(iso_utc(totals.first_occurred_us)[:10]) if totals.events else "",
        "used_to": style.date(iso_utc(totals.last_occurred_us)[:10]) if totals.events else "",
        "opening": money(statement.opening_grains),
        "earned": money(statement.earned_grains),
        "closing": money(statement.closing_grains),
        "steps": _steps(statement, style),
        "works": [_work(statement, lines, net, style) for net, lines in shown],
        "works_more": style.count(len(works) - len(shown)) if len(works) > len(shown) else "",
        "works_more_net": money(statement.earned_grains - sum(net for net, _ in shown)),
        "works_all": style.count(len(works)),
        "uses": style.count(sum(line.answers for line in statement.lines)),
        "places": _places(statement, style),
        "charged": money(totals.charged_grains),
        "not_charged": money(totals.not_charged_grains) if totals.not_charged_grains else None,
        "masses": _masses(totals, style),
        "events": style.count(totals.events),
        "estimated": style.count(totals.estimated_events) if totals.estimated_events else "",
        "pending": style.count(totals.pending_events) if totals.pending_events else "",
        "unscored": style.count(unscored) if unscored else "",
        "verdicts": sorted({line.verdict for line in statement.lines}),
        "claimed": money(claimed) if claimed else None,
        "one": style.count(1),
        "words": words.words(statement, style),
        "notes": words.notes(statement, style),
        "facts": _facts(statement, style),
    }


def _steps(statement: Statement, style: Style) -> list[Step]:
    """What lies between what was earned and the balance; opening + earned + these = closing, as printed."""
    steps: list[Step] = []
    for name, sign, said in words.MOVEMENTS:
        grains: int = getattr(statement, f"{name}_grains")
        if grains:
            moves = [move for move in statement.moves if KINDS[move.kind][0] == name]
            details = [_told(move, statement.currency, style) for move in moves[:MOVES_SHOWN_MAX]]
            if len(moves) > MOVES_SHOWN_MAX:
                details.append(f"{style.count(len(moves) - MOVES_SHOWN_MAX)} more, in the JSON")
            steps.append(Step(said, style.amount(sign * grains, statement.currency), details))
    return steps


def _told(move: Move, currency: str, style: Style) -> str:
    when = style.date(iso_utc(move.at_us)[:10])
    said = f"{when}, {move.ref}: {style.exactly(move.grains, currency)}"
    return f"{said} ({move.reason[:REASON_MAX]})" if move.reason else said


def _facts(statement: Statement, style: Style) -> list[tuple[str, str]]:
    """(name, value) of what somebody needs who recomputes it."""
    basis = statement.basis
    bounds = [
        (f"Log {shard}", f"entries {basis.start_bounds.get(shard, 0)} up to, not including, {end}")
        for shard, end in basis.end_bounds.items()
    ]
    return [
        ("Statement", statement.id),
        ("Period", statement.period),
        ("Creator", statement.creator),
        *bounds[:SHARDS_SHOWN_MAX],
        *((("More logs", "each is in the JSON"),) if len(bounds) > SHARDS_SHOWN_MAX else ()),
        ("Splits as of", f"registry entry {basis.registry_seq}"),
        ("Price tables", ", ".join(basis.price_versions) or "none was needed"),
        *((("Policies", ", ".join(basis.policies)),) if basis.policies else ()),
        ("Comparison by", ", ".join(basis.methods) or "not recorded"),
        ("Lines", f"{style.count(len(statement.lines))}, SHA-256 {statement.lines_sha256}"),
    ]


def _places(statement: Statement, style: Style) -> list[Place]:
    """Where the period's money went; the amounts sum to what apps were charged."""
    totals = statement.totals
    rows = [
        (
            "creators",
            "Creators",
            "Everyone with a part in a work that was used and is paid.",
            totals.creators_grains,
        ),
        (
            "escrow",
            "Waiting to be claimed",
            "Parts of works whose owner is not known yet.",
            totals.escrow_grains - totals.claimed_grains,
        ),
    ]
    if totals.claimed_grains:
        meaning = "Works that somebody else says are theirs. The money is held until that is decided."
        rows.append(("escrow", "Held by open claims", meaning, totals.claimed_grains))
    for reason, grains in totals.common_grains.items():
        name, meaning = words.REASONS.get(reason, (reason, "Kept in the common account under this reason."))
        rows.append(("common", name, meaning, grains))
    if totals.released_grains:
        meaning = "Held in earlier periods and part of the sums above, so taken off here."
        rows.append(("escrow", "Let go by decided claims", meaning, -totals.released_grains))
    if totals.platform_grains:
        rows.append(("platform", "Platform", "Kept by the platform.", totals.platform_grains))
    return [
        Place(kind, name, meaning, style.amount(grains, statement.currency))
        for kind, name, meaning, grains in rows
    ]


def _masses(totals: Totals, style: Style) -> list[tuple[str, str, str, str]]:
    """(kind, name, CSS percentage, the same for eyes) of all answers' shares, the ones that occur."""
    sums = {
        "paid": totals.paid_ppm_sum,
        "free": totals.free_ppm_sum,
        "prohibited": totals.prohibited_ppm_sum,
        BELOW_FLOOR: totals.below_floor_ppm_sum,
        "unattributed": totals.unattributed_ppm_sum,
    }
    if not any(sums.values()):
        return []
    tenths = allocate(1_000, list(sums.items()), "masses")  # so that what is printed makes 100%
    return [
        (kind, name, percent(tenths[kind], 1_000), style.percent(tenths[kind], 1_000))
        for kind, name in words.MASSES
        if sums[kind]
    ]


def _by_work(statement: Statement) -> list[tuple[int, list[StatementLine]]]:
    """Works with their nets, largest first; equal ones by id."""
    works: dict[str, list[StatementLine]] = {}
    for line in statement.lines:
        works.setdefault(line.work, []).append(line)
    summed = [(sum(line.net_grains for line in lines), lines) for lines in works.values()]
    return sorted(summed, key=lambda pair: (-pair[0], pair[1][0].work))


def _work(statement: Statement, lines: list[StatementLine], net: int, style: Style) -> WorkPart:
    whole = lines[0].split_ppm == PPM
    return WorkPart(
        title=lines[0].title or lines[0].work,
        work=lines[0].work,
        answers=style.count(sum(line.answers for line in lines)),
        split="all of it is yours" if whole else f"your part is {style.percent(lines[0].split_ppm, PPM)}",
        # What lowers the sum has no bar, and none is wider than the page.
        bar=percent(min(permille(max(net, 0), max(statement.earned_grains, 0)), 1_000), 1_000),
        part=style.percent(max(net, 0), max(statement.earned_grains, 0)),
        net=style.amount(net, statement.currency),
        uses=_uses(statement, lines, style),
    )


def _uses(statement: Statement, lines: list[StatementLine], style: Style) -> list[Use]:
    """A work's lines by app, model, scheme and verdict, days joined; the nets sum to the work's."""
    groups: dict[tuple[str, str, str, str], list[StatementLine]] = {}
    for line in lines:
        groups.setdefault((line.app, line.model, line.scheme, line.verdict), []).append(line)
    ordered = sorted(groups.items(), key=lambda item: (-sum(line.net_grains for line in item[1]), item[0]))
    uses = [
        _use(
            statement.app_names.get(app, app) or "A decided claim",
            model,
            group,
            style,
            currency=statement.currency,
            basis=words.basis(statement, group, style),
        )
        for (app, model, _, _), group in ordered[:USES_SHOWN_MAX]
    ]
    rest = [line for _, group in ordered[USES_SHOWN_MAX:] for line in group]
    if rest:
        name = f"{style.count(len(ordered) - USES_SHOWN_MAX)} more uses"
        basis = "each is in the CSV and JSON"
        uses.append(_use(name, "", rest, style, currency=statement.currency, basis=basis))
    return uses


def _use(app: str, model: str, lines: list[StatementLine], style: Style, *, currency: str, basis: str) -> Use:
    answers = sum(line.answers for line in lines)
    return Use(
        app=app,
        model=model,
        days=style.span(min(line.day for line in lines), max(line.day for line in lines)),
        answers=style.count(answers),
        share=style.percent(sum(line.ppm_sum for line in lines), answers * PPM),
        basis=basis,
        gross=style.amount(sum(line.gross_grains for line in lines), currency),
        net=style.amount(sum(line.net_grains for line in lines), currency),
    )
