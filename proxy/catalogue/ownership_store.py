"""Ownership in the store: identifiers, claims and the review queue, each with who said what, when and why.

Nothing here is ever changed or taken out: a decision is a row of its own beside what it decides, with the
registry's number from which it holds. So what was whose at any time can be told later, and a claim that was
decided wrongly is answered by another claim, not by an edit.

An upheld claim gives a work to the claimant by a new version of its split; periods that are closed already
stay as they are. What an index makes of it is known after the next build.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from proxy.catalogue.adapting import lineage, resolved
from proxy.catalogue.identifiers import Identifier
from proxy.catalogue.lookup_store import (
    adaptation_rows,
    adaptations,
    ancestry,
    creators_by_handle,
    next_split_version,
    originals_by_handle,
    owner_of,
    split_rows,
    status_of,
)
from proxy.catalogue.ownership import (
    BASIS_CHARACTERS_MAX,
    NAME_OF_DECIDER_MAX,
    REASON_CHARACTERS_MAX,
    Attestation,
    Claim,
    ClaimOutcome,
    Held,
    ReviewDecision,
    ReviewEntry,
    VerifiedIdentifier,
    checked_evidence,
    checked_words,
)
from proxy.catalogue.tables import metadata
from proxy.catalogue.works import COMMONS, Adapted, whole
from proxy.clock import Clock, Ids
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import BadRequest, Conflict, Forbidden, NotFound

CLAIMS_OPEN_MAX = 20  # of one work: more at once is a flood, to be answered before it grows
# By one creator of others' works: each holds up what its work earns. Whole catalogues an operator opens.
CLAIMS_OF_ONE_MAX = 50
# What changes whom an index credits; the rest (consents, keys, splits) acts without a new one.
FOR_THE_INDEX = (
    "work_registered", "work_released", "hold_upheld",
    "claim_upheld", "identifier_verified", "identifier_revoked", "adaptation_set",
)  # fmt: skip

_tables = metadata.tables
_attestation, _identifier, _review = _tables["attestation"], _tables["work_identifier"], _tables["review"]
_claim, _decision, _split = _tables["claim"], _tables["claim_decision"], _tables["split"]
_work, _event, _adaptation = _tables["work"], _tables["registry_event"], _tables["adaptation"]


class Ownership:
    """What is said and decided about whose a work is. Every method is one transaction.

    creator: the id of the creator who asks, "" for the operator. A creator may claim for themselves and
    withdraw what they claimed; everything else is the operator's. by: the name under which an operator's
    decisions are kept.
    """

    def __init__(
        self, engine: sa.Engine, *, clock: Clock, ids: Ids, creator: str = "", by: str = "operator"
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids
        self._creator = creator
        self._by = creator or checked_words(by, "name of who decides", NAME_OF_DECIDER_MAX)

    # Attestations and identifiers

    def attestations(self, work_id: str) -> list[Attestation]:
        """Return what was attested of a work, oldest first; works older than attestations have none."""
        query = sa.select(_attestation).where(_attestation.c.work_id == work_id).order_by(_attestation.c.seq)
        with self._engine.connect() as connection:
            return [Attestation(*row) for row in connection.execute(query)]

    def identifiers(self, work_id: str) -> list[VerifiedIdentifier]:
        """Return a work's identifiers that are verified now, oldest first."""
        with self._engine.connect() as connection:
            return _verified(connection, _identifier.c.work_id == work_id)

    def verify(self, work_id: str, identifier: Identifier, reason: str = "") -> bool:
        """Record that `identifier` was seen to be this work's, which then stands above unverified copies.

        False when it was verified already. Raises Conflict when it is verified for a work of somebody else:
        whose it is then is a claim's to decide.
        """
        self._operator_only()
        with registry_turn(self._engine) as connection:
            owner = owner_of(connection, work_id)
            same = sa.and_(_identifier.c.scheme == identifier.scheme, _identifier.c.value == identifier.value)
            for known in _verified(connection, same):
                if known.work_id == work_id:
                    return False
                if owner_of(connection, known.work_id) != owner:
                    raise Conflict(
                        f"{identifier} is verified for {known.work_id}, which is somebody else's",
                        remedy="`endcredits claims open` on the one that is wrong, or --revoke it there",
                        code="identifier_taken",
                    )
            self._insert_identifier(connection, work_id, identifier, "verified", reason)
        return True

    def revoke(self, work_id: str, identifier: Identifier, reason: str = "") -> bool:
        """Take a verification back from now on; False when there is none."""
        self._operator_only()
        with registry_turn(self._engine) as connection:
            status_of(connection, work_id)
            known = _verified(connection, _identifier.c.work_id == work_id)
            if str(identifier) not in {one.identifier for one in known}:
                return False
            self._insert_identifier(connection, work_id, identifier, "revoked", reason)
        return True

    def _insert_identifier(
        self, connection: sa.Connection, work_id: str, identifier: Identifier, state: str, reason: str
    ) -> None:
        said = checked_words(reason, "reason", REASON_CHARACTERS_MAX, needed=False)
        row = {"scheme": identifier.scheme, "value": identifier.value, "state": state, "reason": said}
        seq, now_us = self._append(connection, f"identifier_{state}", work_id, row)
        row |= {"work_id": work_id, "seq": seq, "decided_by": self._by, "at_us": now_us}
        connection.execute(sa.insert(_identifier), [row])

    # Claims

    def open_claim(self, work_id: str, claimant: str, basis: str, evidence: Iterable[str] = ()) -> Claim:
        """Record that `claimant` (id or ref) says a work is theirs, and why.

        What is said again in the same words is the claim that is open. Raises Forbidden for a creator who
        claims for another, Conflict when the work is theirs already, or they have another claim open on it,
        or too many are open on it or by them; BadRequest for words that are missing or too long.
        """
        basis = checked_words(basis, "basis", BASIS_CHARACTERS_MAX)
        addresses = checked_evidence(evidence)
        with registry_turn(self._engine) as connection:
            found = creators_by_handle(connection, {claimant}).get(claimant)
            if found is None or found.id == COMMONS:
                remedy = "`endcredits creators list` shows them"
                raise NotFound(f"there is no creator '{claimant}'", remedy=remedy)
            if self._creator and found.id != self._creator:
                raise Forbidden("a claim is opened by the one whose it is", remedy="use their own key")
            if owner_of(connection, work_id) == found.id:
                raise Conflict(
                    f"{work_id} is {found.ref}'s already",
                    remedy="open the claim on the work that stands before it: `endcredits works review`",
                    code="claim_own",
                )
            waiting = [claim for claim in _claims(connection, _claim.c.work_id == work_id) if _open(claim)]
            mine = [claim for claim in waiting if claim.claimant == found.id]
            if mine and (mine[0].basis, mine[0].evidence) == (basis, addresses):
                return mine[0]  # said again
            if mine or len(waiting) >= CLAIMS_OPEN_MAX:
                named = mine[0].id if mine else f"{len(waiting)} claims"
                raise Conflict(
                    f"{named} on {work_id}: still open",
                    remedy="decide it first: `endcredits claims decide`",
                    code="claim_open",
                )
            if self._creator:
                waits = sa.and_(_claim.c.claimant == found.id, _decision.c.seq.is_(None))
                theirs = _claims(connection, waits)
                if len(theirs) >= CLAIMS_OF_ONE_MAX:
                    raise Conflict(
                        f"{len(theirs)} claims of yours are still open",
                        remedy="wait until some are decided, or ask whoever runs this to open more",
                        code="claim_open",
                    )
            row: dict[str, Any] = {
                "id": self._ids.new("clm"),
                "work_id": work_id,
                "claimant": found.id,
                "basis": basis,
                "evidence": msgspec.json.encode(addresses).decode(),
                "opened_by": self._by,
            }
            seq, now_us = self._append(connection, "claim_opened", work_id, row)
            connection.execute(sa.insert(_claim), [row | {"opened_us": now_us, "opened_seq": seq}])
            return _claims(connection, _claim.c.id == row["id"])[0]

    def decide_claim(self, claim_id: str, outcome: ClaimOutcome, reason: str) -> Claim:
        """Decide a claim, once. Upheld, the work is the claimant's from this decision's number on.

        The whole of it: a new version of its split names the claimant alone. Raises NotFound; Conflict for a
        claim that is decided; Forbidden for a creator, unless they withdraw their own.
        """
        said = checked_words(reason, "reason", REASON_CHARACTERS_MAX)
        with registry_turn(self._engine) as connection:
            claim = _one_claim(connection, claim_id)
            if self._creator and (outcome != "withdrawn" or claim.claimant != self._creator):
                raise Forbidden("a creator may withdraw their own claim, and decide none")
            if (claim.state, claim.reason) == (outcome, said):
                return claim  # said again
            if not _open(claim):
                raise Conflict(
                    f"{claim_id} is {claim.state} since {claim.decided_seq}, and a decision stands",
                    remedy="open a new claim: it can lead to another decision",
                    code="claim_decided",
                )
            payload = {"claim": claim_id, "claimant": claim.claimant, "reason": said}
            seq, now_us = self._append(connection, f"claim_{outcome}", claim.work_id, payload)
            row = {"claim_id": claim_id, "outcome": outcome, "reason": said, "decided_by": self._by}
            connection.execute(sa.insert(_decision), [row | {"decided_us": now_us, "seq": seq}])
            if outcome == "upheld":
                version = next_split_version(connection, claim.work_id)
                rows = split_rows(claim.work_id, version, whole(claim.claimant), seq)
                connection.execute(sa.insert(_split), rows)
            return _one_claim(connection, claim_id)

    def claim(self, claim_id: str) -> Claim:
        """Return a claim; NotFound when there is none."""
        with self._engine.connect() as connection:
            return _one_claim(connection, claim_id)

    def claims(
        self,
        *,
        work_id: str = "",
        claimant: str = "",
        open_only: bool = False,
        after_seq: int = 0,
        limit: int | None = None,
    ) -> list[Claim]:
        """Return claims, oldest first: of one work or claimant, or all; decided ones too unless `open_only`.

        after_seq: the last page's last `opened_seq`.
        """
        which = [_claim.c.opened_seq > after_seq]
        which += [_claim.c.work_id == work_id] if work_id else []
        which += [_claim.c.claimant == claimant] if claimant else []
        which += [_decision.c.claim_id.is_(None)] if open_only else []
        with self._engine.connect() as connection:
            return _claims(connection, sa.and_(*which), limit)

    # Adaptations

    def adapts(self, work_id: str) -> tuple[Adapted, ...]:
        """Return what a work adapts, as stated last."""
        with self._engine.connect() as connection:
            return adaptations(connection, [work_id]).get(work_id, ())

    def adapted_by(self, work_id: str) -> tuple[str, ...]:
        """Return the works that state that they were made from this one."""
        ever = sa.select(_adaptation.c.work_id).where(_adaptation.c.original_id == work_id).distinct()
        with self._engine.connect() as connection:
            stated = adaptations(connection, [*connection.execute(ever).scalars()])
        return tuple(sorted(work for work, made in stated.items() if work_id in {one.work for one in made}))

    def set_adapts(self, work_id: str, adapts: Iterable[Adapted]) -> bool:
        """State anew what a work adapts and what part of its money that is worth, by the licence it has.

        False when that was stated already. Acts on money from the next close on, on the index when it is
        built next. Raises BadRequest for an original that is not there, or that was made from this work.
        """
        self._operator_only()
        with registry_turn(self._engine) as connection:
            if owner_of(connection, work_id) == COMMONS:
                raise Conflict(f"{work_id} is nobody's and owes nothing", code="adapts")
            wanted = list(adapts)
            stated = resolved(wanted, originals_by_handle(connection, {one.work for one in wanted}))
            if not stated:
                raise BadRequest("no original is named", remedy="name one, with 0 ppm if it gets nothing")
            if stated == adaptations(connection, [work_id]).get(work_id, ()):
                return False
            older = ancestry(connection, {one.work for one in stated})
            if work_id in {one.work for one in stated} | set(lineage(work_id, older | {work_id: stated})):
                raise BadRequest(f"{work_id} would be made from itself", code="adapts")
            payload = {"adapts": [[one.work, one.ppm] for one in stated]}
            seq, now_us = self._append(connection, "adaptation_set", work_id, payload)
            rows = adaptation_rows(work_id, stated, seq=seq, by=self._by, at_us=now_us)
            connection.execute(sa.insert(_adaptation), rows)
        return True

    # The review queue

    def record_held(self, held: Iterable[Held]) -> None:
        """Write down what a new index holds up, and what it holds up no longer; nothing that is known.

        So the queue can say since when, whatever is built later.
        """
        self._operator_only()
        now = {one.work_id: one for one in held}
        with registry_turn(self._engine) as connection:
            last = _reviewed(connection)
            fresh = [
                ("held", one)
                for work, one in sorted(now.items())
                if work not in last
                or last[work][-1].decision in {"cleared", "released"}
                or _kind_of(last[work]) != (one.kind, one.copy_of)
            ]
            gone = [
                ("cleared", Held(work, ""))
                for work, rows in sorted(last.items())
                if work not in now and rows[-1].decision in {"held", "upheld"}
            ]
            self._insert_reviews(connection, [*fresh, *gone])

    def review(self, work_id: str, decision: ReviewDecision, reason: str = "") -> bool:
        """Release a held work, which then earns from the next index on, or uphold that it is held.

        False when the last decision was the same. It may be said before the work is held: an operator knows.
        """
        self._operator_only()
        said = checked_words(reason, "reason", REASON_CHARACTERS_MAX, needed=False)
        kind = "work_released" if decision == "released" else "hold_upheld"
        with registry_turn(self._engine) as connection:
            status_of(connection, work_id)
            query = sa.select(_event.c.kind).where(
                _event.c.work_id == work_id,
                _event.c.kind.in_(("work_released", "hold_upheld", "hold_appealed")),
            )
            if connection.execute(query.order_by(_event.c.seq.desc()).limit(1)).scalar() == kind:
                return False
            seq, now_us = self._append(connection, kind, work_id, {"work": work_id, "reason": said})
            row = {"work_id": work_id, "seq": seq, "decision": decision, "reason": said, "kind": ""}
            row |= {"other_work": "", "part_ppm": 0, "decided_by": self._by, "at_us": now_us}
            connection.execute(sa.insert(_review), [row])
        return True

    def queue(self, held: Mapping[str, Held], built_us: int) -> list[ReviewEntry]:
        """Return what the index in use holds up, with since when and what was said; longest held first.

        built_us: when that index was built, for works that nobody has written down yet.
        """
        with self._engine.connect() as connection:
            last = _reviewed(connection)
        entries = [_entry(one, last.get(work, []), built_us) for work, one in held.items()]
        return sorted(entries, key=lambda entry: (entry.since_us, entry.held.work_id))

    def rebuild_due(self, built_us: int) -> int:
        """Return how many changes since an index was built it does not know; 0 when it is up to date."""
        query = sa.select(sa.func.count()).select_from(_event)
        query = query.where(_event.c.kind.in_(FOR_THE_INDEX), _event.c.at_us > built_us)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def _insert_reviews(self, connection: sa.Connection, rows: list[tuple[str, Held]]) -> None:
        if not rows:
            return
        now_us = self._clock.now_us()
        kinds = {"held": "work_held", "cleared": "hold_cleared"}
        changes = [
            RegistryChange(kinds[decision], {"kind": one.kind, "copy_of": one.copy_of}, one.work_id)
            for decision, one in rows
        ]
        first = append_registry(connection, changes, actor=self._by, at_us=now_us)
        inserted = [
            {
                "work_id": one.work_id,
                "seq": seq,
                "decision": decision,
                "kind": one.kind,
                "reason": one.note,
                "other_work": one.copy_of,
                "part_ppm": one.part_ppm,
                "decided_by": "index",
                "at_us": now_us,
            }
            for seq, (decision, one) in enumerate(rows, first)
        ]
        connection.execute(sa.insert(_review), inserted)

    def _append(
        self, connection: sa.Connection, kind: str, work_id: str, payload: dict[str, Any]
    ) -> tuple[int, int]:
        now_us = self._clock.now_us()
        change = RegistryChange(kind, payload, work_id)
        return append_registry(connection, [change], actor=self._by, at_us=now_us), now_us

    def _operator_only(self) -> None:
        if self._creator:
            raise Forbidden("this is the operator's to decide", remedy="ask whoever runs this service")


def _verified(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[VerifiedIdentifier]:
    last = {
        (row.work_id, row.scheme, row.value): row
        for row in connection.execute(sa.select(_identifier).where(which).order_by(_identifier.c.seq))
    }
    return [
        VerifiedIdentifier(row.work_id, row.seq, f"{row.scheme}:{row.value}", row.decided_by, row.at_us)
        for row in last.values()
        if row.state == "verified"
    ]


def _claims(
    connection: sa.Connection, which: sa.ColumnElement[bool], limit: int | None = None
) -> list[Claim]:
    query = sa.select(_claim, *(column for column in _decision.c if column.name != "claim_id"))
    query = query.outerjoin(_decision, _decision.c.claim_id == _claim.c.id).where(which)
    return [
        Claim(
            row.id,
            row.work_id,
            row.claimant,
            row.basis,
            msgspec.json.decode(row.evidence, type=tuple[str, ...]),
            row.opened_by,
            row.opened_us,
            row.opened_seq,
            row.outcome or "open",
            row.reason or "",
            row.decided_by or "",
            row.decided_us,
            row.seq,
        )
        for row in connection.execute(query.order_by(_claim.c.opened_seq).limit(limit))
    ]


def _one_claim(connection: sa.Connection, claim_id: str) -> Claim:
    found = _claims(connection, _claim.c.id == claim_id)
    if not found:
        raise NotFound(f"there is no claim '{claim_id}'", remedy="`endcredits claims list` shows them")
    return found[0]


def _open(claim: Claim) -> bool:
    return claim.state == "open"


def _reviewed(connection: sa.Connection) -> dict[str, list[Any]]:
    """Return {work: its rows of the queue's history, oldest first}."""
    found: dict[str, list[Any]] = {}
    for row in connection.execute(sa.select(_review).order_by(_review.c.seq)):
        found.setdefault(row.work_id, []).append(row)
    return found


def _kind_of(rows: list[Any]) -> tuple[str, str]:
    """Return (kind of reason, other work) of the last time an index held the work up."""
    for row in reversed(rows):
        if row.decision == "held":
            return row.kind, row.other_work
    return "", ""


def _entry(held: Held, rows: list[Any], built_us: int) -> ReviewEntry:
    since_us, state, said, by, at_us = 0, "held", "", "", None
    for row in rows:
        if row.decision in {"released", "upheld"}:
            state, said, by, at_us = row.decision, row.reason, row.decided_by, row.at_us
            continue
        if row.decision == "cleared":
            since_us = 0
        elif not since_us or state == "released":
            since_us = row.at_us
        state, said, by, at_us = "held", "", "", None  # nobody has looked at what is held now
    return ReviewEntry(held, since_us or built_us, state, said, by, at_us)
