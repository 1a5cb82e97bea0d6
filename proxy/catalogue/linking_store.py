"""Links between works in the store: stated, ended and shown, each a change of the registry with who and when.

Nothing is taken out: of two works the last row holds. What a creator ended about a work of theirs, its linker
cannot state again; an operator can, because a fact that two people see differently is for a third to say.
Calls block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from proxy.catalogue.linking import LINEAGE_MAX, LINKS_MAX, refuse_circle, refuse_unfit
from proxy.catalogue.lookup_store import links_among, originals_by_handle, owner_of, status_of
from proxy.catalogue.tables import metadata
from proxy.catalogue.works import Link, LinkKind, printable
from proxy.clock import Clock
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import BadRequest, Conflict, NotFound

SHOWN_MAX: Final = 100  # of what names a work, newest first: a much recorded song has more than a page holds

_link = metadata.tables["work_link"]


@dataclass(frozen=True, slots=True)
class StatedLink:
    """A link that holds: which work is what of which, who said so and when. by: a creator's id or a name."""

    work_id: str
    kind: LinkKind
    of: str
    by: str
    at_us: int
    seq: int


class Links:
    """Links as one creator states them of their own works, or an operator (creator "") of any.

    Each call is one transaction. by: the name under which an operator's statements are kept.
    """

    def __init__(self, engine: sa.Engine, *, clock: Clock, creator: str = "", by: str = "operator") -> None:
        self._engine = engine
        self._clock = clock
        self._creator = creator
        self._by = creator or by

    def of(self, work_id: str) -> list[StatedLink]:
        """Return what a work is stated to be of other works, by the other."""
        with self._engine.connect() as connection:
            found = _holding(connection, _link.c.work_id == work_id, LINKS_MAX)
        return sorted(found, key=lambda one: one.of)

    def to(self, work_id: str) -> list[StatedLink]:
        """Return the works that are stated to be something of this one, newest first, SHOWN_MAX at most."""
        with self._engine.connect() as connection:
            return _holding(connection, _link.c.of_id == work_id, SHOWN_MAX)

    def all(self) -> dict[str, tuple[Link, ...]]:
        """Return {work: its links}, of those that have any."""
        with self._engine.connect() as connection:
            return links_among(connection)

    def state(self, work_id: str, kind: LinkKind, of: str) -> bool:
        """State that a work is this of another (public ids) from now on; False when that holds already.

        Another kind between the same two takes the other's place. Raises NotFound for a work that is not
        there, or not the creator's; BadRequest for what cannot be so; Conflict for what was ended by another.
        """
        with registry_turn(self._engine) as connection:
            self._refuse_others(connection, work_id, {owner_of(connection, work_id)})
            ends = originals_by_handle(connection, {work_id, of})
            if of not in ends or status_of(connection, of) == "erased":
                raise NotFound(f"there is no work '{printable(of, 60)}'", remedy="name it by its public id")
            last = _last(connection, work_id, of)
            if last is not None and not last.is_ended and last.kind == kind:
                return False
            if last is not None and last.is_ended and self._creator and last.by != self._creator:
                raise Conflict(
                    "somebody else ended this link",
                    remedy="ask whoever runs this to state it, if it is so",
                    code="link_ended",
                )
            graph = _back_from(connection, [work_id, of])
            others = [one for one in graph.get(work_id, ()) if one.of != of]
            if len(others) >= LINKS_MAX:
                raise BadRequest(f"it has {LINKS_MAX} links, which is the most", code="link")
            records = sa.and_(_link.c.of_id == work_id, _link.c.kind == "recording_of")
            recorded = bool(_holding(connection, records, 1))
            refuse_circle(work_id, of, graph)
            refuse_unfit(kind, ends[of][0], text_bytes=ends[work_id][0].text_bytes, is_recorded=recorded)
            write_links(connection, [(work_id, Link(kind, of))], by=self._by, at_us=self._clock.now_us())
        return True

    def end(self, work_id: str, of: str) -> bool:
        """End the link from a work to another, as whoever owns either; False when there is none.

        Raises NotFound for works of which neither is the creator's.
        """
        with registry_turn(self._engine) as connection:
            whose = {owner_of(connection, one) for one in (work_id, of)}
            self._refuse_others(connection, work_id, whose)
            last = _last(connection, work_id, of)
            if last is None or last.is_ended:
                return False
            links, at_us = [(work_id, Link(last.kind, of))], self._clock.now_us()
            write_links(connection, links, by=self._by, at_us=at_us, is_ended=True)
        return True

    def _refuse_others(self, connection: sa.Connection, work_id: str, owners: set[str]) -> None:
        if status_of(connection, work_id) == "erased" or (self._creator and self._creator not in owners):
            raise NotFound(f"there is no work '{printable(work_id, 60)}'", remedy="take its id from the list")


def write_links(
    connection: sa.Connection,
    links: Iterable[tuple[str, Link]],
    *,
    by: str,
    at_us: int,
    is_ended: bool = False,
) -> None:
    """Write links of works, or their ends, inside a `registry_turn`; each is a change of the registry."""
    stated = list(links)
    if not stated:
        return
    kind = "link_ended" if is_ended else "link_stated"
    changes = [RegistryChange(kind, said(one), work) for work, one in stated]
    first = append_registry(connection, changes, actor=by, at_us=at_us)
    rows: list[dict[str, Any]] = [
        {
            "work_id": work,
            "seq": seq,
            "of_id": one.of,
            "kind": one.kind,
            "is_ended": is_ended,
            "by": by,
            "at_us": at_us,
        }
        for seq, (work, one) in enumerate(stated, first)
    ]
    connection.execute(sa.insert(_link), rows)


def said(link: Link) -> dict[str, str]:
    """Return what the registry's history keeps the hash of."""
    return {"kind": link.kind, "of": link.of}


def _last(connection: sa.Connection, work_id: str, of: str) -> Any:
    pair = sa.select(_link).where(_link.c.work_id == work_id, _link.c.of_id == of)
    return connection.execute(pair.order_by(_link.c.seq.desc()).limit(1)).first()


def _holding(connection: sa.Connection, which: sa.ColumnElement[bool], limit: int) -> list[StatedLink]:
    """Return links that hold now, newest first: of two works the last row, where it does not end it."""
    later = _link.alias()
    same = sa.and_(later.c.work_id == _link.c.work_id, later.c.of_id == _link.c.of_id)
    overtaken = sa.exists().where(same, later.c.seq > _link.c.seq)
    query = sa.select(_link).where(which, ~_link.c.is_ended, ~overtaken)
    return [
        StatedLink(row.work_id, row.kind, row.of_id, row.by, row.at_us, row.seq)
        for row in connection.execute(query.order_by(_link.c.seq.desc()).limit(limit))
    ]


def _back_from(connection: sa.Connection, works: Sequence[str]) -> dict[str, tuple[Link, ...]]:
    """Return the links of these works and of all that they go back to; BadRequest beyond LINEAGE_MAX."""
    found: dict[str, tuple[Link, ...]] = {}
    seen, level = set[str](), set(works)
    while level:
        seen |= level
        if len(seen) > LINEAGE_MAX:
            raise BadRequest(
                f"it would go back to more than {LINEAGE_MAX} works",
                remedy="link it to the work that it comes from first",
                code="link",
            )
        more = links_among(connection, sorted(level))
        found |= more
        level = {one.of for links in more.values() for one in links} - seen
    return found
