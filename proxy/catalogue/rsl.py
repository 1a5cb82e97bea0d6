"""RSL 1.0: what a licence file permits, prohibits and asks for, by the address it is about.

A file names contents by address, and for each the licences on offer; who uses the content may take any one
of them. So a use is allowed when some licence allows it without conditions, constrained when some allow it
for a payment, or to some users or places only, and denied when licences speak of it and none allows it. A
licence without a payment asks for none. Unknown words are kept and permit nothing: the standard says that a
payment of an unknown type cannot be met, and names are compared with their case.

Source: RSL 1.0, https://rslstandard.org/rsl.
"""

from __future__ import annotations

import re
import xml.parsers.expat
from dataclasses import dataclass, field
from typing import Final

from proxy.catalogue.licences import FREE, Condition, Effect, Term
from proxy.catalogue.works import Use
from proxy.errors import BadRequest

NAMESPACE: Final = "https://rslstandard.org/rsl"
DEPTH_MAX: Final = 32  # rsl, content, license, payment, amount: five
CONTENTS_MAX: Final = 1_000
TEXT_CHARACTERS_MAX: Final = 4_000  # of one element: a list of countries has some hundreds

_TRAINING = (Use.TRAIN_GEN, Use.TRAIN_OTHER, Use.FINETUNE)
_INPUT = (Use.GROUND, Use.OUTPUT_INFLUENCE)
_AI = (*_TRAINING, *_INPUT, Use.INDEX)
PERMITS: Final[dict[str, tuple[Use, ...]]] = {
    "all": (*_AI, Use.SEARCH),
    "ai-all": _AI,
    "ai-train": _TRAINING,
    "ai-input": _INPUT,
    "ai-index": (Use.INDEX,),
    "search": (Use.SEARCH,),
}
_LIKENESS = (Use.STYLE_IMITATION, Use.VOICE_LIKENESS, Use.DERIVATIVE)
PROHIBITS: Final[dict[str, tuple[Use, ...]]] = PERMITS | {
    "all": tuple(Use),
    "ai-all": (*_AI, *_LIKENESS),
    "ai-train": (*_TRAINING, Use.STYLE_IMITATION, Use.VOICE_LIKENESS),
}
PAYMENTS: Final = frozenset(
    ["purchase", "subscription", "training", "crawl", "use", "contribution", "attribution", "free"]
)


@dataclass(slots=True)
class _Payment:
    type: str
    amount: str = ""


@dataclass(slots=True)
class _Offer:
    """One <license>."""

    permits: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    prohibits: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    payments: list[_Payment] = field(default_factory=list["_Payment"])

    def ways(self) -> list[tuple[Condition, ...]]:
        """The sets of conditions under which it may be taken; one of them is enough."""
        among = [
            Condition(kind, ",".join(words))
            for kind in ("user", "geo")
            if (words := self.permits.get(kind, []))
        ] + [
            Condition(f"not-{kind}", ",".join(words))
            for kind in ("user", "geo")
            if (words := self.prohibits.get(kind, []))
        ]
        paid = [
            (Condition("payment", one.type), *([Condition("amount", one.amount)] if one.amount else []))
            for one in self.payments
        ]
        return [(*way, *among) for way in paid or [(FREE,)]]

    def says(self, use: Use) -> Effect | None:
        """What it says of a use, its ways left aside."""
        if any(use in PROHIBITS.get(word, ()) for word in self.prohibits.get("usage", [])):
            return "deny"
        if any(use in PERMITS.get(word, ()) for word in self.permits.get("usage", [])):
            return "allow"
        return None

    def words(self) -> str:
        """Its own words, in short."""
        told = [
            f"{verb} {kind} {' '.join(words)}"
            for verb, said in (("permits", self.permits), ("prohibits", self.prohibits))
            for kind, words in said.items()
        ]
        told += [f"payment {one.type} {one.amount}".strip() for one in self.payments]
        return ", ".join(told)


@dataclass(frozen=True, slots=True)
class Content:
    """What a file says of the content at one address (a pattern of the publisher's own)."""

    url: str
    terms: tuple[Term, ...]
    unread: tuple[str, ...]


def read_rsl(raw: bytes) -> list[Content]:
    """Return what the file says, by content. Raises BadRequest for what is no RSL."""
    reading = _Reading()
    parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.characters
    parser.EntityDeclHandler = reading.entity
    try:
        parser.Parse(raw, True)
    except (xml.parsers.expat.ExpatError, LookupError, ValueError) as error:
        raise _no_rsl(f"it is not well-formed XML ({error})") from error
    if not reading.contents:
        raise _no_rsl("it has no <content> in the namespace of RSL")
    return [
        Content(url, _terms(offers), tuple(dict.fromkeys(_unknown(offers))))
        for url, offers in reading.contents
    ]


def _no_rsl(why: str) -> BadRequest:
    return BadRequest(
        f"this is no RSL licence: {why}",
        remedy=f'give a file whose root is <rsl xmlns="{NAMESPACE}">',
        code="licence_file",
    )


class _Reading:
    """Follows the elements of a file."""

    def __init__(self) -> None:
        self.contents: list[tuple[str, list[_Offer]]] = []
        self._path: list[str] = []
        self._text: list[str] = []
        self._type = self._currency = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take an element's beginning."""
        namespace, _, local = name.rpartition(" ")
        self._path.append(local if namespace == NAMESPACE else "")
        if len(self._path) > DEPTH_MAX:
            raise ValueError("elements nested too deeply")
        self._text = []
        match self._path:
            case ["rsl", "content"]:
                if len(self.contents) == CONTENTS_MAX:
                    raise ValueError(f"more than {CONTENTS_MAX} contents")
                self.contents.append((attributes.get("url", ""), []))
            case ["rsl", "content", "license"]:
                self.contents[-1][1].append(_Offer())
            case ["rsl", "content", "license", "permits" | "prohibits"]:
                self._type = attributes.get("type", "usage")
            case ["rsl", "content", "license", "payment"]:
                self._offer.payments.append(_Payment(attributes.get("type", "free")))
            case ["rsl", "content", "license", "payment", "amount"]:
                self._currency = attributes.get("currency", "")
            case _:
                pass

    def characters(self, text: str) -> None:
        """Take text between elements."""
        self._text.append(text)

    def end(self, _name: str) -> None:
        """Take an element's end."""
        text = "".join(self._text).strip()[:TEXT_CHARACTERS_MAX]
        match self._path:
            case ["rsl", "content", "license", "permits" | "prohibits" as verb]:
                said = self._offer.permits if verb == "permits" else self._offer.prohibits
                said.setdefault(self._type, []).extend(word for word in re.split(r"[\s,]+", text) if word)
            case ["rsl", "content", "license", "payment", "amount"]:
                self._offer.payments[-1].amount = f"{text} {self._currency}".strip()
            case _:
                pass
        self._text = []
        self._path.pop()

    @staticmethod
    def entity(*_: object) -> None:
        """Refuse entities: a few of them unfold to any size."""
        raise ValueError("it declares entities")

    @property
    def _offer(self) -> _Offer:
        return self.contents[-1][1][-1]


def _terms(offers: list[_Offer]) -> tuple[Term, ...]:
    found: list[Term] = []
    for use in Use:
        spoken = [(offer, said) for offer in offers if (said := offer.says(use)) is not None]
        if not spoken:
            continue
        ways = [(offer, way) for offer, said in spoken if said == "allow" for way in offer.ways()]
        words = "; ".join(dict.fromkeys(offer.words() for offer, _ in spoken))
        if ways:
            found.append(Term(use, "constrained", words, tuple(way for _, way in ways)))
        else:
            found.append(Term(use, "deny", words))
    return tuple(found)


def _unknown(offers: list[_Offer]) -> list[str]:
    found: list[str] = []
    for offer in offers:
        for verb, said in (("permits", offer.permits), ("prohibits", offer.prohibits)):
            found += [f"{verb} {kind}" for kind in said if kind not in {"usage", "user", "geo"}]
            found += [f"{verb} usage {word}" for word in said.get("usage", []) if word not in PERMITS]
        found += [f"payment {one.type}" for one in offer.payments if one.type not in PAYMENTS]
    return found
