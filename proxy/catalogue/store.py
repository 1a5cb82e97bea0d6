"""The registry in the store: creators, works with their texts, splits by version, consents.

A registered work's text is kept compressed, because an index can be built anew at any time; prompts and
outputs never come here. Splits and consents are only ever added, each with the registry's number at which it
began, so that a statement can say what was agreed when an answer was given.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from proxy.catalogue.linking_store import write_links
from proxy.catalogue.lookup_store import (
    adaptation_rows,
    changed_works,
    chunks,
    creators_by_handle,
    licensed,
    limits_asked,
    names_of,
    next_split_version,
    originals_by_handle,
    owner_now,
    owner_of,
    owners_of_originals,
    released,
    said_last,
    shown_names,
    split_rows,
    standings,
    status_now,
    status_of,
    with_adaptations,
)
from proxy.catalogue.ownership import COMMONS_STATEMENT, OWN_STATEMENT, statement_sha256
from proxy.catalogue.registering import Accepted, Adding, PackedText, Registered, handles, others, resolved
from proxy.catalogue.tables import metadata
from proxy.catalogue.works import (
    COMMONS,
    NAME_CHARACTERS_MAX,
    WHOLE_PPM,
    CatalogueSnapshot,
    Consent,
    Creator,
    Given,
    IndexedText,
    NewWork,
    Outcome,
    Refusal,
    Split,
    Use,
    WorkCredit,
    WorkEntry,
    checked_ref,
    printable,
    ref_of,
    refuse_id_as_ref,
    verdict_for,
)
from proxy.clock import Clock, Ids
from proxy.database import RegistryChange, append_registry, registry_seq, registry_turn
from proxy.errors import BadRequest, Conflict, NotFound

BATCH_WORKS = 500  # a turn of the registry; other writers wait no longer than this takes (about 0.2 s)
BATCH_TEXT_BYTES = 8 << 20  # and no batch of huge texts is held in memory
PAGE_WORKS = 200  # texts read at a time while an index is built
CHANGES_MAX = 2_000  # more changed works than this are loaded faster all at once

_tables = metadata.tables
_creator, _work, _text = _tables["creator"], _tables["work"], _tables["work_text"]
_split, _consent, _event = _tables["split"], _tables["consent"], _tables["registry_event"]
_attestation, _adaptation = _tables["attestation"], _tables["adaptation"]


class Catalogue:
    """The registry. Every method is one transaction, safe to call from any thread."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        clock: Clock,
        ids: Ids,
        default_consent: Given = "paid",
        actor: str = "operator",
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids
        self._default: Given = default_consent
        self._actor = actor

    # Creators

    def add_creator(self, name: str, *, ref: str = "", country: str = "") -> tuple[Creator, bool]:
        """Register a creator; (creator, whether they are new). `ref` is made of the name when empty.

        The same ref with the same name again changes nothing. Raises Conflict when it is another person's.
        """
        name, ref = printable(name, NAME_CHARACTERS_MAX), checked_ref(ref or ref_of(name))
        refuse_id_as_ref(ref)
        if not name:
            raise BadRequest("a creator needs a name", remedy="pass their name as replies shall show it")
        if country and not (len(country) == 2 and country.isascii() and country.isalpha()):
            raise BadRequest(f"'{country}' is no country", remedy="pass two letters, ISO 3166-1, or nothing")
        with registry_turn(self._engine) as connection:
            known = creators_by_handle(connection, {ref}).get(ref)
            if known is not None:
                if known.name != name:
                    raise Conflict(
                        f"'{ref}' is {known.name} already", remedy="pass another --ref", code="ref_taken"
                    )
                return known, False
            creator = Creator(self._ids.new("c"), ref, name, country.upper(), self._clock.now_us())
            _insert_creators(connection, [creator], actor=self._actor, at_us=creator.created_us)
            return creator, True

    def creators(self) -> list[Creator]:
        """Return every creator, oldest first; the commons is nobody, and not among them."""
        people = sa.select(_creator).where(_creator.c.id != COMMONS)
        statement = people.order_by(_creator.c.created_us, _creator.c.id)
        with self._engine.connect() as connection:
            return [Creator(*row) for row in connection.execute(statement)]

    def creator(self, handle: str) -> Creator:
        """Return a creator by id or ref; NotFound when there is none."""
        with self._engine.connect() as connection:
            found = creators_by_handle(connection, {handle}).get(handle)
        if found is None:
            raise NotFound(f"there is no creator '{handle}'", remedy="`endcredits creators list` shows them")
        return found

    # Works

    def add_works(
        self, rows: Iterable[NewWork | Refusal], *, new_creators: bool = True, creators_attest: bool = False
    ) -> Iterator[Outcome]:
        """Register works and yield what became of each row, refusals passed through, in order.

        With each work goes the attestation that its text is its creator's: their own word with
        `creators_attest`, else ours on their behalf. What is registered for COMMONS is attested as nobody's.
        The same creator, ref and text again is `unchanged`; the same ref with another text is refused,
        because a registration is evidence and is not overwritten. Creators not yet known are registered under
        their ref (or `creator_name`) unless `new_creators` is False.
        """
        batch: list[NewWork | Refusal] = []
        held_bytes = 0
        for row in rows:
            batch.append(row)
            held_bytes += len(row.text) if isinstance(row, NewWork) else 0
            if len(batch) >= BATCH_WORKS or held_bytes >= BATCH_TEXT_BYTES:
                yield from self._add_batch(batch, new_creators=new_creators, attest=creators_attest)
                batch, held_bytes = [], 0
        yield from self._add_batch(batch, new_creators=new_creators, attest=creators_attest)

    def _add_batch(
        self, batch: list[NewWork | Refusal], *, new_creators: bool, attest: bool
    ) -> list[Outcome]:
        works = [row for row in batch if isinstance(row, NewWork)]
        # Compressed before the turn begins: other writers wait for inserts only.
        packed = {id(work): PackedText.of(work.text) for work in works}
        with registry_turn(self._engine) as connection:
            now_us = self._clock.now_us()
            adding = Adding(
                self._ids,
                now_us,
                known=creators_by_handle(connection, {name for work in works for name in handles(work)}),
                registered=_registered(connection, {work.ref for work in works}),
                new_creators=new_creators,
                originals=originals_by_handle(connection, {name for work in works for name in others(work)}),
            )
            outcomes = [
                Outcome("refused", row.place, row.work_id, why=row.why, remedy=row.remedy)
                if isinstance(row, Refusal)
                else adding.add(row, packed[id(row)])
                for row in batch
            ]
            _write(connection, adding, actor=self._actor, now_us=now_us, creators_attest=attest)
        return outcomes

    def works(self, *, creator: str = "", after_seq: int = 0, limit: int | None = None) -> list[WorkEntry]:
        """Return works in the order of registration, those of one creator (id or ref) when given.

        `after_seq` is the last page's last `registered_seq`.
        """
        creator_id = self.creator(creator).id if creator else ""
        statement = _entries().where(_work.c.registered_seq > after_seq).order_by(_work.c.registered_seq)
        if creator_id:
            statement = statement.where(owner_now() == creator_id)
        with self._engine.connect() as connection:
            return self._entries_of(connection, statement.limit(limit))

    def find_work(self, handle: str, *, creator: str = "") -> WorkEntry:
        """Return a work by its public id or its ref.

        Raises NotFound; Conflict when several creators use the ref and `creator` does not say whose is meant.
        """
        creator_id = self.creator(creator).id if creator else ""
        with self._engine.connect() as connection:
            found = self._entries_of(connection, _entries().where(_work.c.id == handle))
            found = found or self._entries_of(connection, _entries().where(_work.c.ref == handle))
        found = [entry for entry in found if creator_id in {"", entry.creator_id}]
        if not found:
            raise NotFound(f"there is no work '{handle}'", remedy="`endcredits works list` shows them")
        if len(found) > 1:
            names = ", ".join(entry.id for entry in found[:5])
            raise Conflict(
                f"'{handle}' is the ref of {len(found)} works: {names}",
                remedy="name the work by its public id",
                code="ref_ambiguous",
            )
        return found[0]

    def works_by_id(self, work_ids: Iterable[str]) -> dict[str, WorkEntry]:
        """Return {public id: work} of those that are registered here."""
        with self._engine.connect() as connection:
            return {
                entry.id: entry
                for chunk in chunks(work_ids)
                for entry in self._entries_of(connection, _entries().where(_work.c.id.in_(chunk)))
            }

    def text(self, work_id: str) -> str:
        """Return a work's text by its public id; NotFound when it is not kept."""
        with self._engine.connect() as connection:
            packed = connection.execute(
                sa.select(_text.c.text_zlib).where(_text.c.work_id == work_id)
            ).scalar_one_or_none()
        if packed is None:
            raise NotFound(f"there is no text of '{work_id}'")
        return zlib.decompress(packed).decode("utf-8")

    def texts(self) -> Iterator[IndexedText]:
        """Yield every work with its text, denied and withdrawn ones too, in the order of registration."""
        after_seq = 0
        with self._engine.connect() as connection:
            reviewed, standing, allowed = released(connection), standings(connection), licensed(connection)
        while True:
            statement = (
                sa.select(_work, _text.c.text_zlib, owner_now().label("owner_id"))
                .join(_text, _text.c.work_id == _work.c.id)
                .where(_work.c.registered_seq > after_seq)
                .order_by(_work.c.registered_seq)
                .limit(PAGE_WORKS)
            )
            with self._engine.connect() as connection:
                rows = connection.execute(statement).all()
            for row in rows:
                text = zlib.decompress(row.text_zlib).decode("utf-8")
                yield IndexedText(
                    row.id,
                    row.owner_id,
                    row.title,
                    text,
                    row.registered_us,
                    row.registered_seq,
                    row.id in reviewed,
                    commons=row.owner_id == COMMONS,
                    standing=standing.get(row.id, 0),
                    adapts=allowed.get(row.id, ()),
                )
            if len(rows) < PAGE_WORKS:
                return
            after_seq = rows[-1].registered_seq

    def count_works(self) -> int:
        """Return how many works are registered."""
        with self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(_work)).scalar_one())

    # Consents, splits, withdrawal

    def set_consent(self, work_id: str, consent: Consent) -> int:
        """Record what is allowed from now on; returns the registry's number at which it begins."""
        payload = {"use": consent.use, "verdict": consent.verdict}
        with registry_turn(self._engine) as connection:
            status_of(connection, work_id)
            now_us = self._clock.now_us()
            change = RegistryChange("consent_set", payload, work_id)
            seq = append_registry(connection, [change], actor=self._actor, at_us=now_us)
            row = {"work_id": work_id, "seq": seq, **payload, "at_us": now_us}
            connection.execute(sa.insert(_consent), [row])
        return seq

    def consents(self, work_id: str) -> list[Consent]:
        """Return every consent a work was ever given, oldest first; the last of a use holds."""
        statement = sa.select(_consent).where(_consent.c.work_id == work_id).order_by(_consent.c.seq)
        with self._engine.connect() as connection:
            return [Consent(Use(row.use), row.verdict, row.seq) for row in connection.execute(statement)]

    def withdraw(self, work_id: str) -> bool:
        """Withdraw a work: still recognised, but paid nothing from now on. False when it was already."""
        with registry_turn(self._engine) as connection:
            if status_of(connection, work_id) != "active":
                return False
            connection.execute(sa.update(_work).where(_work.c.id == work_id).values(status="withdrawn"))
            change = RegistryChange("work_withdrawn", {"work": work_id}, work_id)
            append_registry(connection, [change], actor=self._actor, at_us=self._clock.now_us())
            return True

    def set_split(self, work_id: str, split: Split) -> int:
        """Record a new version of a work's split (parties by id or ref); returns the number it begins at."""
        with registry_turn(self._engine) as connection:
            if owner_of(connection, work_id) == COMMONS:
                raise Conflict(f"{work_id} is nobody's", remedy="a claim on it must be upheld first")
            known = creators_by_handle(connection, {part.party for part in split.parts})
            agreed = resolved(split, known)
            version = next_split_version(connection, work_id)
            change = RegistryChange(
                "split_set", [[part.party, part.ppm, part.role] for part in agreed.parts], work_id
            )
            seq = append_registry(connection, [change], actor=self._actor, at_us=self._clock.now_us())
            connection.execute(sa.insert(_split), split_rows(work_id, version, agreed, seq))
        return seq

    def splits_as_of(self, seq: int) -> dict[str, tuple[tuple[str, int], ...]]:
        """Return {work id: ((party, ppm), ...)} as agreed at the registry's number `seq`.

        Parties are creators' ids or UNCLAIMED, in the order of their names, so that equal splits are equal
        tuples. A work without a split is its creator's alone.
        """
        whole_of = sa.select(_work.c.id, _work.c.creator_id).where(_work.c.registered_seq <= seq)
        parts_of = sa.select(_split).where(_split.c.valid_from_seq <= seq)
        parts_of = parts_of.order_by(_split.c.work_id, _split.c.version, _split.c.party)
        with self._engine.connect() as connection:
            splits: dict[str, tuple[tuple[str, int], ...]] = {
                row.id: ((str(row.creator_id), WHOLE_PPM),) for row in connection.execute(whole_of)
            }
            rows = connection.execute(parts_of)
            # A later version of the same work comes later and replaces the earlier one.
            for (work_id, _), parts in itertools.groupby(rows, key=lambda row: (row.work_id, row.version)):
                splits[work_id] = tuple((str(part.party), int(part.ppm)) for part in parts)
        return splits

    # Snapshots

    def seq(self) -> int:
        """Return the registry's last number."""
        with self._engine.connect() as connection:
            return registry_seq(connection)

    def snapshot(self, previous: CatalogueSnapshot | None = None) -> CatalogueSnapshot:
        """Return every work's credit now, loading only what changed since `previous`."""
        with self._engine.connect() as connection:
            seq = registry_seq(connection)  # first, so that what is loaded is at least this new
            if previous is None:
                return CatalogueSnapshot().with_changes(seq, self._credits(connection, None))
            if seq == previous.seq:
                return previous
            changed = changed_works(connection, previous.seq, CHANGES_MAX + 1)
            if len(changed) > CHANGES_MAX:
                return CatalogueSnapshot().with_changes(seq, self._credits(connection, None))
            changed = with_adaptations(connection, changed) if changed else []
            credits_ = self._credits(connection, changed) if changed else []
            return previous.with_changes(seq, credits_, {*changed} - {credit.work for credit in credits_})

    def _credits(self, connection: sa.Connection, work_ids: list[str] | None) -> list[WorkCredit]:
        # What was erased is as if it had never been registered: nobody is credited for it.
        works = sa.select(_work, owner_now().label("owner_id")).where(status_now() != "erased")
        splits = sa.select(_split)
        if work_ids is not None:
            works, splits = (
                works.where(_work.c.id.in_(work_ids)),
                splits.where(_split.c.work_id.in_(work_ids)),
            )
        said, thanked = said_last(connection, work_ids), owners_of_originals(connection, work_ids)
        limits, names = limits_asked(connection), shown_names(connection)
        parts: dict[str, tuple[int, list[Any]]] = {}
        for row in connection.execute(splits.order_by(_split.c.work_id, _split.c.version, _split.c.party)):
            version, rows = parts.get(row.work_id, (0, []))
            parts[row.work_id] = (row.version, [*rows, row] if row.version == version else [row])
        return [
            WorkCredit(
                row.id,
                row.title,
                names_of(row.owner_id, parts.get(row.id, (0, []))[1], names, thanked.get(row.id, ())),
                row.licence,
                row.url,
                verdict_for(
                    row.status, said.get((row.id, Use.OUTPUT_INFLUENCE)), self._default, owner=row.owner_id
                ),
                excerpts=said.get((row.id, Use.EXCERPT_DISPLAY), "denied") != "denied",
                excerpt_words=limits.get(row.id, limits.get(row.owner_id)),
            )
            for row in connection.execute(works)
        ]

    def _entries_of(self, connection: sa.Connection, statement: sa.Select[Any]) -> list[WorkEntry]:
        rows = connection.execute(statement).all()
        work_ids = [row.id for row in rows]
        said, standing = said_last(connection, work_ids), standings(connection, work_ids)
        return [
            WorkEntry(
                **row._mapping,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  public, says its manual
                verdict=verdict_for(
                    row.status, said.get((row.id, Use.OUTPUT_INFLUENCE)), self._default, owner=row.creator_id
                ),
                standing=standing.get(row.id, 0),
                commons=row.creator_id == COMMONS,
            )
            for row in rows
        ]


def _registered(connection: sa.Connection, refs: set[str]) -> dict[tuple[str, str], Registered]:
    columns = sa.select(_work.c.creator_id, _work.c.ref, _work.c.id, _work.c.text_sha256)
    return {
        (row.creator_id, row.ref): Registered(row.id, row.text_sha256)
        for chunk in chunks(refs)
        for row in connection.execute(columns.where(_work.c.ref.in_(chunk)))
    }


def _insert_creators(connection: sa.Connection, creators: list[Creator], *, actor: str, at_us: int) -> None:
    rows = [dataclasses.asdict(creator) for creator in creators]
    if rows:
        connection.execute(sa.insert(_creator), rows)
        # The log outlives a person's name: it tells of the id only.
        changes = [RegistryChange("creator_added", {"creator": creator.id}) for creator in creators]
        append_registry(connection, changes, actor=actor, at_us=at_us)


def _write(
    connection: sa.Connection, adding: Adding, *, actor: str, now_us: int, creators_attest: bool
) -> None:
    _insert_creators(connection, adding.creators, actor=actor, at_us=now_us)
    if not adding.works:
        return
    changes = [
        RegistryChange(
            "work_registered",
            {"creator": work.creator_id, "text_sha256": work.packed.sha256, "consent": work.work.consent}
            | ({"adapts": [[one.work, one.ppm] for one in work.adapts]} if work.adapts else {}),
            work.id,
        )
        for work in adding.works
    ]
    first = append_registry(connection, changes, actor=actor, at_us=now_us)
    numbered = list(enumerate(adding.works, first))
    connection.execute(sa.insert(_work), [work.row(seq) for seq, work in numbered])
    connection.execute(
        sa.insert(_text), [{"work_id": work.id, "text_zlib": work.packed.zlib} for work in adding.works]
    )
    splits = [row for seq, work in numbered if work.split for row in split_rows(work.id, 1, work.split, seq)]
    consents = [
        {
            "work_id": work.id,
            "seq": seq,
            "use": Use.OUTPUT_INFLUENCE.value,
            "verdict": work.work.consent,
            "at_us": now_us,
        }
        for seq, work in numbered
        if work.work.consent
    ]
    attested = [
        _attested(work, seq, by=work.creator_id if creators_attest else actor, at_us=now_us)
        for seq, work in numbered
    ]
    adapted = [
        row
        for seq, work in numbered
        for row in adaptation_rows(work.id, work.adapts, seq=seq, by=actor, at_us=now_us)
    ]
    written = ((_split, splits), (_consent, consents), (_attestation, attested), (_adaptation, adapted))
    for table, rows in written:
        if rows:
            connection.execute(sa.insert(table), rows)
    write_links(connection, adding.links(), by=actor, at_us=now_us)


def _attested(work: Accepted, seq: int, *, by: str, at_us: int) -> dict[str, object]:
    statement = COMMONS_STATEMENT if work.creator_id == COMMONS else OWN_STATEMENT
    return {
        "work_id": work.id,
        "seq": seq,
        "statement": statement,
        "statement_sha256": statement_sha256(statement),
        "text_sha256": work.packed.sha256,
        "attested_by": by,
        "on_behalf_of": work.creator_id,
        "at_us": at_us,
    }


def _entries() -> sa.Select[Any]:
    own = [column for column in _work.c if column.name not in {"creator_id", "status"}]
    return sa.select(
        *own,
        status_now().label("status"),
        _work.c.creator_id.label("registrant_id"),
        _creator.c.id.label("creator_id"),
        _creator.c.ref.label("creator_ref"),
    ).join_from(_work, _creator, _creator.c.id == owner_now())
