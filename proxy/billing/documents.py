"""A statement as files: JSON and tables for machines, one page for the person it is about.

Every format says the same integers. JSON is canonical (sorted keys, stable bytes) and carries each amount
twice: grains for machines, exact decimal text for eyes. CSV and TSV are one row a line with no totals among
them, so that a column can be summed. The page shows amounts with all their digits, the ones below the minor
unit set back, because a sum that is printed must add up as printed; it loads nothing and runs nothing.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import jinja2
import msgspec

from proxy.billing.money import (
    EXPONENTS,
    GRAINS_PER_MINOR,
    PPM,
    SYMBOLS,
    allocate,
    decimal_text,
    parts,
    plain,
)
from proxy.billing.schemes import HELD
from proxy.billing.statements import (
    CLAIMED,
    OWN_APP,
    RELEASED,
    Closing,
    Statement,
    StatementLine,
    Totals,
    canonical,
)
from proxy.clock import iso_utc

FORMAT: Final = "endcredits-statement/1"
WORKS_SHOWN_MAX: Final = 200  # on the page; beyond that one row says the rest, and the tables hold all
USES_SHOWN_MAX: Final = 6  # rows under one work, likewise
COLUMNS: Final = (
    "statement", "period", "creator", "creator_name", "currency", "work", "title", "app", "app_name", "model",
    "day", "scheme", "verdict", "answers", "share_ppm_sum", "price", "rate", "gross", "split_version",
    "split_ppm", "net", "gross_grains", "net_grains",
)  # fmt: skip
_TEMPLATES: Final = Path(__file__).with_name("templates")


# For machines


def to_json(statement: Statement) -> bytes:
    """Return canonical JSON: beside every `x_grains` its exact decimal text as `x`."""
    plain = cast("dict[str, Any]", msgspec.to_builtins(statement))
    return canonical({"format": FORMAT, **_with_texts(plain, statement.currency)}) + b"\n"


def _with_texts(value: Any, currency: str) -> Any:
    if isinstance(value, list | tuple):
        return [_with_texts(item, currency) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    result: dict[str, Any] = {}
    for key, inner in cast("dict[str, Any]", value).items():
        result[key] = _with_texts(inner, currency)
        if key.endswith("_grains"):
            result[key.removesuffix("_grains")] = _as_text(inner, currency)
    return result


def _as_text(grains: int | dict[str, int], currency: str) -> str | dict[str, str]:
    if isinstance(grains, dict):
        return {key: decimal_text(amount, currency) for key, amount in grains.items()}
    return decimal_text(grains, currency)


def to_csv(statement: Statement) -> bytes:
    """Return RFC 4180 with a header row, UTF-8. No cell can be taken for a formula by a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_safe(cell) for cell in row] for row in _rows(statement))
    return out.getvalue().encode("utf-8")


def to_tsv(statement: Statement) -> bytes:
    """Return tab-separated rows, UTF-8: nothing is quoted, a tab or line break in a title is a space."""
    rows = [COLUMNS, *([" ".join(_safe(cell).split()) for cell in row] for row in _rows(statement))]
    return "".join("\t".join(row) + "\n" for row in rows).encode("utf-8")


def _safe(cell: str) -> str:
    # A title like "=HYPERLINK(...)" is text, and a spreadsheet must read it as text.
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _rows(statement: Statement) -> Iterable[list[str]]:
    currency = statement.currency
    for line in statement.lines:
        app_name = statement.app_names.get(line.app, line.app)
        texts = [decimal_text(n, currency) for n in (line.price_grains, line.rate_grains, line.gross_grains)]
        yield [
            statement.id, statement.period, statement.creator, statement.name, currency, line.work,
            line.title, line.app, app_name, line.model, line.day, line.scheme,
            line.verdict, str(line.answers), str(line.ppm_sum), *texts, str(line.split_version),
            str(line.split_ppm), decimal_text(line.net_grains, currency), str(line.gross_grains),
            str(line.net_grains),
        ]  # fmt: skip


# For people


def summary(closing: Closing) -> dict[str, str | int]:
    """Return a closed period in a few words for a person or a script: counts, and sums as decimal text."""
    totals, currency = closing.totals, closing.currency
    held = sum(grains for reason, grains in totals.common_grains.items() if reason in HELD)
    return {
        "period": closing.label,
        "currency": currency,
        "events": totals.events,
        "pending_events": totals.pending_events,
        "statements": len(closing.statements),
        "charged": decimal_text(totals.charged_grains, currency),
        "creators": decimal_text(totals.creators_grains, currency),
        "escrow": decimal_text(totals.escrow_grains, currency),
        "common": decimal_text(sum(totals.common_grains.values()), currency),
        "common_held": decimal_text(held, currency),
        "platform": decimal_text(totals.platform_grains, currency),
        "not_charged": decimal_text(totals.not_charged_grains, currency),
        "manifest_sha256": closing.manifest_sha256,
    }


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount as it is set: "$", "1,234", ".56", "0000000"; nothing rounded."""

    symbol: str
    whole: str
    minor: str
    fine: str

    @classmethod
    def of(cls, grains: int, currency: str) -> Amount:
        """Return `grains` cut into its typographic pieces."""
        sign, whole, minor, fine = parts(grains, currency)
        symbol = SYMBOLS.get(currency, f"{currency} ")
        # Below a currency without a minor unit the point belongs to the digits that are set back.
        return cls(
            symbol="−" * bool(sign) + symbol,
            whole=f"{int(whole):,}",
            minor=f".{minor}" if EXPONENTS[currency] else "",
            fine=fine if EXPONENTS[currency] else f".{fine}",
        )


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
    """One work's section. bar: its part of what was earned, as a CSS percentage."""

    title: str
    work: str
    answers: str
    split: str
    bar: str
    net: Amount
    uses: list[Use]


@dataclass(frozen=True, slots=True)
class Place:
    """Where part of the period's money went."""

    kind: str
    name: str
    meaning: str
    amount: Amount


def to_html(statement: Statement) -> bytes:
    """Return one self-contained page: no script, no request, light and dark, fit for paper."""
    page = _template().render(_view(statement))
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


def _view(statement: Statement) -> dict[str, Any]:
    def money(grains: int) -> Amount:
        return Amount.of(grains, statement.currency)

    totals, basis = statement.totals, statement.basis
    works = _works(statement, money)
    return {
        "statement": statement,
        "period": _period_name(statement.period),
        "closed": _date(iso_utc(statement.closed_us)[:10]),
        "used_from": _date(iso_utc(totals.first_occurred_us)[:10]) if totals.events else "",
        "used_to": _date(iso_utc(totals.last_occurred_us)[:10]) if totals.events else "",
        "opening": money(statement.opening_grains),
        "earned": money(statement.earned_grains),
        "closing": money(statement.closing_grains),
        "works": works[:WORKS_SHOWN_MAX],
        "works_more": max(0, len(works) - WORKS_SHOWN_MAX),
        "works_more_net": money(statement.earned_grains - _sum_shown(statement)),
        "uses": f"{sum(line.answers for line in statement.lines):,}",
        "lines": f"{len(statement.lines):,}",
        "places": _places(statement, money),
        "charged": money(totals.charged_grains),
        "not_charged": money(totals.not_charged_grains) if totals.not_charged_grains else None,
        "masses": _masses(totals),
        "events": f"{totals.events:,}",
        "estimated": f"{totals.estimated_events:,}" if totals.estimated_events else "",
        "pending": f"{totals.pending_events:,}" if totals.pending_events else "",
        "unscored": sum(totals.unscored_events.values()),
        "royalty": percent(basis.royalty_ppm, PPM),
        "schemes": {line.scheme for line in statement.lines},
        "verdicts": {line.verdict for line in statement.lines},
        "unattributed": UNATTRIBUTED_MODES[basis.unattributed],
        "bounds": [(shard, basis.start_bounds.get(shard, 0), end) for shard, end in basis.end_bounds.items()],
        "grain": decimal_text(1, statement.currency),
    }


UNATTRIBUTED_MODES: Final = {
    "common": "It is kept in a common account, printed here, until a published rule says who gets it.",
    "platform": "It stays with the platform.",
    "not_charged": "Apps are not charged for it.",
}
_REASONS: Final = {
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
    "prohibited": (
        "Use against consent",
        "Parts of works used although their creators said no.",
    ),
}
_MASSES: Final = (
    ("paid", "Works that are paid"),
    ("free", "Works given freely"),
    ("prohibited", "Works used against consent"),
    ("unattributed", "No registered work"),
)


def _places(statement: Statement, money: Callable[[int], Amount]) -> list[Place]:
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
        name, meaning = _REASONS.get(reason, (reason, "Kept in the common account under this reason."))
        rows.append(("common", name, meaning, grains))
    if totals.released_grains:
        meaning = "Held in earlier periods and part of the sums above, so taken off here."
        rows.append(("escrow", "Let go by decided claims", meaning, -totals.released_grains))
    if totals.platform_grains:
        rows.append(("platform", "Platform", "Kept by the platform.", totals.platform_grains))
    return [Place(kind, name, meaning, money(grains)) for kind, name, meaning, grains in rows]


def _masses(totals: Totals) -> list[tuple[str, str, str]]:
    """(kind, name, percentage) of all answers' shares, the ones that occur."""
    sums = {
        "paid": totals.paid_ppm_sum,
        "free": totals.free_ppm_sum,
        "prohibited": totals.prohibited_ppm_sum,
        "unattributed": totals.unattributed_ppm_sum,
    }
    if not any(sums.values()):
        return []
    tenths = allocate(1_000, list(sums.items()), "masses")  # so that what is printed makes 100%
    return [(kind, name, percent(tenths[kind], 1_000)) for kind, name in _MASSES if sums[kind]]


def _by_work(statement: Statement) -> list[tuple[int, list[StatementLine]]]:
    """Works with their nets, largest first; equal ones by id."""
    works: dict[str, list[StatementLine]] = {}
    for line in statement.lines:
        works.setdefault(line.work, []).append(line)
    summed = [(sum(line.net_grains for line in lines), lines) for lines in works.values()]
    return sorted(summed, key=lambda pair: (-pair[0], pair[1][0].work))


def _sum_shown(statement: Statement) -> int:
    return sum(net for net, _ in _by_work(statement)[:WORKS_SHOWN_MAX])


def _works(statement: Statement, money: Callable[[int], Amount]) -> list[WorkPart]:
    return [
        WorkPart(
            title=lines[0].title or lines[0].work,
            work=lines[0].work,
            answers=f"{sum(line.answers for line in lines):,}",
            split="all of it is yours"
            if lines[0].split_ppm == PPM
            else f"your part is {percent(lines[0].split_ppm, PPM)}",
            bar=percent(net, statement.earned_grains),
            net=money(net),
            uses=_uses(statement, lines, money),
        )
        for net, lines in _by_work(statement)
    ]


def _uses(statement: Statement, lines: list[StatementLine], money: Callable[[int], Amount]) -> list[Use]:
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
            money,
            _basis(statement, group),
        )
        for (app, model, _, _), group in ordered[:USES_SHOWN_MAX]
    ]
    rest = [line for _, group in ordered[USES_SHOWN_MAX:] for line in group]
    if rest:
        count = len(ordered) - USES_SHOWN_MAX
        uses.append(_use(f"{count} more uses", "", rest, money, "each is in the CSV and JSON"))
    return uses


def _use(
    app: str,
    model: str,
    lines: list[StatementLine],
    money: Callable[[int], Amount],
    basis: str,
) -> Use:
    answers = sum(line.answers for line in lines)
    return Use(
        app=app,
        model=model,
        days=_span(min(line.day for line in lines), max(line.day for line in lines)),
        answers=f"{answers:,}",
        share=percent(sum(line.ppm_sum for line in lines), answers * PPM),
        basis=basis,
        gross=money(sum(line.gross_grains for line in lines)),
        net=money(sum(line.net_grains for line in lines)),
    )


def _basis(statement: Statement, lines: list[StatementLine]) -> str:
    """In plain words, what this use is paid by."""
    line, currency = lines[0], statement.currency
    if line.verdict == "free":
        return "free by your choice: told, not paid"
    if line.verdict == "prohibited":
        return "used although consent was refused: not paid, and nobody keeps it"
    if line.verdict == CLAIMED:
        return "somebody else claims this work: held until that is decided"
    if line.verdict == RELEASED:
        return "held in earlier periods, let go because the claim was decided"
    if line.verdict == OWN_APP:
        return "your own app: told, not paid"
    if line.scheme == "direct":
        rate = SYMBOLS.get(currency, f"{currency} ") + decimal_text(line.rate_grains, currency)
        return f"{rate} for a whole answer, times the share"
    price = _spoken(sum(one.price_grains for one in lines), currency)
    return f"{percent(statement.basis.royalty_ppm, PPM)} of what the answers cost ({price}), times the share"


def _spoken(grains: int, currency: str) -> str:
    """An amount inside a sentence: minor units where there are any, else all its digits."""
    if abs(grains) >= GRAINS_PER_MINOR:
        return plain(grains, currency)
    return SYMBOLS.get(currency, f"{currency} ") + decimal_text(grains, currency)


def percent(part: int, whole: int) -> str:
    """Return part/whole as "41.2%", cut and not rounded, by integers; "0%" of nothing."""
    if not whole or not part:
        return "0%"
    tenths = part * 1000 // whole
    if not tenths:
        return "0.1%"  # something is never shown as nothing
    return f"{tenths // 10}.{tenths % 10}%" if tenths % 10 else f"{tenths // 10}%"


def _date(day: str) -> str:
    date = dt.date.fromisoformat(day)
    return f"{date.day} {date:%B} {date.year}"


def _span(first: str, last: str) -> str:
    """Days in a table's few characters: "1-30 Nov", "31 Oct - 2 Nov", with the year where two meet."""
    start, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    if start == end:
        return f"{end.day} {end:%b}"
    if start.year != end.year:
        return f"{start.day} {start:%b} {start.year} – {end.day} {end:%b} {end.year}"
    return (
        f"{start.day}–{end.day} {end:%b}"
        if start.month == end.month
        else f"{start.day} {start:%b} – {end.day} {end:%b}"
    )


def _period_name(label: str) -> str:
    try:
        date = dt.date.fromisoformat(f"{label}-01")
    except ValueError:
        return label
    return f"{date:%B} {date.year}" if len(label) == len("2026-11") else label


FORMATS: Final[dict[str, Callable[[Statement], bytes]]] = {
    "json": to_json,
    "csv": to_csv,
    "tsv": to_tsv,
    "html": to_html,
}
