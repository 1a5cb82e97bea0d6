"""A score becomes credits: the shares that the scorer found, with what the registry says of each work today.

The scorer knows works by their public ids and nothing else. Whether a use is paid, free or prohibited, and
what a work is called, is the catalogue's to say at the moment of the answer. A work that the catalogue no
longer knows (erased) cannot be credited: its share joins the unattributed, so that shares always sum to
1,000,000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from proxy.metering.usage import PPM, Attributed, Line, Verdict
from proxy.relay.guard import Replication
from proxy.relay.scored import Evidence, Scored
from proxy.wire.annotate import (
    AttributionView,
    Citation,
    Citations,
    EvidenceView,
    ReplicationView,
    UrlCitation,
    WorkView,
)
from proxy.wire.headers import View

EXCERPTS_MAX = 20  # citations of one work: more is a copy, and a copy is not shown by footnotes


class WorkCredit(Protocol):
    """What the catalogue says of one work (catalogue.works.WorkCredit)."""

    @property
    def work(self) -> str:
        """The public id."""
        ...

    @property
    def title(self) -> str:
        """As registered."""
        ...

    @property
    def creators(self) -> tuple[str, ...]:
        """Names to show, in the order of the split."""
        ...

    @property
    def licence(self) -> str:
        """As registered; may be empty."""
        ...

    @property
    def url(self) -> str:
        """Where the work is found; may be empty."""
        ...

    @property
    def excerpt_words(self) -> int | None:
        """How many words of it an answer may repeat, None where its creator says nothing."""
        ...

    @property
    def verdict(self) -> Verdict:
        """What this use is today."""
        ...


CreditOf = Callable[[str], WorkCredit | None]


class CreditedWork(msgspec.Struct, frozen=True):
    """One work's share of one answer, with what is shown of the work."""

    work: str
    title: str
    creators: tuple[str, ...]
    licence: str
    url: str
    verdict: Verdict
    ppm: int
    evidence: tuple[Evidence, ...] = ()

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """Where in the work its evidence stands: [start, end) in code points of the work's text."""
        return [(one.work_start, one.work_end) for one in self.evidence if one.work_end > one.work_start]


class Credited(msgspec.Struct, frozen=True):
    """An answer's credits: works largest first, integers that sum to 1,000,000 with `unattributed_ppm`.

    reason: why an answer was not scored ("no_text", "not_attributed"), empty when it was. replication: what
    the guard found; not a matter of shares, and in no record.
    """

    unattributed_ppm: int
    works: tuple[CreditedWork, ...] = ()
    method: str = ""
    registry_seq: int = 0
    reason: str = ""
    replication: tuple[Replication, ...] = ()

    def record(self, event_id: str) -> Attributed:
        """Return the journal's record of these shares."""
        lines = tuple(Line(work=work.work, ppm=work.ppm, verdict=work.verdict) for work in self.works)
        return Attributed(
            id=event_id,
            unattributed_ppm=self.unattributed_ppm,
            lines=lines,
            reason=self.reason,
            method=self.method,
            registry_seq=self.registry_seq,
        )


def unscored(reason: str, *, method: str = "", registry_seq: int = 0) -> Credited:
    """Return the credits of an answer that was not scored: all of it unattributed, and why."""
    return Credited(PPM, method=method, registry_seq=registry_seq, reason=reason)


def credited(scored: Scored, credit_of: CreditOf, *, registry_seq: int) -> Credited:
    """Return the score with the registry's word on each work; erased works' shares become unattributed."""
    unattributed_ppm = scored.unattributed_ppm
    works: list[CreditedWork] = []
    for share in scored.works:
        credit = credit_of(share.work)
        if credit is None:
            unattributed_ppm += share.ppm
            continue
        works.append(
            CreditedWork(
                credit.work,
                credit.title,
                credit.creators,
                credit.licence,
                credit.url,
                credit.verdict,
                share.ppm,
                share.evidence,
            )
        )
    works.sort(key=lambda work: (-work.ppm, work.work))
    return Credited(unattributed_ppm, tuple(works), scored.method, registry_seq)


def view_of(
    event_id: str, credits_: Credited | None, *, view: View, top: int, choices: int, method: str
) -> AttributionView:
    """Return the spliced field. None: late, so nothing is said of shares. `top` bounds the works listed."""
    if credits_ is None:
        return AttributionView(event_id, "pending", method, None)
    works = tuple(
        WorkView(
            work.work,
            work.title,
            work.creators,
            work.ppm,
            work.licence,
            work.url,
            verdict="prohibited" if work.verdict == "prohibited" else None,
            evidence=_evidence(work, choices) if view == "full" else None,
        )
        for work in credits_.works[:top]
    )
    view_ = AttributionView(event_id, "settled", credits_.method or method, credits_.unattributed_ppm, works)
    if not credits_.replication:
        return view_
    found = tuple(
        ReplicationView(
            one.work, one.words, one.limit, (one.start, one.end), one.choice if choices > 1 else None
        )
        for one in credits_.replication
    )
    return msgspec.structs.replace(view_, replication=found)


def citations_of(credits_: Credited | None, *, top: int) -> Citations:
    """Return url_citation entries by choice: one for each stretch of output owed to a work that has a url."""
    found: Citations = {}
    for work in credits_.works[:top] if credits_ else ():
        for piece in work.evidence[:EXCERPTS_MAX] if work.url else ():
            shown = UrlCitation(piece.start, piece.end, work.title, work.url)
            found.setdefault(piece.choice, []).append(Citation(shown, work.work))
    return found


def _evidence(work: CreditedWork, choices: int) -> tuple[EvidenceView, ...]:
    return tuple(
        EvidenceView(piece.kind, (piece.start, piece.end), piece.score, piece.choice if choices > 1 else None)
        for piece in work.evidence
    )
