"""Licences in the store, and the consents that follow from them.

A file is kept as it came, compressed, under its hash; what was read in it is rows beside it. Whatever changes
licences, in the same turn of the registry each work it concerns is judged anew, and where the outcome differs
a consent is written with its number, so that the server acts on it within a second and every answer quotes
it. What a person has decided for a work by hand stands: it is the contract between us and them.

What a source says now is what it said last: a newer file for the same work or creator ends the older one of
that kind. Two files of different kinds stand beside each other, and any denial wins.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.catalogue.licences import Effect, Licence, Source, Term, decide
from proxy.catalogue.lookup_store import chunks, owner_now
from proxy.catalogue.signals import Signal, reach, read_signals
from proxy.catalogue.tables import metadata
from proxy.catalogue.works import Given, Use, printable
from proxy.clock import Clock, Ids
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import NotFound

LicenceScope = Literal["work", "creator"]
ORIGIN_CHARACTERS_MAX = 2_000
_BY_LICENCE = "consent_by_licence"  # the registry's word for a consent that was derived here
_BY_INTAKE = "work_registered"


class LicenceFileRow(SQLModel, table=True):
    """A file as it came."""

    __tablename__: ClassVar[Any] = "licence_file"
    sha256: str = Field(primary_key=True, sa_type=sa.String)
    raw_zlib: bytes = Field(sa_type=sa.LargeBinary)


class LicenceRow(SQLModel, table=True):
    """What one signal of a file, or a contract, says; terms and unread are JSON."""

    __tablename__: ClassVar[Any] = "licence"
    id: str = Field(primary_key=True, sa_type=sa.String)
    source: str = Field(sa_type=sa.String)
    scope: str = Field(sa_type=sa.String)
    scope_id: str = Field(sa_type=sa.String, index=True)
    about: str = Field(sa_type=sa.String)
    terms: str = Field(sa_type=sa.Text)
    unread: str = Field(sa_type=sa.Text)
    file_sha256: str = Field(sa_type=sa.String)
    origin: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)
    seq: int = Field(sa_type=sa.BigInteger)
    by: str = Field(sa_type=sa.String)


class LicenceEndRow(SQLModel, table=True):
    """The end of a licence: revoked, or said anew."""

    __tablename__: ClassVar[Any] = "licence_end"
    licence_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="licence.id")
    reason: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)
    seq: int = Field(sa_type=sa.BigInteger)
    by: str = Field(sa_type=sa.String)


_licence, _end = metadata.tables["licence"], metadata.tables["licence_end"]
_file, _work = metadata.tables["licence_file"], metadata.tables["work"]
_consent, _event = metadata.tables["consent"], metadata.tables["registry_event"]


@dataclass(frozen=True, slots=True)
class KnownLicence:
    """A licence as it is listed. ended: why it holds no more, "" while it does."""

    id: str
    source: Source
    scope: LicenceScope
    scope_id: str
    about: str
    terms: tuple[Term, ...]
    unread: tuple[str, ...]
    file_sha256: str
    origin: str
    at_us: int
    seq: int
    by: str
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """What followed: the licences that were added, those that ended, and how many consents changed."""

    added: tuple[KnownLicence, ...] = ()
    ended: tuple[str, ...] = ()
    consents: int = 0


class Licences:
    """All licences. Every method is one transaction, safe to call from any thread."""

    def __init__(
        self, engine: sa.Engine, *, clock: Clock, ids: Ids, by: str = "operator", default: Given = "paid"
    ) -> None:
        """default: what holds for output influence where neither licence nor registrant says anything."""
        self._engine, self._clock, self._ids, self._by = engine, clock, ids, by
        self._default: Given = default

    def import_file(self, raw: bytes, scope: LicenceScope, scope_id: str, *, origin: str = "") -> Changed:
        """Take in a file for a work, or all works of a creator. origin: where it came from, never fetched.

        The same file again changes nothing. A file with one signal for one work is about that work, whatever
        address it names; else each signal covers the works whose registered address it names.
        Raises BadRequest for a file that says nothing of rights.
        """
        signals = read_signals(raw)
        if scope == "work" and len(signals) == 1:
            signals = [dataclasses.replace(signals[0], about="")]
        sha256 = hashlib.sha256(raw).hexdigest()
        with registry_turn(self._engine) as connection:
            standing = [one for one in _of(connection, [scope_id]) if not one.ended and one.scope == scope]
            if any(one.file_sha256 == sha256 for one in standing):
                return Changed()
            known = sa.select(_file.c.sha256).where(_file.c.sha256 == sha256)
            if connection.execute(known).first() is None:
                connection.execute(sa.insert(_file), [{"sha256": sha256, "raw_zlib": zlib.compress(raw)}])
            sources = {signal.source for signal in signals}
            return self._change(
                connection,
                [
                    (signal, scope, scope_id, sha256, printable(origin, ORIGIN_CHARACTERS_MAX))
                    for signal in signals
                ],
                [one for one in standing if one.source in sources],
                "said anew",
            )

    def contract(self, scope: LicenceScope, scope_id: str, use: Use, effect: Effect, why: str) -> Changed:
        """Record what was agreed with a creator: it holds before every signal; the same again is known."""
        term = Term(use, effect, printable(why, ORIGIN_CHARACTERS_MAX) or "agreed")
        with registry_turn(self._engine) as connection:
            mine = [one for one in _of(connection, [scope_id]) if one.source == "contract" and not one.ended]
            if any((one.scope, one.terms) == (scope, (term,)) for one in mine):
                return Changed()
            return self._change(
                connection, [(Signal("contract", "", (term,)), scope, scope_id, "", "")], [], ""
            )

    def revoke(self, licence_id: str, reason: str) -> Changed:
        """End a licence; what it alone allowed or denied ends with it. Raises NotFound."""
        with registry_turn(self._engine) as connection:
            known = _one(connection, licence_id)
            if known.ended:
                return Changed()
            why = printable(reason, ORIGIN_CHARACTERS_MAX) or "revoked"
            return self._change(connection, [], [known], why)

    def judge_all(self) -> int:
        """Judge every work that a licence concerns, as after new works came; return the consents changed."""
        with registry_turn(self._engine) as connection:
            scopes = {(row.scope, row.scope_id) for row in connection.execute(sa.select(_licence))}
            return self._judge(connection, scopes)

    def one(self, licence_id: str) -> KnownLicence:
        """Return a licence. Raises NotFound."""
        with self._engine.connect() as connection:
            return _one(connection, licence_id)

    def of(self, scope_id: str) -> list[KnownLicence]:
        """Return every licence a work or creator ever had by its own name, oldest first."""
        with self._engine.connect() as connection:
            return _of(connection, [scope_id])

    def file(self, sha256: str) -> bytes:
        """Return a file as it came. Raises NotFound."""
        with self._engine.connect() as connection:
            raw = connection.execute(sa.select(_file.c.raw_zlib).where(_file.c.sha256 == sha256)).scalar()
        if raw is None:
            raise NotFound(
                f"there is no licence file {sha256}", remedy="`endcredits licences list` shows them"
            )
        return zlib.decompress(raw)

    def _change(
        self,
        connection: sa.Connection,
        adding: Sequence[tuple[Signal, LicenceScope, str, str, str]],
        ending: Sequence[KnownLicence],
        why_ended: str,
    ) -> Changed:
        now_us = self._clock.now_us()
        changes = [
            RegistryChange(
                "licence_added", {"scope": [scope, scope_id], "source": signal.source, "file": sha256}
            )
            for signal, scope, scope_id, sha256, _ in adding
        ] + [RegistryChange("licence_ended", {"licence": one.id}) for one in ending]
        first = append_registry(connection, changes, actor=self._by, at_us=now_us)
        added = [
            KnownLicence(
                self._ids.new("lic"), signal.source, scope, scope_id, signal.about, signal.terms,
                signal.unread, sha256, origin, now_us, seq, self._by,
            )
            for seq, (signal, scope, scope_id, sha256, origin) in enumerate(adding, first)
        ]  # fmt: skip
        if added:
            connection.execute(sa.insert(_licence), [_row(one) for one in added])
        ended = [
            {"licence_id": one.id, "reason": why_ended, "at_us": now_us, "seq": seq, "by": self._by}
            for seq, one in enumerate(ending, first + len(added))
        ]
        if ended:
            connection.execute(sa.insert(_end), ended)
        scopes = {(one.scope, one.scope_id) for one in (*added, *ending)}
        consents = self._judge(connection, scopes)
        return Changed(tuple(added), tuple(one.id for one in ending), consents)

    def _judge(self, connection: sa.Connection, scopes: Iterable[tuple[str, str]]) -> int:
        """Write the consents that differ from what licences now say; return how many."""
        works: dict[str, tuple[str, str]] = {}
        for scope, scope_id in scopes:
            column = _work.c.id if scope == "work" else owner_now()
            found = sa.select(_work.c.id, owner_now(), _work.c.url).where(column == scope_id)
            works |= {row[0]: (row[1], row[2]) for row in connection.execute(found)}
        if not works:
            return 0
        names = {*works, *(owner for owner, _ in works.values())}
        known: dict[str, list[KnownLicence]] = {}
        for one in _of(connection, names):
            known.setdefault(one.scope_id, []).append(one)
        now_us = self._clock.now_us()
        said = _said(connection, list(works))
        written: list[dict[str, Any]] = []
        for work_id, (owner, url) in sorted(works.items()):
            mine = [*known.get(work_id, []), *known.get(owner, [])]
            for use, verdict in self._following(mine, url, said.get(work_id, {}), now_us):
                written.append({"work_id": work_id, "use": use.value, "verdict": verdict, "at_us": now_us})
        if written:
            changes = [
                RegistryChange(_BY_LICENCE, {"use": row["use"], "verdict": row["verdict"]}, row["work_id"])
                for row in written
            ]
            first = append_registry(connection, changes, actor=self._by, at_us=now_us)
            rows = [row | {"seq": seq} for seq, row in enumerate(written, first)]
            connection.execute(sa.insert(_consent), rows)
        return len(written)

    def _following(
        self, mine: Sequence[KnownLicence], url: str, said: Mapping[str, list[tuple[str, Given]]], now_us: int
    ) -> list[tuple[Use, Given]]:
        """Return the consents of one work that are to be written. said: by use, (how, what) so far."""
        holding = _holding(mine, url)
        result: list[tuple[Use, Given]] = []
        for use in sorted({term.use for one in mine for term in one.terms}):
            before = said.get(use.value, [])
            how, last = before[-1] if before else ("", None)
            if how not in {"", _BY_LICENCE, _BY_INTAKE}:
                continue  # a person has decided
            decision = decide(use, holding, at_us=now_us)
            intake: Given | None = next((given for kind, given in before if kind == _BY_INTAKE), None)
            wanted: Given = "denied"
            if decision.licence:
                if intake != "denied":  # any denial wins
                    wanted = decision.given
            elif how == _BY_LICENCE:  # nobody speaks of it any longer
                usual: Given = self._default if use is Use.OUTPUT_INFLUENCE else decision.given
                wanted = usual if intake is None else intake
            else:
                continue
            if wanted != last:
                result.append((use, wanted))
        return result


def _holding(mine: Iterable[KnownLicence], url: str) -> list[Licence]:
    """Return those in force that cover the address; of one file's signals of a kind, the closest ones."""
    close: dict[tuple[str, str, str], list[tuple[int, KnownLicence]]] = {}
    for one in mine:
        covers = reach(one.about, url)
        if not one.ended and covers >= 0:
            key = (one.scope, one.source, one.file_sha256 or one.id)
            close.setdefault(key, []).append((covers, one))
    return [
        Licence(one.id, one.source, one.scope, one.terms, valid_from_us=one.at_us)
        for group in close.values()
        for covers, one in group
        if covers == max(group, key=lambda pair: pair[0])[0]
    ]


def _of(connection: sa.Connection, scope_ids: Iterable[str]) -> list[KnownLicence]:
    found: list[KnownLicence] = []
    for chunk in chunks(scope_ids):
        joined = sa.select(_licence, _end.c.reason).outerjoin(_end, _end.c.licence_id == _licence.c.id)
        ordered = joined.where(_licence.c.scope_id.in_(chunk)).order_by(_licence.c.seq)
        for row in connection.execute(ordered):
            terms = msgspec.json.decode(row.terms, type=tuple[Term, ...])
            unread = msgspec.json.decode(row.unread, type=tuple[str, ...])
            found.append(
                KnownLicence(
                    row.id, row.source, row.scope, row.scope_id, row.about, terms, unread, row.file_sha256,
                    row.origin, row.at_us, row.seq, row.by, row.reason or "",
                )
            )  # fmt: skip
    return found


def _one(connection: sa.Connection, licence_id: str) -> KnownLicence:
    of = connection.execute(sa.select(_licence.c.scope_id).where(_licence.c.id == licence_id)).first()
    known = [one for one in _of(connection, [of.scope_id]) if one.id == licence_id] if of else []
    if not known:
        shown = printable(licence_id, 60)
        raise NotFound(f"there is no licence '{shown}'", remedy="`endcredits licences list` shows them")
    return known[0]


def _row(one: KnownLicence) -> dict[str, Any]:
    return {
        "id": one.id,
        "source": one.source,
        "scope": one.scope,
        "scope_id": one.scope_id,
        "about": one.about,
        "terms": msgspec.json.encode(one.terms).decode(),
        "unread": msgspec.json.encode(one.unread).decode(),
        "file_sha256": one.file_sha256,
        "origin": one.origin,
        "at_us": one.at_us,
        "seq": one.seq,
        "by": one.by,
    }


def _said(connection: sa.Connection, work_ids: list[str]) -> dict[str, dict[str, list[tuple[str, Given]]]]:
    """Return {work: {use: (how, what) of each consent so far, oldest first}}."""
    said: dict[str, dict[str, list[tuple[str, Given]]]] = {}
    for chunk in chunks(work_ids):
        joined = sa.select(_consent, _event.c.kind).join(_event, _event.c.seq == _consent.c.seq)
        ordered = joined.where(_consent.c.work_id.in_(chunk)).order_by(_consent.c.seq)
        for row in connection.execute(ordered):
            said.setdefault(row.work_id, {}).setdefault(row.use, []).append((row.kind, row.verdict))
    return said
