"""What a bank answered to a payout file, read into what is to be booked: paid, or not and why.

Two files are read: pain.002, the ISO 20022 report that a bank gives back for a pain.001, and a table that a
person fills in, with the columns payment, answer (paid or returned) and detail. A status that is no end
(accepted, pending) books nothing. Whoever's file it is, its size is bounded and its entities are refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.billing.payout_files import message_id
from proxy.billing.payouts import Batch, payment_states
from proxy.billing.payouts import Event as Happened
from proxy.catalogue.archives import parsed, xml_parser
from proxy.catalogue.works import printable
from proxy.errors import BadRequest, Conflict, TooLarge

ANSWERS_BYTES_MAX: Final = 128 << 20  # 50,000 payments with 2 KB each, more than any bank says of one
REASON_MAX: Final = 500  # characters; a bank's own words may be long
COLUMNS: Final = ("payment", "answer", "detail")
PAID: Final = frozenset({"ACSC", "ACCC"})  # settled on our side, credited on theirs
RETURNED: Final = frozenset({"RJCT", "CANC"})
# Codes of ISO 20022's external list in words, those that creators meet; the others stand as they are.
WORDS: Final[Mapping[str, str]] = {
    "AC01": "there is no such account",
    "AC04": "the account is closed",
    "AC06": "the account is blocked",
    "AG01": "the account takes no transfers",
    "AM05": "the bank has seen this payment before",
    "BE01": "the holder's name is not the account's",
    "MD07": "the holder has died",
    "MS03": "the bank gives no reason",
    "RC01": "the BIC is wrong",
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What a file says. paid: payments; returned: {payment: why}; waiting: how many are not decided yet.

    message: the id of the file that a bank answers, "" in a table; whole: what holds for all of it where
    single payments are not named ("paid", "returned" with `why`, or "").
    """

    paid: tuple[str, ...] = ()
    returned: Mapping[str, str] = field(default_factory=dict[str, str])
    waiting: int = 0
    message: str = ""
    whole: str = ""
    why: str = ""

    def of(self, batch: Batch, events: list[Happened]) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return (paid, returned) for this batch. Raises Conflict when another one is answered."""
        if self.message and self.message != message_id(batch):
            raise Conflict(
                f"this answers {printable(self.message, 40)}, not {message_id(batch)}",
                remedy="name the batch that it answers",
                code="payouts_answer",
            )
        if not self.whole:
            return self.paid, dict(self.returned)
        states = payment_states(batch, events)
        going = tuple(one.id for one in batch.payments if states[one.id] == "pending")
        return (going, {}) if self.whole == "paid" else ((), dict.fromkeys(going, self.why))


def read(raw: bytes) -> Answers:
    """Return what the file says. Raises BadRequest for what is neither, TooLarge beyond ANSWERS_BYTES_MAX."""
    if len(raw) > ANSWERS_BYTES_MAX:
        raise TooLarge(
            f"the bank's answer is larger than {ANSWERS_BYTES_MAX} bytes", remedy="give it in parts"
        )
    return _report(raw) if raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else _table(raw)


def _table(raw: bytes) -> Answers:
    try:
        rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unread("it is no table in UTF-8") from error
    paid: list[str] = []
    returned: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if not set(COLUMNS[:2]) <= row.keys():
            raise _unread(f"its columns are not {', '.join(COLUMNS)}")
        name, answer = (row["payment"] or "").strip(), (row["answer"] or "").strip().casefold()
        if not name or answer not in {"paid", "returned"}:
            raise _unread(f"line {number} does not name a payment and `paid` or `returned`")
        if name in returned or name in paid:
            raise _unread(f"line {number} names {printable(name, 40)} again")
        if answer == "paid":
            paid.append(name)
        else:
            returned[name] = reason_of("", row.get("detail") or "")
    if not rows:
        raise _unread("it has no rows")
    return Answers(tuple(paid), returned)


def _report(raw: bytes) -> Answers:
    reading = _Reading()
    parser = xml_parser("bank's answer")
    parser.buffer_text = True
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.characters
    parsed(parser, raw, "bank's answer")
    if not reading.message:
        raise _unread("it is no pain.002 report on a file of payments")
    if reading.paid or reading.returned or reading.waiting:
        return Answers(tuple(reading.paid), reading.returned, reading.waiting, reading.message)
    status = reading.whole
    whole = "paid" if status in PAID else "returned" if status in RETURNED else ""
    why = reason_of(reading.whole_code, reading.whole_said) if whole == "returned" else ""
    return Answers(message=reading.message, whole=whole, why=why)


class _Reading:
    """Follows a report: what it says of the whole file, and of each payment."""

    def __init__(self) -> None:
        self.message = self.whole = self.whole_code = self.whole_said = ""
        self.paid: dict[str, None] = {}
        self.returned: dict[str, str] = {}
        self.waiting = 0
        self._path: list[str] = []
        self._text: list[str] = []
        self._one: dict[str, str] | None = None

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        """Take an element's beginning."""
        local = name.rpartition(" ")[2]
        self._path.append(local)
        self._text = []
        if local == "TxInfAndSts":
            self._one = {}

    def characters(self, text: str) -> None:
        """Take text."""
        self._text.append(text)

    def end(self, _name: str) -> None:
        """Take an element's end."""
        local, text = self._path.pop(), "".join(self._text).strip()
        self._text = []
        if local == "TxInfAndSts":
            self._payment(self._one or {})
            self._one = None
        elif self._one is not None:
            self._of_payment(local, text)
        elif local == "OrgnlMsgId":
            self.message = self.message or text
        elif local in {"GrpSts", "PmtInfSts"}:
            self.whole = text
        elif self._path[-1:] == ["Rsn"] and local in {"Cd", "Prtry"}:
            self.whole_code = text
        elif local == "AddtlInf":
            self.whole_said = f"{self.whole_said} {text}"

    def _of_payment(self, local: str, text: str) -> None:
        assert self._one is not None
        if local in {"OrgnlEndToEndId", "TxSts"}:
            self._one[local] = text
        elif self._path[-1:] == ["Rsn"] and local in {"Cd", "Prtry"}:
            self._one.setdefault("code", text)
        elif local == "AddtlInf":
            self._one["said"] = f"{self._one.get('said', '')} {text}"

    def _payment(self, one: Mapping[str, str]) -> None:
        name, status = one.get("OrgnlEndToEndId", ""), one.get("TxSts", "")
        if not name:
            raise _unread("it speaks of a payment without its end-to-end id")
        if name in self.paid or name in self.returned:
            raise _unread(f"it speaks of {printable(name, 40)} twice")
        if status in PAID:
            self.paid[name] = None
        elif status in RETURNED:
            self.returned[name] = reason_of(one.get("code", ""), one.get("said", ""))
        else:
            self.waiting += 1


def reason_of(code: str, said: str) -> str:
    """Return a bank's reason as a creator reads it: its code, in words where we have them, and its own."""
    words = WORDS.get(code, "")
    told = printable(f"{code}: {words}" if words else code, 100)
    added = printable(said, REASON_MAX)
    return f"{told} ({added})" if told and added else told or added or "the bank gives no reason"


def _unread(why: str) -> BadRequest:
    return BadRequest(
        f"this is no answer to a payout file: {why}",
        remedy=f"give a pain.002 report, or a table with the columns {', '.join(COLUMNS)}",
        code="payouts_answer",
    )
