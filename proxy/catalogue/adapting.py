"""Works made from other works: what a translation or a retelling owes to those it was made from.

A later copy earns nothing, unless its licence says what part of its money is the original's. That part is
kept with the number of the registry from which it holds, and names the *work*, not its creators of the day:
whoever the original belongs to when a period is closed gets it. What both say in the same words is the
original's in any case; the licence is about what the adaptation says in words of its own.

Whether a licence was given is the operator's to know. The original's creator can end it for the index by
denying the use `derivative`: the adaptation is then held like any copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from proxy.catalogue.works import WHOLE_PPM, Adapted, printable
from proxy.errors import BadRequest

ADAPTED_MAX = 20  # works that one is made from; an anthology registers its parts
DEPTH_MAX = 10  # adaptations of adaptations: a statement has to be able to tell the way
REMEDY = 'write "w_...:300000", or a JSON list of {"work", "ppm"}'


@dataclass(frozen=True, slots=True)
class Original:
    """A work that a handle (public id or ref) may mean.

    depth: how many adaptations away from a first. is_recording: it is stated to be one of another work.
    """

    work_id: str
    commons: bool
    depth: int = 0
    creator: str = ""
    text_bytes: int = 0
    is_recording: bool = False


def checked(adapts: Sequence[Adapted]) -> tuple[Adapted, ...]:
    """Return what a work adapts. Raises BadRequest for a work named twice, too many, or over the whole."""
    problem = ""
    if len(adapts) > ADAPTED_MAX:
        problem = f"it adapts {len(adapts)} works; {ADAPTED_MAX} is the most"
    elif len({one.work for one in adapts}) != len(adapts):
        problem = "it names an original twice"
    elif any(not 0 <= one.ppm <= WHOLE_PPM for one in adapts) or sum(one.ppm for one in adapts) > WHOLE_PPM:
        problem = f"originals get 0 to {WHOLE_PPM} ppm, together too"
    if problem:
        raise BadRequest(problem, remedy=REMEDY, code="adapts")
    return tuple(adapts)


def parse(value: object) -> tuple[Adapted, ...]:
    """Return what a row's `adapts` says: a JSON list of objects, or "work:ppm;work:ppm". BadRequest else."""
    if not value:
        return ()
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return checked([_cell(cell) for cell in value.split(";") if cell.strip()])
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise BadRequest(f"adapts is no JSON ({error})", remedy=REMEDY, code="adapts") from error
    if not isinstance(value, list):
        raise BadRequest("adapts is no list", remedy=REMEDY, code="adapts")
    return checked([_object(one) for one in cast("list[Any]", value)])


def resolved(adapts: Sequence[Adapted], known: Mapping[str, Sequence[Original]]) -> tuple[Adapted, ...]:
    """Return `adapts` with public ids, in their order. known: what each handle may mean.

    Raises BadRequest for a handle that means no work or several, and for money to a commons, which is nobody.
    """
    found: list[Adapted] = []
    for one in adapts:
        meant = known.get(one.work, ())
        shown = printable(one.work, 60)
        if len(meant) != 1:
            cause = f"'{shown}' is the ref of {len(meant)} works" if meant else f"there is no work '{shown}'"
            remedy = "name the original by its public id; it has to be registered first"
            raise BadRequest(cause, remedy=remedy, code="adapts")
        if meant[0].commons and one.ppm:
            raise BadRequest(
                f"{shown} is nobody's and is paid nothing", remedy="give it 0 ppm", code="adapts"
            )
        if meant[0].depth >= DEPTH_MAX:
            cause = f"{shown} goes back over {meant[0].depth} adaptations already"
            raise BadRequest(cause, remedy="name the work that it was made from", code="adapts")
        found.append(Adapted(meant[0].work_id, one.ppm))
    return checked(sorted(found, key=lambda one: one.work))


def depth_of(adapts: Sequence[Adapted], known: Mapping[str, Sequence[Original]]) -> int:
    """Return how many adaptations a work is away from a first, by what its originals are."""
    return max((1 + meant.depth for one in adapts for meant in known.get(one.work, ())), default=0)


def lineage(work_id: str, adapted: Mapping[str, Sequence[Adapted]]) -> tuple[str, ...]:
    """Return every work that this one goes back to, nearest first, by {work: what it adapts}."""
    found: dict[str, None] = {}
    level = [work_id]
    while level:
        level = sorted({one.work for work in level for one in adapted.get(work, ())} - found.keys())
        found |= dict.fromkeys(level)
    return tuple(found)


def _cell(cell: str) -> Adapted:
    work, _, ppm = cell.strip().rpartition(":")
    return _adapted(work.strip(), int(ppm) if ppm.isascii() and ppm.isdecimal() and len(ppm) <= 7 else None)


def _object(value: Any) -> Adapted:
    if not isinstance(value, dict):
        raise BadRequest("an original is no object", remedy=REMEDY, code="adapts")
    fields = cast("Mapping[str, Any]", value)
    return _adapted(fields.get("work"), fields.get("ppm"))


def _adapted(work: object, ppm: object) -> Adapted:
    if not isinstance(work, str) or not work or not isinstance(ppm, int) or isinstance(ppm, bool):
        raise BadRequest("an original names no work or no whole number of ppm", remedy=REMEDY, code="adapts")
    return Adapted(work, ppm)
