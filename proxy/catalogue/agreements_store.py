"""Splits that are proposed and countersigned, in the store: proposals, answers, and the split they become.

The last one who agrees and the new version of the split are one transaction in the registry's turn, so that a
split is in force exactly when everybody has agreed. What is said is in the registry's history with the rest.
Calls block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.catalogue.agreements import (
    DAY_US,
    DAYS_TO_ANSWER,
    NOTE_CHARACTERS_MAX,
    Said,
    SplitAnswer,
    SplitProposal,
    State,
    asked_of,
    shares_of,
)
from proxy.catalogue.lookup_store import (
    chunks,
    creators_by_handle,
    next_split_version,
    owner_of,
    split_rows,
)
from proxy.catalogue.ownership import checked_words
from proxy.catalogue.registering import resolved
from proxy.catalogue.works import COMMONS, Part, Split, printable, whole
from proxy.clock import Clock, Ids
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import BadRequest, Conflict, NotFound

PROPOSALS_SHOWN: Final = 100  # of one creator, newest first


class SplitProposalRow(SQLModel, table=True):
    """A split that somebody proposes. parts: JSON [[party, ppm, role]]; asked: JSON [party]."""

    __tablename__: ClassVar[Any] = "split_proposal"
    id: str = Field(primary_key=True, sa_type=sa.String)
    work_id: str = Field(sa_type=sa.String, foreign_key="work.id", index=True)
    version: int = Field(sa_type=sa.BigInteger)
    parts: str = Field(sa_type=sa.Text)
    asked: str = Field(sa_type=sa.Text)
    note: str = Field(sa_type=sa.String)
    proposed_by: str = Field(sa_type=sa.String, foreign_key="creator.id", index=True)
    at_us: int = Field(sa_type=sa.BigInteger)
    until_us: int = Field(sa_type=sa.BigInteger)


class SplitAnswerRow(SQLModel, table=True):
    """What one person is asked, and said: "" while they have said nothing."""

    __tablename__: ClassVar[Any] = "split_answer"
    proposal_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="split_proposal.id")
    party: str = Field(primary_key=True, sa_type=sa.String, index=True)
    said: str = Field(sa_type=sa.String)
    reason: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_proposal, _answer = _tables["split_proposal"], _tables["split_answer"]
_creator, _shown_name = _tables["creator"], _tables["shown_name"]
_split, _work, _event = _tables["split"], _tables["work"], _tables["registry_event"]


@dataclass(frozen=True, slots=True)
class Version:
    """A split that was in force. at_us: from when; by: who recorded it, the last to agree or an operator."""

    version: int
    split: Split
    at_us: int
    by: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A proposal as one of its people sees it."""

    proposal: SplitProposal
    state: State
    title: str
    before: Split

    def people(self) -> set[str]:
        """Return everybody who is named in it."""
        one = self.proposal
        return {one.proposed_by, *one.asked, *(part.party for part in (*one.split.parts, *self.before.parts))}


@dataclass(frozen=True, slots=True)
class Shares:
    """How a work is shared now, how it was, and what was proposed; newest first."""

    title: str
    now: Split
    versions: tuple[Version, ...]
    proposals: tuple[Shown, ...]

    def people(self) -> set[str]:
        """Return everybody who is named in it."""
        found = {
            part.party for split in (self.now, *(one.split for one in self.versions)) for part in split.parts
        }
        return found.union(*(one.people() for one in self.proposals), (one.by for one in self.versions))


@dataclass(frozen=True, slots=True)
class Person:
    """How somebody is shown in credits, and what they are called here."""

    name: str
    ref: str


class Agreements:
    """Splits as one creator proposes and answers them; creator "" is an operator, who reads what waits."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, ids: Ids, creator: str) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids
        self._creator = creator

    def propose(self, work_id: str, split: Split, note: str = "") -> Shown:
        """Propose a split (parties by id or ref); it holds at once where nobody else is asked.

        Raises NotFound for a work that is not the creator's and in which they have no part; Conflict while
        another proposal waits; BadRequest for a split that is in force already, or names who is not here.
        """
        said = checked_words(note, "note", NOTE_CHARACTERS_MAX, needed=False)
        with registry_turn(self._engine) as connection:
            before, version = self._before(connection, work_id)
            known = creators_by_handle(connection, {part.party for part in split.parts})
            missing = [
                part.party for part in split.parts if part.party not in known and part.party[:1] != "~"
            ]
            if missing or COMMONS in {one.id for one in known.values()}:
                raise BadRequest(
                    f"nobody here goes by '{printable((missing or [COMMONS])[0], 60)}'",
                    remedy="ask them which name stands on their page 'Shares'; who is new is invited first",
                    code="split",
                )
            after = Split(resolved(split, known).parts)
            if shares_of(after) == shares_of(before):
                raise BadRequest("this is the split that is in force", remedy="change a part", code="split")
            waiting = [
                one for one in _proposals(connection, _proposal.c.work_id == work_id)
                if one.state(version, self._clock.now_us()) == "open"
            ]  # fmt: skip
            if waiting:
                raise Conflict(
                    "another split is proposed for this work already",
                    remedy="wait for its answers, or let whoever proposed it take it back",
                    code="split_open",
                )
            now_us = self._clock.now_us()
            asked = asked_of(before, after, self._creator)
            row: dict[str, Any] = {
                "id": self._ids.new("spl"),
                "work_id": work_id,
                "version": version,
                "parts": _json([[part.party, part.ppm, part.role] for part in after.parts]),
                "asked": _json(asked),
                "note": said,
                "proposed_by": self._creator,
                "at_us": now_us,
                "until_us": now_us + DAYS_TO_ANSWER * DAY_US,
            }
            self._log(connection, "split_proposed", work_id, [row["id"], row["parts"], row["asked"]])
            connection.execute(sa.insert(_proposal), [row])
            people = [
                {"proposal_id": row["id"], "party": one, "said": "", "reason": "", "at_us": 0}
                for one in asked
            ]
            if people:
                connection.execute(sa.insert(_answer), people)
            else:
                self._put_in_force(connection, work_id, after)
            return self._shown(connection, str(row["id"]))

    def answer(self, proposal_id: str, *, agree: bool, reason: str = "") -> Shown:
        """Agree to a split, or refuse it with a reason: once; said again the same way it changes nothing.

        Raises NotFound for a proposal in which the creator is not asked, Conflict when it is over.
        """
        said: Said = "agreed" if agree else "refused"
        why = checked_words(reason, "reason", NOTE_CHARACTERS_MAX, needed=not agree)
        with registry_turn(self._engine) as connection:
            shown = self._shown(connection, proposal_id)
            if self._creator not in shown.proposal.asked:
                raise _no_such(proposal_id)
            mine = next((one for one in shown.proposal.answers if one.party == self._creator), None)
            if mine is not None and mine.said == said:
                return shown
            self._refuse_over(shown, mine)
            self._say(connection, shown.proposal, said, why)
            after = self._shown(connection, proposal_id)
            if not after.proposal.waits_for and after.state == "agreed":
                self._put_in_force(connection, after.proposal.work_id, after.proposal.split)
            return after

    def withdraw(self, proposal_id: str) -> Shown:
        """Take back a proposal of one's own. Raises NotFound, Conflict when it is over."""
        with registry_turn(self._engine) as connection:
            shown = self._shown(connection, proposal_id)
            if shown.proposal.proposed_by != self._creator:
                raise _no_such(proposal_id)
            if shown.state != "withdrawn":
                self._refuse_over(shown, None)
                self._say(connection, shown.proposal, "withdrawn", "")
            return self._shown(connection, proposal_id)

    def proposal(self, proposal_id: str) -> Shown:
        """Return a proposal that the creator made or is asked in. Raises NotFound."""
        with self._engine.connect() as connection:
            return self._shown(connection, proposal_id)

    def mine(self, *, open_only: bool = False) -> list[Shown]:
        """Return proposals that the creator made or is asked in, newest first."""
        asked = sa.select(_answer.c.proposal_id).where(_answer.c.party == self._creator)
        mine = sa.or_(_proposal.c.proposed_by == self._creator, _proposal.c.id.in_(asked))
        with self._engine.connect() as connection:
            found = [self._told(connection, one) for one in _proposals(connection, mine)]
        return [one for one in found if one.state == "open" or not open_only]

    def waiting(self) -> list[Shown]:
        """Return what waits for anybody's word, the longest waiting first: for operators."""
        of_it = _answer.c.proposal_id == _proposal.c.id
        silent = sa.exists().where(of_it, _answer.c.said == "")
        ended = sa.exists().where(of_it, _answer.c.said.in_(("refused", "withdrawn")))
        waits = sa.and_(_proposal.c.until_us > self._clock.now_us(), silent, ~ended)
        with self._engine.connect() as connection:
            found = [self._told(connection, one) for one in _proposals(connection, waits)]
        return [one for one in reversed(found) if one.state == "open"]

    def of_work(self, work_id: str) -> Shares:
        """Return how a work is shared, was, and might be.

        Raises NotFound for a work that is not the creator's and in which they have no part.
        """
        with self._engine.connect() as connection:
            before, _ = self._before(connection, work_id)
            rows = connection.execute(
                sa.select(_split, _event.c.at_us, _event.c.actor)
                .outerjoin(_event, _event.c.seq == _split.c.valid_from_seq)
                .where(_split.c.work_id == work_id)
                .order_by(_split.c.version.desc(), _split.c.ppm.desc(), _split.c.party)
            ).all()
            parts: dict[int, list[Any]] = {}
            for row in rows:
                parts.setdefault(int(row.version), []).append(row)
            versions = tuple(
                Version(
                    version,
                    Split(tuple(Part(row.party, int(row.ppm), row.role) for row in of)),
                    int(of[0].at_us or 0),
                    str(of[0].actor or ""),
                )
                for version, of in parts.items()
            )
            found = _proposals(connection, _proposal.c.work_id == work_id)
            title = connection.scalar(sa.select(_work.c.title).where(_work.c.id == work_id))
            proposals = tuple(self._told(connection, one) for one in found)
            return Shares(str(title or ""), before, versions, proposals)

    def named(self, people: Iterable[str]) -> dict[str, Person]:
        """Return {creator: who that is}, of those among `people` who are creators."""
        found: dict[str, Person] = {}
        name = sa.func.coalesce(_shown_name.c.name, _creator.c.name).label("name")
        query = sa.select(_creator.c.id, _creator.c.ref, name)
        query = query.outerjoin(_shown_name, _shown_name.c.creator_id == _creator.c.id)
        with self._engine.connect() as connection:
            for some in chunks(sorted(people)):
                rows = connection.execute(query.where(_creator.c.id.in_(some)))
                found |= {row.id: Person(row.name, row.ref) for row in rows}
        return found

    def _before(self, connection: sa.Connection, work_id: str) -> tuple[Split, int]:
        """Return a work's split and its version. Raises NotFound unless the creator owns it or has a part."""
        owner = owner_of(connection, work_id)
        split, version = _in_force(connection, work_id, owner)
        if self._creator != owner and self._creator not in shares_of(split):
            raise NotFound(f"there is no work '{printable(work_id, 60)}'", remedy="take its id from the list")
        return split, version

    def _shown(self, connection: sa.Connection, proposal_id: str) -> Shown:
        found = _proposals(connection, _proposal.c.id == proposal_id)
        if not found or self._creator not in {found[0].proposed_by, *found[0].asked}:
            raise _no_such(proposal_id)
        return self._told(connection, found[0])

    def _told(self, connection: sa.Connection, one: SplitProposal) -> Shown:
        before, version = _in_force(connection, one.work_id, owner_of(connection, one.work_id))
        title = connection.scalar(sa.select(_work.c.title).where(_work.c.id == one.work_id))
        return Shown(one, one.state(version, self._clock.now_us()), str(title or ""), before)

    def _refuse_over(self, shown: Shown, mine: SplitAnswer | None) -> None:
        if shown.state != "open" or mine is not None:
            raise Conflict(
                f"this proposal is {shown.state}" if mine is None else "you have answered it already",
                remedy="propose a split anew",
                code="split_over",
            )

    def _say(self, connection: sa.Connection, proposal: SplitProposal, said: Said, reason: str) -> None:
        self._log(connection, f"split_{said}", proposal.work_id, [proposal.id, self._creator, reason])
        row = {"said": said, "reason": reason, "at_us": self._clock.now_us()}
        if said == "withdrawn":
            row |= {"proposal_id": proposal.id, "party": self._creator}
            connection.execute(sa.insert(_answer), [row])
            return
        own = sa.and_(_answer.c.proposal_id == proposal.id, _answer.c.party == self._creator)
        connection.execute(sa.update(_answer).where(own).values(**row))

    def _put_in_force(self, connection: sa.Connection, work_id: str, split: Split) -> None:
        version = next_split_version(connection, work_id)
        seq = self._log(connection, "split_set", work_id, [[p.party, p.ppm, p.role] for p in split.parts])
        connection.execute(sa.insert(_split), split_rows(work_id, version, split, seq))

    def _log(self, connection: sa.Connection, kind: str, work_id: str, payload: object) -> int:
        change = RegistryChange(kind, payload, work_id)
        return append_registry(connection, [change], actor=self._creator, at_us=self._clock.now_us())


def _in_force(connection: sa.Connection, work_id: str, owner: str) -> tuple[Split, int]:
    version = next_split_version(connection, work_id) - 1
    if not version:
        return whole(owner), 0
    query = sa.select(_split).where(_split.c.work_id == work_id, _split.c.version == version)
    rows = connection.execute(query.order_by(_split.c.ppm.desc(), _split.c.party)).all()
    return Split(tuple(Part(row.party, int(row.ppm), row.role) for row in rows)), version


def _proposals(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[SplitProposal]:
    newest = sa.select(_proposal).where(where).order_by(_proposal.c.at_us.desc(), _proposal.c.id)
    rows = connection.execute(newest.limit(PROPOSALS_SHOWN)).all()
    said = sa.select(_answer).where(_answer.c.proposal_id.in_([row.id for row in rows]), _answer.c.said != "")
    answers: dict[str, list[SplitAnswer]] = {}
    for row in connection.execute(said.order_by(_answer.c.at_us, _answer.c.party)):
        one = SplitAnswer(row.party, row.said, row.reason, int(row.at_us))
        answers.setdefault(row.proposal_id, []).append(one)
    return [
        SplitProposal(
            id=row.id,
            work_id=row.work_id,
            version=int(row.version),
            split=Split(
                tuple(Part(*part) for part in msgspec.json.decode(row.parts, type=list[tuple[str, int, str]]))
            ),
            asked=msgspec.json.decode(row.asked, type=tuple[str, ...]),
            note=row.note,
            proposed_by=row.proposed_by,
            at_us=int(row.at_us),
            until_us=int(row.until_us),
            answers=tuple(answers.get(row.id, ())),
        )
        for row in rows
    ]


def _json(value: Sequence[object]) -> str:
    return msgspec.json.encode(value).decode()


def _no_such(proposal_id: str) -> NotFound:
    return NotFound(f"there is no proposal '{printable(proposal_id, 60)}'", remedy="take it from the list")
