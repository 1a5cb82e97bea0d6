"""A dispute about lines of a statement: opened, answered, settled or taken back. Decided without a store.

    open -> answered -> settled
    open, answered -> withdrawn

Opening moves what the disputed lines paid out of their creators' accounts into `liab:escrow:dispute:{case}`,
as far as it is still owed: what was paid out stays paid, and no account is taken below nothing. A creator may
dispute her own lines only, and hold her own money or none; an operator may hold everybody's whom the same use
of the same works paid. Who did not open it answers; a case that nobody answered in time is called overdue,
and nothing is booked by a clock.

Settling divides what is held: to those it was taken from, to another creator, to the common account. What
takes from a creator needs an answer first and a second person: no operator who opened or answered a case may
settle it so. A line stays in one case: while it is open, and for ever once its money went elsewhere.

A third party who says that a work is theirs opens a claim, not a dispute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from proxy.billing import ledger
from proxy.billing.ledger import Entry, Transfer, transfer_id
from proxy.billing.money import PPM, allocate
from proxy.billing.payouts import same_person
from proxy.billing.statement import StatementLine
from proxy.clock import base32
from proxy.errors import BadRequest, Conflict, Forbidden

HOLDER: Final = "holder"
COMMON: Final = "common"
REASON_IN_COMMON: Final = "disputed"  # under which the common account keeps what a settlement gives it
DAY_US: Final = 86_400_000_000
ANSWER_CHARACTERS_MAX: Final = 4_000  # two pages, as a claim's basis
LINES_MAX: Final = 5_000  # of one case: a statement with more is disputed by the work
PARTS_MAX: Final = 50  # of one settlement
Side = Literal["creator", "operator"]
HoldWhat = Literal["none", "own", "all"]
Kind = Literal["opened", "answered", "withdrawn", "settled"]
State = Literal["open", "answered", "withdrawn", "settled"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Where a part of what is held goes: "holder", "common", or a creator's id."""

    to: str
    ppm: int


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """One creator's part of a case: what the disputed lines paid, and what of it was still owed."""

    creator: str
    disputed_grains: int
    held_grains: int


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as it was opened; it never changes. lines: places in the statement, from 1.

    creator: whose statement it is; opened_by: a creator's id, or an operator's name; due_us: until when it is
    to be answered.
    """

    id: str
    statement: str
    period: str
    creator: str
    currency: str
    lines: tuple[int, ...]
    basis: str
    hold: HoldWhat
    side: Side
    opened_by: str
    opened_us: int
    due_us: int
    holds: tuple[Hold, ...]

    @property
    def held_grains(self) -> int:
        """What the case took into escrow."""
        return sum(one.held_grains for one in self.holds)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a case. parts: of a settlement."""

    seq: int
    kind: Kind
    side: Side
    by: str
    said: str
    at_us: int
    parts: tuple[Part, ...] = ()


def case_id(side: Side, by: str, statement: str, lines: Sequence[int], basis: str, hold: HoldWhat) -> str:
    """Return the id of a case: opening the same twice is opening it once."""
    said = "|".join(("dispute", side, by, statement, ",".join(map(str, lines)), basis, hold))
    digest = hashlib.sha256(said.encode()).digest()
    return "dsp_" + base32(int.from_bytes(digest[:17], "big") >> 6)


def chosen(lines: Sequence[StatementLine], *, work: str = "", numbers: Iterable[int] = ()) -> tuple[int, ...]:
    """Return the places (from 1) of the lines that are disputed: those named, those of a work, or all.

    Raises BadRequest when that is none, one that is not there, or too many.
    """
    wanted = sorted(set(numbers))
    if wanted and (wanted[0] < 1 or wanted[-1] > len(lines)):
        raise BadRequest(f"there are lines 1 to {len(lines)}", code="dispute_lines")
    found = [
        place
        for place, line in enumerate(lines, 1)
        if (not wanted or place in set(wanted)) and work in {"", line.work}
    ]
    if not found or len(found) > LINES_MAX:
        raise BadRequest(
            f"that names {len(found)} lines",
            remedy=f"name a work of the statement, or 1 to {LINES_MAX} lines of it",
            code="dispute_lines",
        )
    return tuple(found)


def use_of(line: StatementLine) -> tuple[str, str, str, str, str]:
    """Return what makes lines of several statements the same use: work, app, model, day and scheme."""
    return line.work, line.app, line.model, line.day, line.scheme


def may_open(side: Side, hold: HoldWhat) -> None:
    """Raise Forbidden for a creator who wants everybody's money held."""
    if side == "creator" and hold == "all":
        raise Forbidden("a creator can hold their own lines only", remedy="ask an operator to open it")


def hold(creator: str, lines: Iterable[StatementLine], owed_grains: int) -> Hold:
    """Return what a case takes of one creator: what the lines paid, up to what is still owed."""
    disputed = sum(line.net_grains for line in lines)
    return Hold(creator=creator, disputed_grains=disputed, held_grains=max(0, min(disputed, owed_grains)))


def state_of(events: Sequence[Event]) -> State:
    """Return a case's state."""
    kind = events[-1].kind if events else "opened"
    return "open" if kind == "opened" else kind


def is_over(events: Sequence[Event]) -> bool:
    """Return whether nothing is held any more."""
    return state_of(events) in {"withdrawn", "settled"}


def is_overdue(case: Case, events: Sequence[Event], now_us: int) -> bool:
    """Return whether nobody has answered in time."""
    return state_of(events) == "open" and now_us >= case.due_us


def keeps_lines(events: Sequence[Event]) -> bool:
    """Return whether the case's lines cannot be disputed again: it is open, or took their money elsewhere."""
    return not is_over(events) or any(_takes(event.parts) for event in events)


def may_answer(case: Case, events: Sequence[Event], *, side: Side, by: str, said: str) -> bool:
    """Return whether an answer is new: False for the same words again.

    Raises Forbidden for who opened it, and for a creator whom it does not concern; Conflict when it is over.
    """
    if side == "creator" and (case.side == "creator" or not concerns(case, by)):
        raise Forbidden("who opened a dispute does not answer it", remedy="wait for the operator's answer")
    last = events[-1]
    if (last.kind, last.side, last.said) == ("answered", side, said):
        return False
    if state_of(events) != "open":
        raise Conflict(
            f"{case.id} is {state_of(events)}",
            remedy="a case is answered once; what follows is its settlement",
            code="dispute_answered",
        )
    return True


def may_withdraw(case: Case, events: Sequence[Event], *, side: Side, by: str) -> bool:
    """Return whether taking it back does something. Raises Forbidden for who did not open it."""
    if side != case.side or (side == "creator" and by != case.opened_by):
        raise Forbidden("a dispute is taken back by who opened it", remedy="an operator can settle it")
    if state_of(events) == "settled":
        raise Conflict(f"{case.id} is settled, and that stands", code="dispute_settled")
    return state_of(events) != "withdrawn"


def may_settle(case: Case, events: Sequence[Event], parts: tuple[Part, ...], by: str) -> bool:
    """Return whether settling it so does something: False when it was settled just so.

    Raises Conflict where it may not be: it is over otherwise, or it takes from a creator and nobody has
    answered, or `by` opened or answered it.
    """
    if is_over(events):
        if events[-1].parts == parts:
            return False
        raise Conflict(
            f"{case.id} is {state_of(events)}, and that stands",
            remedy="correct it by an adjustment",
            code="dispute_settled",
        )
    if not (_takes(parts) and case.held_grains):
        return True
    if state_of(events) != "answered":
        raise Conflict(
            f"nobody has answered {case.id}",
            remedy="answer it first: what takes from a creator hears both sides",
            code="dispute_unanswered",
        )
    if any(one.side == "operator" and same_person(one.by, by) for one in events):
        raise Conflict(
            f"{by} opened or answered {case.id}, and this takes from a creator",
            remedy="another person settles it so",
            code="dispute_second_person",
        )
    return True


def concerns(case: Case, creator: str) -> bool:
    """Return whether a case is about a creator's statement or money."""
    return creator == case.creator or any(one.creator == creator for one in case.holds)


def seen_by(case: Case, creator: str) -> Case:
    """Return a case as one creator sees it: not what it holds of others, nor which operator opened it."""
    return msgspec.structs.replace(
        case,
        holds=tuple(one for one in case.holds if one.creator == creator),
        opened_by=case.opened_by if case.side == "creator" else "operator",
    )


def checked_parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return where what is held goes, sorted, each place once. Raises BadRequest unless it is the whole."""
    kept = tuple(sorted((one for one in parts if one.ppm), key=lambda one: one.to))
    places = {one.to for one in kept}
    if (
        sum(one.ppm for one in kept) != PPM
        or any(one.ppm < 0 for one in kept)
        or len(places) != len(kept)
        or len(kept) > PARTS_MAX
    ):
        raise BadRequest(
            f"the parts of a settlement are not {PPM} ppm",
            remedy=f"write up to {PARTS_MAX} like holder:600000 and common:400000, each place once",
            code="dispute_parts",
        )
    return kept


def parse_part(text: str) -> Part:
    """Return the part that `holder`, `common:250000` or `CREATOR:PPM` names. Raises BadRequest."""
    to, colon, ppm = text.rpartition(":")
    if not colon:
        return Part(to=text, ppm=PPM)
    if not (ppm.isascii() and ppm.isdigit()) or len(ppm) > len(str(PPM)):
        raise BadRequest(f"'{text}' is no part", remedy="write it like holder:600000", code="dispute_parts")
    return Part(to=to, ppm=int(ppm))


def _takes(parts: Iterable[Part]) -> bool:
    return any(one.to != HOLDER and one.ppm for one in parts)


# What is booked


def held(case: Case) -> list[Transfer]:
    """Return what opening books: out of what creators are owed, into the case's escrow."""
    return [
        _move("dispute_hold", case, one.creator, ledger.payee(one.creator), _escrow(case), one.held_grains, 0)
        for one in case.holds
        if one.held_grains
    ]


def let_go(case: Case, parts: Sequence[Part], at_us: int) -> list[Transfer]:
    """Return what ending a case books: each creator's hold divided by `parts`, to the grain."""
    made: list[Transfer] = []
    for one in case.holds:
        shares = allocate(
            one.held_grains, [(part.to, part.ppm) for part in parts], f"{case.id}|{one.creator}|dispute"
        )
        back = shares.pop(HOLDER, 0) + shares.pop(one.creator, 0)
        # (kind, account, grains, what tells several bookings of one hold apart)
        booked = [("dispute_release", ledger.payee(one.creator), back, "")]
        booked += [
            ("dispute_common", ledger.common(case.period, REASON_IN_COMMON), grains, f"|{to}")
            if to == COMMON
            else ("dispute_award", ledger.payee(to), grains, f"|{to}")
            for to, grains in sorted(shares.items())
        ]
        made += [
            _move(
                kind,
                case,
                f"{one.creator}{to}",
                _escrow(case),
                account,
                grains,
                at_us,
            )
            for kind, account, grains, to in booked
            if grains
        ]
    return made


def _escrow(case: Case) -> str:
    return ledger.disputed(case.id)


def _move(kind: str, case: Case, whose: str, debit: str, credit: str, grains: int, at_us: int) -> Transfer:
    entries = (Entry(debit, "D", grains), Entry(credit, "C", grains))
    source = f"{case.id}|{whose}"
    return Transfer(
        transfer_id(kind, source), kind, case.currency, at_us or case.opened_us, "", case.id, entries
    )
