"""A batch of works on its way into the registry: who they belong to, what is new, what is refused.

Pure: it is told what the registry knows of the batch's names and ends with what must be written, so that one
bad row costs itself only, and a second run of the same file finds nothing to do.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxy.catalogue.adapting import Original, depth_of
from proxy.catalogue.adapting import resolved as resolved_adapts
from proxy.catalogue.linking import resolved as resolved_links
from proxy.catalogue.works import (
    COMMONS,
    LICENCE_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    TITLE_CHARACTERS_MAX,
    UNCLAIMED,
    Adapted,
    Creator,
    Link,
    NewWork,
    Outcome,
    Part,
    Split,
    checked_ref,
    checked_url,
    printable,
    refuse_id_as_ref,
)
from proxy.clock import Ids, iso_utc
from proxy.errors import BadRequest, Problem

CLOCK_SKEW_US = 60_000_000  # another machine's "now" may be a little ahead of ours


@dataclass(frozen=True, slots=True)
class PackedText:
    """A text as it is kept."""

    zlib: bytes
    sha256: str
    size_bytes: int

    @staticmethod
    def of(text: str) -> PackedText:
        """Return `text` compressed and hashed. Lone surrogates cannot be kept: intake refuses them."""
        raw = text.encode("utf-8")
        return PackedText(zlib.compress(raw), hashlib.sha256(raw).hexdigest(), len(raw))


@dataclass(frozen=True, slots=True)
class Registered:
    """A work that is there already."""

    id: str
    text_sha256: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A work that will be written: names resolved to ids."""

    id: str
    creator_id: str
    work: NewWork
    packed: PackedText
    split: Split | None
    registered_us: int
    adapts: tuple[Adapted, ...] = ()
    links: tuple[Link, ...] = ()

    def row(self, seq: int) -> dict[str, object]:
        """Return the work's row, registered as number `seq`."""
        return {
            "id": self.id,
            "ref": self.work.ref,
            "creator_id": self.creator_id,
            "title": printable(self.work.title, TITLE_CHARACTERS_MAX) or self.work.ref,
            "medium": self.work.medium,
            "text_sha256": self.packed.sha256,
            "text_bytes": self.packed.size_bytes,
            "licence": printable(self.work.licence, LICENCE_CHARACTERS_MAX),
            "url": self.work.url,
            "registered_us": self.registered_us,
            "registered_seq": seq,
            "status": "active",
        }


def handles(work: NewWork) -> Iterator[str]:
    """Yield every name of a creator that a row uses."""
    yield work.creator
    for part in work.split.parts if work.split else ():
        if part.party != UNCLAIMED:
            yield part.party


def others(work: NewWork) -> Iterator[str]:
    """Yield every name of another work that a row uses."""
    yield from (one.work for one in work.adapts)
    yield from (one.of for one in work.links)


def resolved(split: Split, known: Mapping[str, Creator]) -> Split:
    """Return `split` with ids for parties. Raises BadRequest for a party that nobody knows."""
    parts: list[Part] = []
    for part in split.parts:
        if part.party != UNCLAIMED and part.party not in known:
            raise BadRequest(
                f"there is no creator '{part.party}'",
                remedy="`endcredits creators add` them first",
                code="split",
            )
        parts.append(
            Part(part.party if part.party == UNCLAIMED else known[part.party].id, part.ppm, part.role)
        )
    return Split(tuple(parts))


class Adding:
    """One batch: give it rows with `add`, then write `creators` and `works`."""

    def __init__(
        self,
        ids: Ids,
        now_us: int,
        *,
        known: Mapping[str, Creator],
        registered: Mapping[tuple[str, str], Registered],
        new_creators: bool,
        originals: Mapping[str, Sequence[Original]] | None = None,
    ) -> None:
        """originals: what each handle in a row's `adapts` and links may mean in the registry.

        Without `new_creators` the list is one creator's own: it links to others' works by their ids only.
        """
        self.creators: list[Creator] = []
        self.works: list[Accepted] = []
        self._ids = ids
        self._now_us = now_us
        self._known = dict(known)
        self._registered = dict(registered)
        self._new_creators = new_creators
        self._originals = {handle: list(found) for handle, found in (originals or {}).items()}

    def add(self, work: NewWork, packed: PackedText) -> Outcome:
        """Return what becomes of `work`."""
        try:
            return self._add(work, packed)
        except Problem as problem:
            return Outcome("refused", work.place, work.ref, why=problem.cause, remedy=problem.remedy)

    def links(self) -> Iterator[tuple[str, Link]]:
        """Yield (work, a link of it) of all that will be written."""
        return ((work.id, one) for work in self.works for one in work.links)

    def _add(self, work: NewWork, packed: PackedText) -> Outcome:
        checked_ref(work.ref)
        checked_url(work.url)
        if work.registered_us is not None and work.registered_us > self._now_us + CLOCK_SKEW_US:
            raise BadRequest(
                f"registered_at {iso_utc(work.registered_us)} lies in the future",
                remedy="leave it out to register the work as of now",
            )
        newcomers = self._newcomers(work)
        known = {**self._known, **newcomers}
        creator = known[work.creator]
        found = self._registered.get((creator.id, work.ref))
        if found is not None:
            return self._again(work, packed, found)
        split = resolved(work.split, known) if work.split else None
        accepted = Accepted(
            self._ids.new("w"),
            creator.id,
            work,
            packed,
            split,
            self._now_us if work.registered_us is None else work.registered_us,
            resolved_adapts(work.adapts, self._originals),
            resolved_links(
                work.links,
                self._originals,
                creator=creator.id,
                text_bytes=packed.size_bytes,
                others_by_ref=self._new_creators,
            ),
        )
        # Only now, so that a refused row leaves nobody behind.
        self.creators.extend(newcomers.values())
        self._known = known
        self._registered[creator.id, work.ref] = Registered(accepted.id, packed.sha256)
        self.works.append(accepted)
        # A row may name one that stands above it in the same list.
        made = Original(
            accepted.id,
            creator.id == COMMONS,
            depth_of(work.adapts, self._originals),
            creator.id,
            packed.size_bytes,
            any(one.kind == "recording_of" for one in work.links),
        )
        self._originals.setdefault(work.ref, []).append(made)
        return Outcome("added", work.place, work.ref, accepted.id)

    def _newcomers(self, work: NewWork) -> dict[str, Creator]:
        unknown = [handle for handle in dict.fromkeys(handles(work)) if handle not in self._known]
        if unknown and not self._new_creators:
            raise BadRequest(
                f"there is no creator '{printable(unknown[0], 60)}'",
                remedy="`endcredits creators add` them first",
            )
        newcomers: dict[str, Creator] = {}
        for handle in unknown:
            ref = checked_ref(handle)
            refuse_id_as_ref(ref)
            if ref != handle:
                raise BadRequest(
                    f"'{printable(handle, 60)}' cannot be an id", remedy="remove the spaces around it"
                )
            shown = work.creator_name if handle == work.creator else ""
            name = printable(shown, NAME_CHARACTERS_MAX) or ref
            newcomers[handle] = Creator(self._ids.new("c"), ref, name, "", self._now_us)
        return newcomers

    @staticmethod
    def _again(work: NewWork, packed: PackedText, found: Registered) -> Outcome:
        if found.text_sha256 == packed.sha256:
            return Outcome("unchanged", work.place, work.ref, found.id)
        raise BadRequest(
            f"'{work.ref}' is registered already with another text, as {found.id}",
            remedy="register the new text under another work_id; a registration is evidence and stays",
        )
