"""A statement as files: JSON and tables for machines, a page and a printed document for whom it is about.

Every format says the same integers. JSON is canonical (sorted keys, stable bytes) and carries each amount
twice: grains for machines, exact decimal text for eyes. CSV and TSV are one row a line with no totals among
them, so that a column can be summed; `distributor` has the columns that music distributors' reports have. The
page is made in page.py, the printed document in paper.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from proxy.billing.cells import csv_cell, csv_cell_again, safe_cell
from proxy.billing.locales import style_of
from proxy.billing.money import decimal_text, decimal_texts
from proxy.billing.page import PLAIN, Dress, to_html
from proxy.billing.paper import to_pdf
from proxy.billing.schemes import HELD
from proxy.billing.statement import Closing, Statement, StatementLine, canonical
from proxy.clock import iso_utc
from proxy.errors import BadRequest

FORMAT: Final = "endcredits-statement/1"
COLUMNS: Final = (
    "statement", "period", "creator", "creator_name", "currency", "work", "title", "app", "app_name", "model",
    "day", "scheme", "verdict", "answers", "share_ppm_sum", "price", "rate", "gross", "split_version",
    "split_ppm", "net", "gross_grains", "net_grains",
)  # fmt: skip
DISTRIBUTOR_COLUMNS: Final = (
    "Reporting Date", "Sale Month", "Store", "Artist", "Title", "ISRC", "UPC", "Quantity", "Team Percentage",
    "Song/Album", "Country of Sale", "Songwriter Royalties Withheld", "Earnings", "Currency", "Work",
    "Statement",
)  # fmt: skip

Amounts = tuple[list[str], list[str], list[str], list[str]]


# For machines


def to_json(statement: Statement, amounts: Amounts | None = None) -> bytes:
    """Return canonical JSON: beside every `x_grains` its exact decimal text as `x`."""
    head = msgspec.structs.replace(statement, lines=())
    plain = cast("dict[str, Any]", msgspec.to_builtins(head))
    totals = canonical(plain.pop("totals"))
    said = _with_texts(plain, statement.currency)
    said["totals"] = _totals_with_texts(totals, statement.currency)
    said["lines"] = _lines_with_texts(statement, amounts or amounts_of(statement))
    return canonical({"format": FORMAT, **said}) + b"\n"


class _LineWithTexts(StatementLine, frozen=True, kw_only=True, gc=False):
    """A line as JSON says it. A struct and not a dictionary: statements of a period have millions of them."""

    price: str
    rate: str
    gross: str
    net: str


def _lines_with_texts(statement: Statement, amounts: Amounts) -> list[_LineWithTexts]:
    return [
        _LineWithTexts(
            work=line.work,
            title=line.title,
            app=line.app,
            model=line.model,
            day=line.day,
            scheme=line.scheme,
            verdict=line.verdict,
            answers=line.answers,
            ppm_sum=line.ppm_sum,
            price_grains=line.price_grains,
            rate_grains=line.rate_grains,
            gross_grains=line.gross_grains,
            split_version=line.split_version,
            split_ppm=line.split_ppm,
            net_grains=line.net_grains,
            price=price,
            rate=rate,
            gross=gross,
            net=net,
        )
        for line, price, rate, gross, net in zip(statement.lines, *amounts, strict=True)
    ]


def amounts_of(statement: Statement) -> Amounts:
    """Return the lines' prices, rates, grosses and nets as decimal text: a third of what a document costs."""
    lines, currency = statement.lines, statement.currency
    return (
        decimal_texts([line.price_grains for line in lines], currency),
        decimal_texts([line.rate_grains for line in lines], currency),
        decimal_texts([line.gross_grains for line in lines], currency),
        decimal_texts([line.net_grains for line in lines], currency),
    )


@functools.lru_cache(maxsize=8)  # every statement of a period has the same
def _totals_with_texts(totals: bytes, currency: str) -> msgspec.Raw:
    return msgspec.Raw(canonical(_with_texts(msgspec.json.decode(totals), currency)))


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


def to_csv(statement: Statement, amounts: Amounts | None = None) -> bytes:
    """Return RFC 4180 with a header row, UTF-8. No cell can be taken for a formula by a spreadsheet."""
    head = (statement.id, statement.period, statement.creator, statement.name, statement.currency)
    begin = ",".join(map(csv_cell, head))
    app_cells = {app: csv_cell(name) for app, name in statement.app_names.items()}
    again = csv_cell_again
    rows = [
        f"{begin},{csv_cell(line.work)},{csv_cell(line.title)},{again(line.app)},"
        f"{app_cells.get(line.app) or again(line.app)},{again(line.model)},{again(line.day)},"
        f"{again(line.scheme)},{again(line.verdict)},{line.answers},{line.ppm_sum},{price},{rate},"
        f"{gross},{line.split_version},{line.split_ppm},{net},{line.gross_grains},{line.net_grains}\r\n"
        for line, price, rate, gross, net in zip(
            statement.lines, *(amounts or amounts_of(statement)), strict=True
        )
    ]
    return "".join((",".join(COLUMNS) + "\r\n", *rows)).encode("utf-8")


def to_tsv(statement: Statement) -> bytes:
    """Return tab-separated rows, UTF-8: nothing is quoted, a tab or line break in a title is a space."""
    rows = [COLUMNS, *([" ".join(safe_cell(cell).split()) for cell in row] for row in _rows(statement))]
    return "".join("\t".join(row) + "\n" for row in rows).encode("utf-8")


def to_distributor(statement: Statement) -> bytes:
    """Return a report with the columns of a music distributor's, tab-separated: one row a line.

    Quantity is answers; Earnings is this creator's part, exact, in the statement's currency; Team Percentage
    is their part of the split. What we do not know (ISRC, UPC, Country) is empty and never guessed.
    """
    rows = [DISTRIBUTOR_COLUMNS]
    rows += [tuple(" ".join(safe_cell(cell).split()) for cell in row) for row in _distributor_rows(statement)]
    return "".join("\t".join(row) + "\n" for row in rows).encode("utf-8")


def _distributor_rows(statement: Statement) -> Iterable[tuple[str, ...]]:
    reported = iso_utc(statement.closed_us)[:10]
    for line in statement.lines:
        store = " / ".join(filter(None, (statement.app_names.get(line.app, line.app), line.model)))
        yield (
            reported, line.day[:7], store, statement.name, line.title or line.work, "", "", str(line.answers),
            _percentage(line.split_ppm), "Song", "", "0", decimal_text(line.net_grains, statement.currency),
            statement.currency, line.work, statement.id,
        )  # fmt: skip


def _percentage(ppm: int) -> str:
    """Return "33.3333" for 333,333 ppm: exact, as every ppm has four digits after a percentage's point."""
    return f"{ppm // 10_000}.{ppm % 10_000:04d}".rstrip("0").rstrip(".")


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


def _bare(make: Callable[[Statement], bytes]) -> Callable[[Statement, Dress], bytes]:
    """A machine format: the same bytes whoever reads it."""
    return lambda statement, _dress: make(statement)


MAKERS: Final[dict[str, Callable[[Statement, Dress], bytes]]] = {
    "json": lambda statement, _dress: to_json(statement),
    "csv": lambda statement, _dress: to_csv(statement),
    "tsv": _bare(to_tsv),
    "distributor": _bare(to_distributor),
    "html": to_html,
    "pdf": to_pdf,
}
_BY_AMOUNTS: Final = {"json": to_json, "csv": to_csv}
FOR_EYES: Final = frozenset({"html", "pdf"})
SUFFIXES: Final = {"distributor": "distributor.tsv"}  # of files; the others are named as their format
MEDIA_TYPES: Final = {
    "json": "application/json",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "distributor": "text/tab-separated-values",
    "html": "text/html",
    "pdf": "application/pdf",
}


def form_of(suffix: str) -> str | None:
    """Return which format a file's ending names, None for none: "distributor.tsv" is distributor."""
    return next((form for form in MAKERS if suffix in {form, SUFFIXES.get(form, form)}), None)


def file_name(statement: Statement, form: str) -> str:
    """Return what its file is called: ASCII without a space, and no two are the same."""
    return f"{statement.period}-{statement.id}.{SUFFIXES.get(form, form)}"


def render(statement: Statement, form: str, dress: Dress = PLAIN) -> bytes:
    """Return the statement in one of MAKERS' formats. Raises BadRequest where `pdf` lacks its extra."""
    return MAKERS[form](statement, dress)


def render_all(statement: Statement, dresses: Mapping[str, Dress]) -> list[bytes]:
    """Return it in several formats, {format: how to show it}; amounts are put into text once for all."""
    amounts = amounts_of(statement) if dresses.keys() >= _BY_AMOUNTS.keys() else None
    return [
        _BY_AMOUNTS[form](statement, amounts) if form in _BY_AMOUNTS else render(statement, form, dress)
        for form, dress in dresses.items()
    ]


def dressed(form: str, locale: str = "", *, state: str = "", until_us: int = 0, fonts: str = "") -> Dress:
    """Return how to show it. Raises BadRequest for a locale of a machine format, or one that is none."""
    if locale and form not in FOR_EYES:
        raise BadRequest(
            f"{form} is for machines and is the same in every locale",
            remedy="leave the locale out, or ask for html or pdf",
            code="locale",
        )
    return Dress(style_of(locale), state, until_us, fonts)
