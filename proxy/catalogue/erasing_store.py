"""What the registry forgets: a work's text and all that was said of it, a creator's names and words; and the
name by which a creator wants to be shown.

Numbers, ids, splits, consents and times stay, because money was booked by them; so does the digest of an
erased text, by which its registration can still be told from another. What history may be emptied of, and
only behind a row of `erasure`, the store checks itself (migrations/erasable.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from proxy.catalogue.agreements_store import SplitAnswerRow, SplitProposalRow
from proxy.catalogue.appeals_store import AppealRow
from proxy.catalogue.licences_store import LicenceFileRow, LicenceRow
from proxy.catalogue.lookup_store import creators_by_handle, owner_now, shown_names, status_of
from proxy.catalogue.tables import metadata
from proxy.catalogue.works import COMMONS, NAME_CHARACTERS_MAX, UNCLAIMED, Creator, printable, ref_of
from proxy.clock import Clock
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import BadRequest, Conflict, NotFound

ERASED: Final = "(erased)"  # what stands for a title or a name from then on

_tables = metadata.tables
_creator, _work, _text = _tables["creator"], _tables["work"], _tables["work_text"]
_split, _claim, _decision = _tables["split"], _tables["claim"], _tables["claim_decision"]
_identifier, _review = _tables["work_identifier"], _tables["review"]
_asked, _erasure, _shown = _tables["asked_term"], _tables["erasure"], _tables["shown_name"]
_appeal = _tables[str(AppealRow.__tablename__)]
_proposal = _tables[str(SplitProposalRow.__tablename__)]
_answer = _tables[str(SplitAnswerRow.__tablename__)]
_licence, _file = _tables[str(LicenceRow.__tablename__)], _tables[str(LicenceFileRow.__tablename__)]


def show_as(engine: sa.Engine, creator: str, name: str, *, clock: Clock, actor: str = "operator") -> str:
    """Credit a creator (id or ref) by this name from now on, "" by their own; return what is shown.

    Raises NotFound, BadRequest for what is no name, Conflict for one that another creator has.
    """
    wanted = printable(name, NAME_CHARACTERS_MAX + 1)
    if len(wanted) > NAME_CHARACTERS_MAX or (name.strip() and not wanted):
        raise BadRequest(
            "this can't be shown as a name", remedy=f"take 1 to {NAME_CHARACTERS_MAX} characters that print"
        )
    with registry_turn(engine) as connection:
        known = known_creator(connection, creator)
        refuse_erased(connection, known.id)
        shown = wanted or known.name
        names = shown_names(connection)
        if names[known.id] == shown:
            return shown
        if shown != known.name:
            _refuse_taken(connection, known, shown, names)
        # What anybody was called is in no log: it tells the id only.
        change = RegistryChange("creator_shown", {"creator": known.id})
        seq = append_registry(connection, [change], actor=actor, at_us=clock.now_us())
        connection.execute(sa.delete(_shown).where(_shown.c.creator_id == known.id))
        connection.execute(sa.insert(_shown), [{"creator_id": known.id, "name": shown, "seq": seq}])
    return shown


def shown_name(engine: sa.Engine, creator_id: str) -> str:
    """Return the name that a creator chose to be credited by, "" for none."""
    query = sa.select(_shown.c.name).where(_shown.c.creator_id == creator_id)
    with engine.connect() as connection:
        return str(connection.execute(query).scalar_one_or_none() or "")


def erase_work(engine: sa.Engine, work_id: str, *, clock: Clock, by: str = "operator") -> bool:
    """Erase a work's text and what was said of it; False when that is done. Raises NotFound.

    It is credited to nobody within a second, and leaves the index when the next one is built.
    """
    with registry_turn(engine) as connection, overwriting(connection):
        if status_of(connection, work_id) == "erased":
            return False
        erase_works(connection, [work_id], by=by, now_us=clock.now_us())
    return True


@contextlib.contextmanager
def overwriting(connection: sa.Connection) -> Generator[None]:
    """Let SQLite write zeros over what goes in this transaction; else it only forgets where it was."""
    if connection.dialect.name != "sqlite":
        yield
        return
    usual = connection.exec_driver_sql("PRAGMA secure_delete").scalar_one()
    connection.exec_driver_sql("PRAGMA secure_delete = ON")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA secure_delete = {int(usual)}")


def is_erased(connection: sa.Connection, creator_id: str) -> bool:
    """Whether a creator was erased."""
    query = sa.select(_erasure.c.id).where(_erasure.c.kind == "creator", _erasure.c.id == creator_id)
    return connection.execute(query).first() is not None


def refuse_erased(connection: sa.Connection, creator_id: str) -> None:
    """Raise Conflict where a creator was erased: nothing more is kept of them."""
    if is_erased(connection, creator_id):
        raise Conflict(
            f"{creator_id} was erased", remedy="register them anew, if they want to come back", code="erased"
        )


def known_creator(connection: sa.Connection, handle: str) -> Creator:
    """Return a creator by id or ref. Raises NotFound; the commons is nobody."""
    known = creators_by_handle(connection, {handle}).get(handle)
    if known is None or known.id == COMMONS:
        raise NotFound(f"there is no creator '{handle}'", remedy="`endcredits creators list` shows them")
    return known


def works_of(connection: sa.Connection, creator_id: str) -> tuple[list[str], list[str]]:
    """Return (works that are this creator's alone, works of theirs in which others have a part).

    Works that are erased are neither.
    """
    gone = sa.select(_erasure.c.id).where(_erasure.c.kind == "work")
    theirs = sa.select(_work.c.id).where(owner_now() == creator_id, _work.c.id.not_in(gone))
    last = sa.select(_split.c.work_id, sa.func.max(_split.c.version).label("version")).group_by(
        _split.c.work_id
    )
    newest = last.subquery()
    parts = sa.select(_split.c.work_id).join(
        newest, sa.and_(newest.c.work_id == _split.c.work_id, newest.c.version == _split.c.version)
    )
    others = parts.where(_split.c.party.not_in((creator_id, UNCLAIMED)), _split.c.work_id.in_(theirs))
    shared = {str(work) for work in connection.execute(others).scalars()}
    found = [str(work) for work in connection.execute(theirs.order_by(_work.c.registered_seq)).scalars()]
    return [work for work in found if work not in shared], [work for work in found if work in shared]


def erase_works(connection: sa.Connection, works: Sequence[str], *, by: str, now_us: int) -> None:
    """Erase these works inside a `registry_turn`."""
    if not works:
        return
    changes = [RegistryChange("work_erased", {"work": work}, work) for work in works]
    first = append_registry(connection, changes, actor=by, at_us=now_us)
    _say_erased(connection, "work", works, first, by=by, now_us=now_us)
    for work in works:
        of_work = _work.c.id == work
        values = {"title": ERASED, "ref": work, "url": "", "status": "withdrawn"}
        connection.execute(sa.update(_work).where(of_work).values(values))
        connection.execute(sa.delete(_text).where(_text.c.work_id == work))
        for table in (_identifier, _review):
            emptied = {"value": "", "reason": ""} if table is _identifier else {"reason": ""}
            connection.execute(sa.update(table).where(table.c.work_id == work).values(emptied))
    _empty_scope(connection, works)


def erase_creator_rows(connection: sa.Connection, creator: Creator, *, by: str, now_us: int) -> int:
    """Erase a creator's names and words from the registry, inside a `registry_turn`; return its number."""
    change = RegistryChange("creator_erased", {"creator": creator.id})
    seq = append_registry(connection, [change], actor=by, at_us=now_us)
    _say_erased(connection, "creator", [creator.id], seq, by=by, now_us=now_us)
    named = {"name": ERASED, "ref": creator.id, "country": ""}
    connection.execute(sa.update(_creator).where(_creator.c.id == creator.id).values(named))
    connection.execute(sa.delete(_shown).where(_shown.c.creator_id == creator.id))
    # Credits are shown by names, and these changed: the row says so to whoever looks.
    connection.execute(sa.insert(_shown), [{"creator_id": creator.id, "name": ERASED, "seq": seq}])
    theirs = sa.select(_claim.c.id).where(_claim.c.claimant == creator.id)
    connection.execute(sa.update(_decision).where(_decision.c.claim_id.in_(theirs)).values(reason=""))
    of_theirs = sa.update(_claim).where(_claim.c.claimant == creator.id)
    connection.execute(of_theirs.values(basis="", evidence="[]"))
    connection.execute(sa.update(_proposal).where(_proposal.c.proposed_by == creator.id).values(note=""))
    connection.execute(sa.update(_appeal).where(_appeal.c.creator_id == creator.id).values(words=""))
    connection.execute(sa.update(_answer).where(_answer.c.party == creator.id).values(reason=""))
    _empty_scope(connection, [creator.id])
    return seq


def _empty_scope(connection: sa.Connection, scopes: Sequence[str]) -> None:
    """Empty what was said of licences and terms of these works or creators."""
    connection.execute(sa.update(_asked).where(_asked.c.scope_id.in_(scopes)).values(why=""))
    mine = sa.select(_licence.c.file_sha256).where(_licence.c.scope_id.in_(scopes))
    kept = sa.select(_licence.c.file_sha256).where(_licence.c.scope_id.not_in(sa.select(_erasure.c.id)))
    emptied = sa.update(_file).where(_file.c.sha256.in_(mine), _file.c.sha256.not_in(kept))
    connection.execute(emptied.values(raw_zlib=b""))
    of_scope = sa.update(_licence).where(_licence.c.scope_id.in_(scopes))
    connection.execute(of_scope.values(origin=""))
    # Which addresses a creator's rule speaks of goes on deciding for works that others have a part in.
    connection.execute(of_scope.where(_licence.c.scope == "work").values(about=""))


def _say_erased(
    connection: sa.Connection, kind: str, names: Sequence[str], first: int, *, by: str, now_us: int
) -> None:
    rows: list[dict[str, Any]] = [
        {"kind": kind, "id": name, "seq": first + place, "by": by, "at_us": now_us}
        for place, name in enumerate(names)
    ]
    connection.execute(sa.insert(_erasure), rows)


def _refuse_taken(connection: sa.Connection, known: Creator, shown: str, names: dict[str, str]) -> None:
    """Refuse a name that somebody else is known by: credits must not take one for the other."""
    wanted = ref_of(shown)
    own = {
        str(row.id): str(row.name) for row in connection.execute(sa.select(_creator.c.id, _creator.c.name))
    }
    for other in own.keys() - {known.id}:
        if wanted in {ref_of(own[other]), ref_of(names[other])}:
            raise Conflict(
                f"somebody else is called '{shown}'", remedy="take another name", code="name_taken"
            )
