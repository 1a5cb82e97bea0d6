"""Whose a text is, and who said so: attestations, standing, claims and what the review queue holds up.

Two people may register one text. What decides is, in this order: an upheld claim, a verified identifier, the
earlier registration. What people say about it on the way is kept word for word and for ever, because it is
what a dispute is about. Nothing is fetched: an address given as evidence is read by the person who decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from proxy.catalogue.works import checked_url, printable
from proxy.errors import BadRequest

STANDING_UPHELD, STANDING_VERIFIED = 2, 1  # 0 where neither is so
BASIS_CHARACTERS_MAX = 4_000  # two pages: what does not fit belongs behind an address
REASON_CHARACTERS_MAX = 1_000
NAME_OF_DECIDER_MAX = 100
EVIDENCE_MAX = 10

# Never change one of these texts: add the next version. What was attested is kept by the digest of its text.
STATEMENTS = {
    "own/1": (
        "I made this text, or I hold the rights to it and may license them here. "
        "I did not take it from somebody else. I know that this statement is kept."
    ),
    "commons/1": (
        "This text is nobody's: it is in the public domain, or given up to it, or boilerplate that anybody "
        "writes. It earns nobody anything, and whoever registers it after this earns nothing by it."
    ),
}
OWN_STATEMENT, COMMONS_STATEMENT = "own/1", "commons/1"

ClaimOutcome = Literal["upheld", "rejected", "withdrawn"]
ClaimState = Literal["open", "upheld", "rejected", "withdrawn"]
ReviewDecision = Literal["released", "upheld"]


def statement_sha256(version: str) -> str:
    """Return the digest under which attestations of this statement are kept."""
    return hashlib.sha256(STATEMENTS[version].encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Attestation:
    """What was said when a work was registered. attested_by: the creator's id, or who spoke for them."""

    work_id: str
    seq: int
    statement: str
    statement_sha256: str
    text_sha256: str
    attested_by: str
    on_behalf_of: str
    at_us: int


@dataclass(frozen=True, slots=True)
class VerifiedIdentifier:
    """An identifier that somebody has verified for a work, and that nobody has taken back."""

    work_id: str
    seq: int
    identifier: str
    decided_by: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that a work is theirs. The last five fields are empty while it is open."""

    id: str
    work_id: str
    claimant: str
    basis: str
    evidence: tuple[str, ...]
    opened_by: str
    opened_us: int
    opened_seq: int
    state: ClaimState = "open"
    reason: str = ""
    decided_by: str = ""
    decided_us: int | None = None
    decided_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A work that an index holds up, and why.

    kind: the reason as a word, which stays when the part changes a little; note: the same in a sentence.
    copy_of: the work it takes from, "" for none; part_ppm: how much of it that concerns.
    """

    work_id: str
    kind: str
    note: str = ""
    copy_of: str = ""
    part_ppm: int = 0


@dataclass(frozen=True, slots=True)
class ReviewEntry:
    """One line of the review queue: what is held, since when, and what somebody said about it.

    state: held (nobody has looked), upheld (somebody has, and it stays held) or released (it earns from the
    next index on).
    """

    held: Held
    since_us: int
    state: Literal["held", "upheld", "released"] = "held"
    said: str = ""
    decided_by: str = ""
    decided_us: int | None = None


def checked_words(text: str, what: str, characters_max: int, *, needed: bool = True) -> str:
    """Return `text` on one line without control or direction characters.

    It is shown in terminals, tables and pages, where such characters would lie. Raises BadRequest when it is
    empty although `needed`, or longer than `characters_max`: what a dispute is about is not cut silently.
    """
    said = printable(text, len(text))
    if needed and not said:
        raise BadRequest(
            f"the {what} is empty", remedy=f"write the {what} in a sentence or two", code="words"
        )
    if len(said) > characters_max:
        raise BadRequest(
            f"the {what} has {len(said)} characters",
            remedy=f"write up to {characters_max}, and put the rest behind an address",
            code="words",
        )
    return said


def checked_evidence(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return web addresses that speak for a claim, each once. Raises BadRequest for too many, or for none."""
    kept = tuple(dict.fromkeys(checked_url(address.strip()) for address in addresses if address.strip()))
    if len(kept) > EVIDENCE_MAX:
        raise BadRequest(f"{len(kept)} addresses", remedy=f"give up to {EVIDENCE_MAX}", code="words")
    return kept
