"""What several of the registry's transactions ask of the store: names, owners, standing, what was said last.

Each takes the connection of the transaction that asks, so that what it answers and what is then written are
of one moment. Whose a work is now is never stored: it is who registered it, or whose claim was upheld last,
so that the history alone says it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import sqlalchemy as sa

from proxy.catalogue.adapting import Original, lineage
from proxy.catalogue.ownership import STANDING_UPHELD, STANDING_VERIFIED
from proxy.catalogue.tables import metadata
from proxy.catalogue.works import COMMONS, Adapted, Creator, Given, Link, Split, Status, Use
from proxy.errors import NotFound

IN_MAX = 5_000  # names in one statement; both engines take more than twice that

_tables = metadata.tables
_creator, _work, _consent = _tables["creator"], _tables["work"], _tables["consent"]
_claim, _decision = _tables["claim"], _tables["claim_decision"]
_identifier, _event = _tables["work_identifier"], _tables["registry_event"]
_adaptation, _asked = _tables["adaptation"], _tables["asked_term"]
_erasure, _shown, _split = _tables["erasure"], _tables["shown_name"], _tables["split"]
_link = _tables["work_link"]


def chunks(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield `names` in lists that fit into one statement's parameters on both engines."""
    rest = iter(names)
    while chunk := list(itertools.islice(rest, IN_MAX)):
        yield chunk


def counts(engine: sa.Engine) -> tuple[int, int]:
    """Return how many works and creators are registered; the commons is nobody."""
    works = sa.select(sa.func.count()).select_from(_work)
    creators = sa.select(sa.func.count()).select_from(_creator).where(_creator.c.id != COMMONS)
    with engine.connect() as connection:
        return int(connection.execute(works).scalar_one()), int(connection.execute(creators).scalar_one())


def creators_by_handle(connection: sa.Connection, names: set[str]) -> dict[str, Creator]:
    """Return {id or ref: creator} for those of `names` that are known; an id wins over a ref like it."""
    by_id: dict[str, Creator] = {}
    by_ref: dict[str, Creator] = {}
    for chunk in chunks(names):
        statement = sa.select(_creator).where(sa.or_(_creator.c.id.in_(chunk), _creator.c.ref.in_(chunk)))
        for row in connection.execute(statement):
            creator = Creator(row.id, row.ref, row.name, row.country, row.created_us)
            by_id[creator.id] = by_ref[creator.ref] = creator
    return {name: creator for name, creator in {**by_ref, **by_id}.items() if name in names}


def status_now() -> sa.ColumnElement[str]:
    """Return the column of a work's status: one that was erased is nothing else any more."""
    gone = sa.exists().where(_erasure.c.kind == "work", _erasure.c.id == _work.c.id).correlate(_work)
    return sa.case((gone, "erased"), else_=_work.c.status)


def status_of(connection: sa.Connection, work_id: str) -> Status:
    """Return a work's status; NotFound when there is no such work."""
    status = connection.execute(sa.select(status_now()).where(_work.c.id == work_id)).scalar_one_or_none()
    if status is None:
        raise NotFound(f"there is no work '{work_id}'", remedy="`endcredits works list` shows them")
    return cast("Status", status)


def shown_names(connection: sa.Connection) -> dict[str, str]:
    """Return {creator: the name that credits show}: the one they chose, else their own."""
    chosen = sa.select(_creator.c.id, sa.func.coalesce(_shown.c.name, _creator.c.name))
    joined = chosen.outerjoin(_shown, _shown.c.creator_id == _creator.c.id)
    return {str(creator): str(name) for creator, name in connection.execute(joined)}


def owner_now() -> sa.ColumnElement[str]:
    """Return the column of a work's owner: who registered it, or whose claim was upheld last."""
    upheld = (
        sa.select(_claim.c.claimant)
        .join(_decision, _decision.c.claim_id == _claim.c.id)
        .where(_claim.c.work_id == _work.c.id, _decision.c.outcome == "upheld")
        .order_by(_decision.c.seq.desc())
        .limit(1)
        .correlate(_work)
        .scalar_subquery()
    )
    return sa.func.coalesce(upheld, _work.c.creator_id)


def owner_of(connection: sa.Connection, work_id: str) -> str:
    """Return whose a work is now; NotFound when there is no such work."""
    status_of(connection, work_id)
    return str(connection.execute(sa.select(owner_now()).where(_work.c.id == work_id)).scalar_one())


def standings(connection: sa.Connection, work_ids: list[str] | None = None) -> dict[str, int]:
    """Return {work: standing} of those that have one, among all works when `work_ids` is None."""
    found: dict[str, int] = {}
    for chunk in [None] if work_ids is None else chunks(work_ids):
        verified = sa.select(_identifier).order_by(_identifier.c.seq)
        upheld = sa.select(_claim.c.work_id).join(_decision, _decision.c.claim_id == _claim.c.id)
        upheld = upheld.where(_decision.c.outcome == "upheld")
        if chunk is not None:
            verified = verified.where(_identifier.c.work_id.in_(chunk))
            upheld = upheld.where(_claim.c.work_id.in_(chunk))
        last = {
            (str(row.work_id), row.scheme, row.value): row.state == "verified"
            for row in connection.execute(verified)
        }
        found |= {work: STANDING_VERIFIED for (work, _, _), holds in last.items() if holds}
        found |= dict.fromkeys(map(str, connection.execute(upheld).scalars()), STANDING_UPHELD)
    return found


def released(connection: sa.Connection) -> frozenset[str]:
    """Return the works that somebody has released from the review queue, and not held up again since."""
    said = sa.select(_event.c.work_id, _event.c.kind).order_by(_event.c.seq)
    said = said.where(_event.c.kind.in_(("work_released", "hold_upheld")))
    last = {str(row.work_id): row.kind for row in connection.execute(said)}
    return frozenset(work for work, kind in last.items() if kind == "work_released")


def said_last(connection: sa.Connection, work_ids: list[str] | None) -> dict[tuple[str, str], Given]:
    """Return {(work, use): the consent given last}, of all works when `work_ids` is None."""
    said: dict[tuple[str, str], Given] = {}
    for chunk in [None] if work_ids is None else chunks(work_ids):
        statement = sa.select(_consent).order_by(_consent.c.seq)
        if chunk is not None:
            statement = statement.where(_consent.c.work_id.in_(chunk))
        for row in connection.execute(statement):
            said[row.work_id, row.use] = row.verdict
    return said


def limits_asked(connection: sa.Connection) -> dict[str, int]:
    """Return {work or creator: words of it that an answer may repeat}, of those who ask for a limit now."""
    query = sa.select(_asked.c.scope_id, _asked.c.value).where(_asked.c.kind == "excerpt_words")
    last = {str(row.scope_id): row.value for row in connection.execute(query.order_by(_asked.c.seq))}
    return {of: int(words) for of, words in last.items() if words is not None}


def changed_works(connection: sa.Connection, after_seq: int, at_most: int) -> list[str]:
    """Return works whose credit may be another since a number of the registry, up to so many of them."""
    named = sa.select(_event.c.work_id).where(_event.c.seq > after_seq, _event.c.work_id.is_not(None))
    asking = sa.select(_asked.c.scope_id).where(_asked.c.seq > after_seq, _asked.c.scope == "creator")
    found = {str(work): None for work in connection.execute(named.distinct().limit(at_most)).scalars()}
    if connection.execute(asking.limit(1)).first():
        theirs = sa.select(_work.c.id).where(owner_now().in_(asking)).limit(at_most)
        found |= {str(work): None for work in connection.execute(theirs).scalars()}
    renamed = sa.select(_shown.c.creator_id).where(_shown.c.seq > after_seq)
    if connection.execute(renamed.limit(1)).first():
        theirs = sa.select(_work.c.id).where(owner_now().in_(renamed)).limit(at_most)
        shared = sa.select(_split.c.work_id).where(_split.c.party.in_(renamed)).distinct().limit(at_most)
        for query in (theirs, shared):
            found |= {str(work): None for work in connection.execute(query).scalars()}
    return list(found)[:at_most]


def next_split_version(connection: sa.Connection, work_id: str) -> int:
    """Return the number that the next version of a work's split gets."""
    split = _tables["split"]
    last = sa.select(sa.func.max(split.c.version)).where(split.c.work_id == work_id)
    return int(connection.execute(last).scalar_one_or_none() or 0) + 1


def split_rows(work_id: str, version: int, split: Split, seq: int) -> list[dict[str, Any]]:
    """Return the rows of one version of a work's split, in force from the registry's number `seq` on."""
    return [
        {
            "work_id": work_id,
            "version": version,
            "party": part.party,
            "ppm": part.ppm,
            "role": part.role,
            "valid_from_seq": seq,
        }
        for part in split.parts
    ]


def originals_by_handle(connection: sa.Connection, handles: Iterable[str]) -> dict[str, list[Original]]:
    """Return {public id or ref: the works that it may mean}; an id wins over a ref like it."""
    named, rows = set(handles), dict[str, list[Any]]()
    for column in (_work.c.ref, _work.c.id):
        by_name: dict[str, list[Any]] = {}
        for chunk in chunks(sorted(named)):
            query = sa.select(
                column.label("name"), _work.c.id, _work.c.text_bytes, owner_now().label("owner_id")
            )
            for row in connection.execute(query.where(column.in_(chunk))):
                by_name.setdefault(row.name, []).append(row)
        rows |= by_name
    meant = {str(row.id) for found in rows.values() for row in found}
    adapted, linked = ancestry(connection, meant), links_among(connection, sorted(meant))
    depth = {work: _depth(work, adapted) for work in adapted}
    recordings = {work for work, links in linked.items() if any(one.kind == "recording_of" for one in links)}
    return {
        name: [
            Original(
                row.id,
                row.owner_id == COMMONS,
                depth.get(row.id, 0),
                row.owner_id,
                row.text_bytes,
                row.id in recordings,
            )
            for row in found
        ]
        for name, found in rows.items()
    }


def _depth(work_id: str, adapted: Mapping[str, tuple[Adapted, ...]]) -> int:
    return max((1 + _depth(one.work, adapted) for one in adapted.get(work_id, ())), default=0)


def ancestry(
    connection: sa.Connection, work_ids: Iterable[str], *, upto_seq: int | None = None
) -> dict[str, tuple[Adapted, ...]]:
    """Return {work: what it adapts} for these works, for what they adapt, and so on back to the first."""
    found: dict[str, tuple[Adapted, ...]] = {}
    level = set(work_ids)
    while level:
        more = adaptations(connection, sorted(level), upto_seq=upto_seq)
        found |= more
        level = {one.work for adapted in more.values() for one in adapted} - found.keys()
    return found


def adaptations(
    connection: sa.Connection, work_ids: Iterable[str] | None = None, *, upto_seq: int | None = None
) -> dict[str, tuple[Adapted, ...]]:
    """Return {work: what it adapts, by original} as stated last, of all works when `work_ids` is None.

    upto_seq: as it was at that number of the registry.
    """
    newest: dict[str, tuple[int, list[Adapted]]] = {}
    for chunk in [None] if work_ids is None else chunks(work_ids):
        query = sa.select(_adaptation)
        if chunk is not None:
            query = query.where(_adaptation.c.work_id.in_(chunk))
        if upto_seq is not None:
            query = query.where(_adaptation.c.seq <= upto_seq)
        for row in connection.execute(query):
            seq, adapted = newest.get(row.work_id, (-1, []))
            if row.seq < seq:
                continue
            one = Adapted(str(row.original_id), int(row.ppm))
            newest[row.work_id] = (row.seq, [*adapted, one] if row.seq == seq else [one])
    return {work: tuple(sorted(found, key=lambda one: one.work)) for work, (_, found) in newest.items()}


def links_among(
    connection: sa.Connection, work_ids: Iterable[str] | None = None
) -> dict[str, tuple[Link, ...]]:
    """Return {work: what it is stated to be of what now, by the other}, of all works when None is given."""
    last: dict[tuple[str, str], Any] = {}
    for chunk in [None] if work_ids is None else chunks(work_ids):
        query = sa.select(_link).order_by(_link.c.seq)
        if chunk is not None:
            query = query.where(_link.c.work_id.in_(chunk))
        last |= {(row.work_id, row.of_id): row for row in connection.execute(query)}
    found: dict[str, tuple[Link, ...]] = {}
    for (work, of), row in sorted(last.items()):
        if not row.is_ended:
            found[work] = (*found.get(work, ()), Link(row.kind, of))
    return found


def adaptation_rows(
    work_id: str, adapts: Iterable[Adapted], *, seq: int, by: str, at_us: int
) -> list[dict[str, Any]]:
    """Return the rows of one statement of what a work adapts, in force from the number `seq` on."""
    return [
        {
            "work_id": work_id,
            "seq": seq,
            "original_id": one.work,
            "ppm": one.ppm,
            "decided_by": by,
            "at_us": at_us,
        }
        for one in adapts
    ]


def licensed(connection: sa.Connection) -> dict[str, tuple[str, ...]]:
    """Return {work: the works that its licence lets it take from}, through adaptations of adaptations.

    An original whose creator denies the use `derivative` lets nobody take from it.
    """
    adapted = adaptations(connection)
    if not adapted:
        return {}
    denied = {
        work
        for (work, use), given in said_last(connection, None).items()
        if use == Use.DERIVATIVE and given == "denied"
    }
    kept = {
        work: tuple(one for one in originals if one.work not in denied) for work, originals in adapted.items()
    }
    return {work: found for work in kept if (found := lineage(work, kept))}


def owners_of_originals(
    connection: sa.Connection, work_ids: list[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return {work: who owns what it was made from and is owed a part}, nearest first; all works for None."""
    stated = adaptations(connection) if work_ids is None else ancestry(connection, work_ids)
    owing = {work: tuple(one for one in made if one.ppm) for work, made in stated.items()}
    originals = sorted({one.work for made in owing.values() for one in made})
    owner = {
        str(row.id): str(row.owner_id)
        for chunk in chunks(originals)
        for row in connection.execute(
            sa.select(_work.c.id, owner_now().label("owner_id")).where(_work.c.id.in_(chunk))
        )
    }
    return {work: tuple(dict.fromkeys(owner[one] for one in lineage(work, owing))) for work in owing}


def with_adaptations(connection: sa.Connection, work_ids: list[str]) -> list[str]:
    """Return these works and what was made from them, whose credits name their creators too."""
    stated, changed = adaptations(connection), set(work_ids)
    return [
        *work_ids,
        *(work for work in stated if work not in changed and changed & {*lineage(work, stated)}),
    ]


def names_of(
    owner_id: str, parts: list[Any], names: Mapping[str, str], thanked: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return whom a credit names: parties by their part, else the owner; then who made the originals."""
    largest_first = sorted(parts, key=lambda part: (-part.ppm, names.get(part.party, "")))
    own = [names[part.party] for part in largest_first if part.party in names] or [names[owner_id]]
    return tuple(dict.fromkeys([*own, *(names[one] for one in thanked)]))
