"""How the demo looks: an answer with its credits by passage, then the credits as a film rolls them.

Made for 80 columns and for terminals without colour: which work a passage comes from stands as a number
beside it, and colour only repeats the number. Shares are printed to the ppm, so that they can be added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from proxy.billing.money import parts
from proxy.errors import Problem

PPM = 1_000_000
_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")
_NOBODY = "·"


class Evidence(msgspec.Struct, frozen=True):
    """Why a work is credited; `output` is [start, end) in code points of the answer."""

    kind: str
    output: tuple[int, int]
    score: float = 0.0


class CreditedWork(msgspec.Struct, frozen=True):
    """One work in the credits of an answer."""

    work: str
    share_ppm: int
    title: str = ""
    creators: tuple[str, ...] = ()
    licence: str = ""
    url: str = ""
    verdict: str | None = None
    evidence: tuple[Evidence, ...] = ()


class Credits(msgspec.Struct, frozen=True):
    """The `attribution` field of a reply. `unattributed_ppm` is None while pending."""

    id: str
    status: str
    unattributed_ppm: int | None = None
    works: tuple[CreditedWork, ...] = ()
    method: str = ""

    @property
    def adds_up(self) -> bool:
        """Whether the shares listed and the unattributed part make a whole."""
        return sum(work.share_ppm for work in self.works) + (self.unattributed_ppm or 0) == PPM


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of an answer; `number` is the credited work's place from 1, 0 for nobody's."""

    text: str
    number: int


def read_credits(field: object) -> Credits:
    """Return a reply's `attribution` field. Raises msgspec.ValidationError when it is not one."""
    return msgspec.convert(field, Credits)


def passages(text: str, works: Sequence[CreditedWork]) -> list[Passage]:
    """Cut `text` where its credit changes; joined again the passages are the text.

    Where two works claim the same words, the one credited higher has them.
    """
    owner = [0] * len(text)
    for number, work in reversed(list(enumerate(works, 1))):
        for evidence in work.evidence:
            start, end = (max(0, min(place, len(text))) for place in evidence.output)
            owner[start:end] = [number] * max(0, end - start)
    cuts = [0, *(at for at in range(1, len(text)) if owner[at] != owner[at - 1]), len(text)]
    pieces = [Passage(text[start:end], owner[start]) for start, end in pairwise(cuts) if end > start]
    return _with_gaps_closed(pieces)


def _with_gaps_closed(pieces: list[Passage]) -> list[Passage]:
    """Give signs and spaces that no evidence covers to the passage before them, and join neighbours."""
    joined: list[Passage] = []
    for piece in pieces:
        text = piece.text
        if joined and piece.number == 0:
            gap = next((at for at, sign in enumerate(text) if sign.isalnum()), len(text))
            joined[-1] = Passage(joined[-1].text + text[:gap], joined[-1].number)
            text = text[gap:]
        if joined and joined[-1].number == piece.number:
            joined[-1] = Passage(joined[-1].text + text, piece.number)
        elif text:
            joined.append(Passage(text, piece.number))
    return joined


def style_of(number: int) -> str:
    """Return the colour of the work with this place; nobody's passages are dim."""
    return _STYLES[(number - 1) % len(_STYLES)] if number else "dim"


def answer(text: str, works: Sequence[CreditedWork]) -> RenderableType:
    """Return the answer, each passage beside the number of the work it comes from."""
    grid = Table.grid(padding=(0, 2, 0, 1))
    grid.add_column(justify="right", width=2)
    grid.add_column()
    for passage in passages(text, works):
        style = style_of(passage.number)
        mark = str(passage.number) if passage.number else _NOBODY
        for paragraph in filter(None, map(str.strip, passage.text.split("\n\n"))):
            grid.add_row(Text(mark, style=f"bold {style}"), Text(paragraph, style=style))
    return grid


def roll(credits_: Credits) -> RenderableType:
    """Return the credits of one answer: title, creators, share and kind of evidence, and what is nobody's."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1), show_footer=True, header_style="bold")
    total_ppm = sum(work.share_ppm for work in credits_.works) + (credits_.unattributed_ppm or 0)
    table.add_column("", justify="right", width=2)
    table.add_column("Credits", footer="together", max_width=29)
    table.add_column("by", max_width=20)
    table.add_column("share", justify="right", footer=percent(total_ppm), no_wrap=True)
    table.add_column("evidence")
    for number, work in enumerate(credits_.works, 1):
        said = [*(evidence.kind for evidence in work.evidence), *([work.verdict] if work.verdict else [])]
        kinds = ", ".join(dict.fromkeys(said))
        cells = (str(number), work.title, ", ".join(work.creators), percent(work.share_ppm), kinds)
        table.add_row(*(Text(cell) for cell in cells), style=style_of(number))
    if credits_.unattributed_ppm is None:
        table.add_row(_NOBODY, "not settled yet", "", "", "")
    else:
        table.add_row(_NOBODY, "unattributed", "nobody", percent(credits_.unattributed_ppm), "", style="dim")
    return table


def percent(share_ppm: int) -> str:
    """Return ppm as percent with every digit: 412345 is "41.2345 %"."""
    return f"{share_ppm // 10_000}.{share_ppm % 10_000:04d} %"


class StatementLine(msgspec.Struct, frozen=True):
    """One line of a statement, as exported: what a work brought in, and this creator's part of it."""

    title: str
    answers: int
    ppm_sum: int
    gross_grains: int
    split_ppm: int
    net_grains: int
    verdict: str = "paid"


class Statement(msgspec.Struct, frozen=True):
    """What the demo reads of an exported statement."""

    period: str
    name: str
    currency: str
    opening_grains: int
    earned_grains: int
    closing_grains: int
    lines: tuple[StatementLine, ...]


def read_statement(exported: bytes) -> Statement:
    """Return a statement exported as JSON. Raises msgspec.DecodeError when it is none."""
    return msgspec.json.decode(exported, type=Statement)


def checked(statement_: Statement) -> str:
    """Add the statement up from its lines, and say so. Raises Problem when it does not add up."""
    nets = sum(line.net_grains for line in statement_.lines)
    earned, closing = statement_.earned_grains, statement_.opening_grains + statement_.earned_grains
    if nets != earned or closing != statement_.closing_grains:
        raise Problem(
            f"the statement of {statement_.name} does not add up: lines {nets}, earned {earned}, "
            f"closing {statement_.closing_grains} grains",
            remedy="this is a bug of ours: please send us the exported file",
            code="demo",
        )
    lines = "1 line sums" if len(statement_.lines) == 1 else f"{len(statement_.lines)} lines sum"
    return f"Checked: {lines} to what was earned, and opening + earned = closing."


def statement(statement_: Statement) -> RenderableType:
    """Return the statement as a table whose last column adds up."""
    currency = statement_.currency
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
        title=Text(f"Statement of {statement_.name}, period {statement_.period}", style="bold"),
        title_justify="left",
    )
    table.add_column("work", max_width=28)
    for heading in ("answers", "ppm", "work earned", "part", currency):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in statement_.lines:
        named = line.title if line.verdict == "paid" else f"{line.title} ({line.verdict})"
        part = f"{line.split_ppm / 10_000:g} %"
        gross, net = (amount(grains, currency) for grains in (line.gross_grains, line.net_grains))
        table.add_row(Text(named), str(line.answers), f"{line.ppm_sum:,}", gross, part, net)
    for heading, grains in (
        ("opening", statement_.opening_grains),
        ("earned", statement_.earned_grains),
        ("closing", statement_.closing_grains),
    ):
        table.add_row(heading, "", "", "", "", amount(grains, currency), style="bold")
    return table


def amount(grains: int, currency: str) -> str:
    """Return an amount with every digit a grain has, so that a column can be added up by eye."""
    sign, whole, minor, fine = parts(grains, currency)
    return f"{sign}{whole}.{minor}{fine}"
