"""What a work is, who shares in it and what its creators allow; no store, no files.

A split that does not sum to the whole cannot exist: a share nobody claimed is written as such, so that money
for it is held and never spread over the others. Consent is asked when credits are given, not when indexing,
so a denied or withdrawn work is still recognised and still outranks its copies; it is paid nothing.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from proxy.errors import BadRequest
from proxy.wire.addresses import same_address

WHOLE_PPM = 1_000_000
UNCLAIMED = "~unclaimed"  # a tilde begins no id, so no creator can be called this
COMMONS = "~commons"  # the party that is nobody: what it has registered is everybody's, and earns nobody
# What makes a text nobody's; any other licence is somebody's, however generous.
COMMONS_LICENCES = ("public-domain", "CC0-1.0", "PDM-1.0", "boilerplate")
PARTIES_MAX = 100  # of one split; a film's full crew goes through a collecting party
TITLE_CHARACTERS_MAX = 500
URL_CHARACTERS_MAX = 2_000
LICENCE_CHARACTERS_MAX = 200
REF_CHARACTERS_MAX = 200
NAME_CHARACTERS_MAX = 200

# Limits that a creator may set a quotation. Few, because each is looked for in every answer while it is
# written; the least is as much as anybody may quote of a work that is denied.
EXCERPT_WORDS = (25, 50, 100, 200, 300, 500, 1_000)

Given = Literal["paid", "free", "denied"]  # what a creator says
Verdict = Literal["paid", "free", "prohibited"]  # what a credit carries
Status = Literal["active", "withdrawn", "erased"]
LinkKind = Literal["recording_of", "excerpt_of", "translation_of"]
_ID_SHAPE = re.compile(r"[a-z]{1,3}_[a-z2-7]{26}")
GIVEN: tuple[Given, ...] = ("paid", "free", "denied")


class Use(enum.StrEnum):
    """What can be done with a work; each is consented to by itself."""

    INDEX = "index"
    SEARCH = "search"
    TRAIN_GEN = "train_gen"
    TRAIN_OTHER = "train_other"
    FINETUNE = "finetune"
    GROUND = "ground"
    OUTPUT_INFLUENCE = "output_influence"  # the one that credits and pays today
    STYLE_IMITATION = "style_imitation"
    VOICE_LIKENESS = "voice_likeness"
    EXCERPT_DISPLAY = "excerpt_display"  # showing a work's own words as evidence
    DERIVATIVE = "derivative"


@dataclass(frozen=True, slots=True)
class Creator:
    """Somebody who is credited and paid. `ref` is the name they were given in files, unique."""

    id: str
    ref: str
    name: str
    country: str = ""
    created_us: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One party's part of a work. `party` is a creator's id, or UNCLAIMED; in files their ref."""

    party: str
    ppm: int
    role: str = "author"


@dataclass(frozen=True, slots=True)
class Split:
    """How a work's money is shared; one that is not whole cannot exist."""

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts or len(self.parts) > PARTIES_MAX:
            raise BadRequest(f"a split has 1 to {PARTIES_MAX} parties, not {len(self.parts)}", code="split")
        for part in self.parts:
            if part.party.startswith("~") and part.party != UNCLAIMED:
                raise BadRequest(
                    f"'{printable(part.party, 60)}' cannot have a part",
                    remedy=f"name creators; a share that nobody claims goes to '{UNCLAIMED}'",
                    code="split",
                )
            if not part.party or not 0 < part.ppm <= WHOLE_PPM:
                raise BadRequest(
                    f"'{part.party}' has {part.ppm} ppm",
                    remedy=f"give every party 1 to {WHOLE_PPM} ppm",
                    code="split",
                )
        total = sum(part.ppm for part in self.parts)
        if total != WHOLE_PPM:
            raise BadRequest(
                f"the split sums to {total} ppm, not {WHOLE_PPM}",
                remedy=f"name every share; one that nobody claims goes to '{UNCLAIMED}'",
                code="split",
            )
        if len({part.party for part in self.parts}) != len(self.parts):
            raise BadRequest("a party is in the split twice", remedy="add their parts together", code="split")


def whole(party: str) -> Split:
    """Return the split that gives everything to one party."""
    return Split((Part(party, WHOLE_PPM),))


@dataclass(frozen=True, slots=True)
class Adapted:
    """A work that another was made from, and the part of the other's money that is owed to its parties.

    work: the original's public id; in files its ref. See adapting.py.
    """

    work: str
    ppm: int


@dataclass(frozen=True, slots=True)
class Link:
    """That a work is a recording, an excerpt or a translation of another. See linking.py.

    of: the other's public id; in files also its ref.
    """

    kind: LinkKind
    of: str


@dataclass(frozen=True, slots=True)
class Consent:
    """What a creator allows for one use of one work, since the registry's number `seq`."""

    use: Use
    verdict: Given
    seq: int = 0

    @staticmethod
    def of(use: str, verdict: str) -> Consent:
        """Return the consent these words name; BadRequest names the words there are."""
        if use not in frozenset(Use):
            raise BadRequest(
                f"there is no use '{use}'", remedy=f"use one of {', '.join(Use)}", code="consent"
            )
        for given in GIVEN:
            if verdict == given:
                return Consent(Use(use), given)
        raise BadRequest(
            f"there is no consent '{verdict}'", remedy=f"use one of {', '.join(GIVEN)}", code="consent"
        )


def verdict_for(status: Status, given: Given | None, default: Given, *, owner: str = "") -> Verdict:
    """Return what a credit for output influence carries: a withdrawn or denied work is paid nothing.

    What belongs to COMMONS is free whatever else is said: nobody could be paid, and nobody could forbid it.
    """
    if owner == COMMONS:
        return "free"
    said = default if given is None else given
    return "prohibited" if status != "active" or said == "denied" else said


@dataclass(frozen=True, slots=True)
class NewWork:
    """A work about to be registered. `creator` and the split's parties are ids or refs.

    `place` says where it was read ("works.jsonl:12"), so that a refusal can say it again. `registered_us` may
    lie in the past, because operators bring older registers with them; where two dates are equal, the
    registry's own numbering decides who was first.
    """

    ref: str
    creator: str
    title: str
    text: str
    place: str = ""
    creator_name: str = ""
    registered_us: int | None = None
    url: str = ""
    licence: str = ""
    consent: Given | None = None
    split: Split | None = None
    medium: str = "text"
    adapts: tuple[Adapted, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that does not go in: where it stands, why, and what would help."""

    place: str
    work_id: str
    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one row. `work_id` is the public id, "" when refused."""

    status: Literal["added", "unchanged", "refused"]
    place: str
    ref: str
    work_id: str = ""
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class WorkEntry:
    """A work as lists and pages show it.

    creator_id: whose it is now; registrant_id: who registered it, another where a claim was upheld.
    standing: 2 by an upheld claim, 1 by a verified identifier, else 0.
    """

    id: str
    ref: str
    creator_id: str
    creator_ref: str
    title: str
    medium: str
    text_sha256: str
    text_bytes: int
    licence: str
    url: str
    registered_us: int
    registered_seq: int
    status: str
    verdict: Verdict
    registrant_id: str = ""
    standing: int = 0
    commons: bool = False


@dataclass(frozen=True, slots=True)
class IndexedText:
    """What an index is built of. creator_id: whose it is now. reviewed: somebody has released it.

    commons: it is nobody's. standing: 2 by an upheld claim, 1 by a verified identifier, else 0; what stands
    higher owns what several works hold, whoever was first. adapts: works that its licence lets it take from.
    """

    work_id: str
    creator_id: str
    title: str
    text: str
    registered_us: int
    registered_seq: int
    reviewed: bool = False
    commons: bool = False
    standing: int = 0
    adapts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkCredit:
    """All that a reply says of a work. `creators` are display names, the largest part first."""

    work: str
    title: str
    creators: tuple[str, ...]
    licence: str
    url: str
    verdict: Verdict
    excerpts: bool = False  # whether the work's own words may be shown
    excerpt_words: int | None = None  # how many an answer may repeat, where its creator has said so


@dataclass(frozen=True, slots=True)
class CatalogueSnapshot:
    """Every work's credit as of one number of the registry. addresses: works by their `same_address`."""

    seq: int = 0
    works: Mapping[str, WorkCredit] = field(default_factory=lambda: MappingProxyType({}))
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def credit(self, work_id: str) -> WorkCredit | None:
        """Return the credit of a work by its public id, None for one that is not registered."""
        return self.works.get(work_id)

    def works_at(self, address: str) -> tuple[str, ...]:
        """Return the works that are registered with this web address, however it is written."""
        return self.addresses.get(same_address(address), ()) if self.addresses else ()

    def with_changes(
        self, seq: int, credits_: Iterable[WorkCredit], gone: Iterable[str] = ()
    ) -> CatalogueSnapshot:
        """Return the snapshot at `seq`, these credits replaced or added, `gone` without one.

        This one stays as it is.
        """
        changed = {credit.work: credit for credit in credits_}
        erased = {work for work in gone if work in self.works}
        if not changed and not erased:
            return CatalogueSnapshot(seq, self.works, self.addresses)
        works = {**self.works, **changed}
        for work in erased:
            del works[work]
        urls = {work: credit.url for work, credit in changed.items()} | dict.fromkeys(erased, "")
        return CatalogueSnapshot(seq, MappingProxyType(works), self._addresses_with(urls))

    def _addresses_with(self, urls: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        moved = [
            (work, self.works[work].url if work in self.works else "", url)
            for work, url in urls.items()
            if url != (self.works[work].url if work in self.works else "")
        ]
        if not moved:
            return self.addresses
        addresses: dict[str, dict[str, None]] = {}
        for work, before, now in moved:
            for url in filter(None, (same_address(before), same_address(now))):
                addresses.setdefault(url, dict.fromkeys(self.addresses.get(url, ())))
            if gone := same_address(before):
                addresses[gone].pop(work, None)
            if come := same_address(now):
                addresses[come][work] = None
        found = {**self.addresses, **{url: tuple(sorted(works)) for url, works in addresses.items()}}
        return MappingProxyType({url: works for url, works in found.items() if works})


def checked_ref(ref: str) -> str:
    """Return a name given in files, stripped; BadRequest when it could be taken for something else."""
    ref = ref.strip()
    if not ref or len(ref) > REF_CHARACTERS_MAX or not ref.isprintable() or ref.startswith("~"):
        raise BadRequest(
            f"'{printable(ref, 60)}' cannot be an id",
            remedy=f"use 1 to {REF_CHARACTERS_MAX} printable characters, no '~' in front",
            code="bad_ref",
        )
    return ref


def checked_url(url: str) -> str:
    """Return a work's address; BadRequest unless it is empty or a plain web address.

    Pages and replies carry it as a link, so nothing that a browser would run or mistake gets in.
    """
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
    except ValueError:
        fine = False
    if not fine or len(url) > URL_CHARACTERS_MAX or not url.isprintable() or set(url) & set(' "<>\\^`{|}'):
        raise BadRequest(
            f"'{printable(url, 60)}' is no web address",
            remedy=f"give http:// or https://, up to {URL_CHARACTERS_MAX} characters, or nothing",
        )
    return url


def refuse_id_as_ref(ref: str) -> None:
    """Raise BadRequest for a new ref that looks like an id of ours: a creator is meant who is not here."""
    if _ID_SHAPE.fullmatch(ref):
        raise BadRequest(f"there is no creator '{ref}'", remedy="`endcredits creators list` shows them")


def ref_of(name: str) -> str:
    """Return a ref made of a name: lower case letters and digits of any script, joined by hyphens."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.casefold()).split()
    return "-".join(words)[:REF_CHARACTERS_MAX]


def printable(text: str, characters_max: int) -> str:
    """Return `text` on one line, without control characters, cut to `characters_max`.

    Titles and names are data: they are escaped where they are shown. Control and direction characters are
    dropped here, because they would lie even when escaped.
    """
    # \u200d joins emoji into one picture.
    kept = "".join(
        letter for letter in text if letter.isprintable() or letter.isspace() or letter == "\u200d"
    )
    return " ".join(kept.split())[:characters_max].strip()
