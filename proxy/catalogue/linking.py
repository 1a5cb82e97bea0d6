"""Links between works: that one is a recording, an excerpt or a translation of another.

A link is a fact that the owner of a work states about it, kept with the registry's number from which it
holds. It pays nobody and lets nobody take from anybody: what a made work owes is its licence's to say
(adapting.py), and whose a passage is that two works hold is found in the passage. So a link needs nobody's
leave; whoever owns the other work may end it, and then an operator alone states it again.

What can be checked of a fact is checked: an excerpt is no longer than the whole, a recording is of a work and
not of another recording, and no work comes, by links, from itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast, get_args

import msgspec

from proxy.catalogue.adapting import Original
from proxy.catalogue.works import Link, LinkKind, printable
from proxy.errors import BadRequest

KINDS: Final[tuple[LinkKind, ...]] = get_args(LinkKind)
LINKS_MAX: Final = 20  # of one work; an anthology's parts link to their wholes, each by itself
LINEAGE_MAX: Final = 1_000  # works that one may go back to: a walk of this length is no work's history
REMEDY: Final = 'write "w_..." or several with semicolons between, or a JSON list of them'


def kind_of(text: str) -> LinkKind:
    """Return the kind of link these words name; BadRequest names those there are."""
    for kind in KINDS:
        if text == kind:
            return kind
    raise BadRequest(
        f"there is no link '{printable(text, 40)}'", remedy=f"use one of {', '.join(KINDS)}", code="link"
    )


def checked(links: Iterable[Link]) -> tuple[Link, ...]:
    """Return a work's links, each other work once. Raises BadRequest for one named twice, or too many."""
    stated = tuple(links)
    if len(stated) > LINKS_MAX:
        raise BadRequest(f"it has {len(stated)} links; {LINKS_MAX} is the most", code="link")
    if len({one.of for one in stated}) != len(stated):
        raise BadRequest("it is linked to one work twice", remedy="say which of both it is", code="link")
    return stated


def parse(row: Mapping[str, Any]) -> tuple[Link, ...]:
    """Return the links that a row states in columns called like their kinds. Raises BadRequest."""
    return checked(Link(kind, of) for kind in KINDS for of in _named(kind, row.get(kind)))


def resolved(
    links: Sequence[Link],
    known: Mapping[str, Sequence[Original]],
    *,
    creator: str,
    text_bytes: int,
    others_by_ref: bool = True,
) -> tuple[Link, ...]:
    """Return a new work's links with public ids. known: what each handle may mean.

    A ref that the work's own creator uses means theirs; without `others_by_ref` a ref means nobody else's.
    Raises BadRequest for a handle that means no work or several, and for what the new work, of `text_bytes`,
    cannot be.
    """
    found: list[Link] = []
    for one in links:
        may_be = [
            other
            for other in known.get(one.of, ())
            if others_by_ref or creator == other.creator or one.of == other.work_id
        ]
        meant = [other for other in may_be if other.creator == creator] or may_be
        if len(meant) != 1:
            shown = printable(one.of, 60)
            cause = f"'{shown}' is the ref of {len(meant)} works" if meant else f"there is no work '{shown}'"
            raise BadRequest(
                cause,
                remedy="name the other work by its public id; it has to be registered first",
                code="link",
            )
        refuse_unfit(one.kind, meant[0], text_bytes=text_bytes)
        found.append(Link(one.kind, meant[0].work_id))
    return checked(found)


def refuse_unfit(kind: LinkKind, of: Original, *, text_bytes: int, is_recorded: bool = False) -> None:
    """Raise BadRequest where a work cannot be of that other.

    text_bytes: of the work that is linked. is_recorded: something is stated to be a recording of it.
    """
    if kind == "excerpt_of" and text_bytes > of.text_bytes:
        raise BadRequest(
            f"an excerpt of {text_bytes} bytes is longer than {of.work_id}, which has {of.text_bytes}",
            remedy="link the whole to nothing, and the excerpt to the whole",
            code="link",
        )
    if kind == "recording_of" and (of.is_recording or is_recorded):
        raise BadRequest(
            "a recording is of a work, and not of another recording",
            remedy="link each recording to the work that is heard in it",
            code="link",
        )


def refuse_circle(work_id: str, of: str, links: Mapping[str, Sequence[Link]]) -> None:
    """Raise BadRequest where `of` comes from `work_id`. links: of `of` and of all that it goes back to."""
    if work_id == of or work_id in back_from(of, links):
        raise BadRequest(
            f"{work_id} would come from itself", remedy="link the later work to the earlier", code="link"
        )


def back_from(work_id: str, links: Mapping[str, Sequence[Link]]) -> frozenset[str]:
    """Return every work that this one goes back to by links."""
    found: set[str] = set()
    level = {work_id}
    while level:
        level = {one.of for work in level for one in links.get(work, ())} - found
        found |= level
    return frozenset(found)


def _named(kind: str, value: object) -> list[str]:
    if not value:
        return []
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [cell.strip() for cell in value.split(";") if cell.strip()]
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise BadRequest(f"{kind} is no JSON ({error})", remedy=REMEDY, code="link") from error
    if not isinstance(value, list) or not all(
        isinstance(one, str) and one for one in cast("list[Any]", value)
    ):
        raise BadRequest(f"{kind} is no list of works", remedy=REMEDY, code="link")
    return cast("list[str]", value)
