"""Rights signals as files: robots.txt with AIPREF or Content-Signal, TDMRep, CAWG, IPTC, and RSL.

`read_signals` looks at the bytes and not at the name, because these travel as robots.txt, as headers saved to
a file, inside a manifest or a picture's packet. Each signal's own words are kept beside the terms they are
read into; words that are not of the vocabulary are told as `unread` and decide nothing.

Sources: draft-ietf-aipref-vocab and -attach; contentsignals.org; TDM Reservation Protocol (W3C Community
Group, 2024-02-02); CAWG Training and Data Mining 1.1; the Data Mining vocabulary of PLUS, as IPTC Photo
Metadata 2023.1 uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from proxy.catalogue.licences import Condition, Effect, Source, Term
from proxy.catalogue.rsl import NAMESPACE, read_rsl
from proxy.catalogue.works import Use, printable
from proxy.errors import BadRequest

FILE_BYTES_MAX: Final = (
    1 << 20
)  # robots.txt is read to 500 KiB by the big crawlers; the others are far shorter
RULES_MAX: Final = 1_000
WORDS_MAX: Final = 300  # characters of what was said that stay with a term

_TRAINING = (Use.TRAIN_GEN, Use.TRAIN_OTHER, Use.FINETUNE)
_GENERATIVE = (Use.TRAIN_GEN, Use.FINETUNE)
_MINING = (*_TRAINING, Use.INDEX)
_INPUT = (Use.GROUND, Use.OUTPUT_INFLUENCE)

AIPREF: Final = MappingProxyType(
    {"train-ai": _TRAINING, "train-genai": _GENERATIVE, "search": (Use.SEARCH, Use.INDEX)}
)
CONTENT_SIGNAL: Final = MappingProxyType(
    {
        "search": (Use.SEARCH, Use.INDEX),
        "ai-input": _INPUT,
        "ai-train": _TRAINING,
    }
)
CAWG: Final = MappingProxyType(
    {
        "data_mining": (Use.INDEX, Use.TRAIN_OTHER),
        "ai_inference": _INPUT,
        "ai_generative_training": _GENERATIVE,
        "ai_training": (Use.TRAIN_OTHER,),
    }
)
_CAWG_EFFECTS: Final[dict[str, Effect]] = {
    "allowed": "allow",
    "notAllowed": "deny",
    "constrained": "constrained",
}
# Key of the PLUS vocabulary -> what it says of which uses.
IPTC: Final[dict[str, tuple[tuple[Effect, tuple[Use, ...]], ...]]] = {
    "DMI-UNSPECIFIED": (),
    "DMI-ALLOWED": (("allow", (*_MINING, Use.SEARCH)),),
    "DMI-PROHIBITED": (("deny", (*_MINING, *_INPUT, Use.SEARCH)),),
    "DMI-PROHIBITED-AIMLTRAINING": (("deny", _TRAINING),),
    "DMI-PROHIBITED-GENAIMLTRAINING": (("deny", _GENERATIVE),),
    "DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING": (
        ("deny", (*_MINING, *_INPUT)),
        ("allow", (Use.SEARCH,)),
    ),
    "DMI-PROHIBITED-SEECONSTRAINT": (("constrained", (*_MINING, Use.SEARCH)),),
    "DMI-PROHIBITED-SEEEMBEDDEDRIGHTSEXPR": (("constrained", (*_MINING, Use.SEARCH)),),
    "DMI-PROHIBITED-SEELINKEDRIGHTSEXPR": (("constrained", (*_MINING, Use.SEARCH)),),
}
_DMI = re.compile(
    r"plus:DataMining\b[^>]{0,200}?(?:[=>]\s*\"?|resource=\")[^\"<]{0,100}?(DMI-[A-Z-]+)", re.ASCII
)
_XMP_FIELD = re.compile(
    r"(?<!/)(plus:OtherConstraints|xmpRights:WebStatement|plus:LicensorURL)(?:=\"([^\"]{1,2000})\"|>([^<]{1,2000})<)"
)


@dataclass(frozen=True, slots=True)
class Signal:
    """What one source says. about: the address or path it names, "" for everything it comes with."""

    source: Source
    about: str
    terms: tuple[Term, ...]
    unread: tuple[str, ...] = ()


def read_signals(raw: bytes) -> list[Signal]:
    """Return every signal in a file. Raises BadRequest for what is too long or holds none."""
    if len(raw) > FILE_BYTES_MAX:
        raise _none("it is longer than 1 MiB")
    text = raw.decode("utf-8", "replace").lstrip("\ufeff")
    start = text.lstrip()[:1]
    if start == "<":
        found = _rsl(raw) if NAMESPACE in text else _iptc(text)
    elif start in {"{", "["}:
        found = _json(raw)
    else:
        found = _lines(text)
    if not found:
        raise _none("no signal that we know stands in it")
    return found


def _none(why: str) -> BadRequest:
    return BadRequest(
        f"this file says nothing of rights: {why}",
        remedy="give an RSL licence, a robots.txt with Content-Usage or Content-Signal, a tdmrep.json, a "
        "CAWG training-mining assertion or an XMP packet with plus:DataMining",
        code="licence_file",
    )


def _rsl(raw: bytes) -> list[Signal]:
    return [Signal("rsl", content.url, content.terms, content.unread) for content in read_rsl(raw)]


def _terms(
    uses: tuple[Use, ...], effect: Effect, said: str, ways: tuple[tuple[Condition, ...], ...] = ()
) -> list[Term]:
    return [Term(use, effect, printable(said, WORDS_MAX), ways) for use in uses]


# robots.txt, and headers saved to a file


def _lines(text: str) -> list[Signal]:
    found: list[Signal] = []
    agents: list[str] = []
    was_agent = False
    for line in text.splitlines():
        name, colon, value = line.partition("#")[0].partition(":")
        key, value = name.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            agents = [*(agents if was_agent else []), value]
        was_agent = key == "user-agent"
        # What is said to one crawler by name is not said to us.
        if key in {"content-usage", "content-signal"} and (not agents or "*" in agents):
            if len(found) == RULES_MAX:
                raise _none(f"it has more than {RULES_MAX} rules")
            found.append(_preferences(key, value))
    reservation = dict(_headers(text))
    if "tdm-reservation" in reservation:
        found += _tdm([{"location": "", **reservation}])
    return found


def _headers(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip().lower() in {"tdm-reservation", "tdm-policy"}:
            yield name.strip().lower(), value.strip()


def _preferences(key: str, value: str) -> Signal:
    source: Source = "aipref" if key == "content-usage" else "content-signal"
    vocabulary = AIPREF if source == "aipref" else CONTENT_SIGNAL
    yes_no = {"y": "allow", "n": "deny"} if source == "aipref" else {"yes": "allow", "no": "deny"}
    path, rest = "", value
    if value.startswith("/"):
        path, _, rest = value.partition(" ")
    terms: list[Term] = []
    unread: list[str] = []
    for member in filter(None, (one.strip() for one in rest.split(","))):
        name, _, preference = (part.strip() for part in member.partition(";")[0].partition("="))
        uses, effect = vocabulary.get(name.lower()), yes_no.get(preference.lower())
        if uses is None or effect is None:
            unread.append(printable(member, WORDS_MAX))
        else:
            terms += _terms(uses, cast("Effect", effect), f"{name}={preference}")
    return Signal(source, path, tuple(terms), tuple(unread))


# JSON: TDMRep's list of locations, CAWG's entries


def _json(raw: bytes) -> list[Signal]:
    try:
        data: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _none(f"it is not JSON ({error})") from error
    if isinstance(data, dict) and "tdm-reservation" in data:
        data = [cast("dict[str, Any]", data)]
    if isinstance(data, list):
        rows = cast("list[Any]", data)
        if len(rows) > RULES_MAX:
            raise _none(f"it has more than {RULES_MAX} rules")
        return _tdm([cast("dict[str, Any]", row) for row in rows if isinstance(row, dict)])
    return _cawg(cast("dict[str, Any]", data)) if isinstance(data, dict) else []


def _tdm(rows: list[dict[str, Any]]) -> list[Signal]:
    found: list[Signal] = []
    for row in rows:
        reserved, policy = str(row.get("tdm-reservation", "")), row.get("tdm-policy", "")
        said = f"tdm-reservation: {reserved}"
        about = printable(str(row.get("location", "")), WORDS_MAX)
        if reserved == "1" and isinstance(policy, str) and policy:
            way = ((Condition("see", printable(policy, WORDS_MAX)),),)
            terms = _terms(_MINING, "constrained", f"{said}, tdm-policy: {policy}", way)
        elif reserved in {"0", "1"}:
            terms = _terms(_MINING, "deny" if reserved == "1" else "allow", said)
        else:
            found.append(Signal("tdmrep", about, (), (printable(said, WORDS_MAX),)))
            continue
        found.append(Signal("tdmrep", about, tuple(terms)))
    return found


def _cawg(data: dict[str, Any]) -> list[Signal]:
    """Read an assertion, with its label and data around the entries or without."""
    inner = data.get("data", data)
    entries: Any = cast("dict[str, Any]", inner).get("entries") if isinstance(inner, dict) else None
    if not isinstance(entries, dict):
        return []
    terms: list[Term] = []
    unread: list[str] = []
    for key, entry in list(cast("dict[str, Any]", entries).items())[:RULES_MAX]:
        told = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {"use": entry}
        space, _, name = key.partition(".")
        uses = CAWG.get(name) if space in {"cawg", "c2pa"} else None
        effect = _CAWG_EFFECTS.get(str(told.get("use")))
        said = f"{key}: {told.get('use')}"
        if uses is None or effect is None:
            unread.append(printable(said, WORDS_MAX))
            continue
        info = told.get("constraint_info", told.get("constraints_info"))
        if effect == "constrained" and info:
            way = ((Condition("see", printable(str(info), WORDS_MAX)),),)
            terms += _terms(uses, effect, f"{said} ({info})", way)
        else:  # constrained without saying how is not allowed, says the specification
            terms += _terms(uses, "deny" if effect == "constrained" else effect, said)
    return [Signal("cawg", "", tuple(terms), tuple(unread))]


# XMP


def _iptc(text: str) -> list[Signal]:
    """Read plus:DataMining of an XMP packet, written as an attribute, an element or a resource."""
    keys = list(dict.fromkeys(_DMI.findall(text)))[:RULES_MAX]
    fields = {name: (first or second) for name, first, second in _XMP_FIELD.findall(text)}
    see = fields.get("plus:OtherConstraints") or fields.get("xmpRights:WebStatement") or ""
    terms: list[Term] = []
    unread: list[str] = []
    for key in keys:
        rules = IPTC.get(key)
        if rules is None:
            unread.append(key)
        for effect, uses in rules or ():
            way = ((Condition("see", printable(see or "the picture's own rights", WORDS_MAX)),),)
            terms += _terms(uses, effect, key, way if effect == "constrained" else ())
    return [Signal("iptc", "", tuple(terms), tuple(unread))] if keys else []


# What an address is covered by


def reach(about: str, url: str) -> int:
    """Return how closely a signal about these addresses covers `url`: -1 not at all, 0 like everything.

    about: "" for everything, a path, or an address; `*` stands for anything and `$` at the end for the end,
    as in robots.txt. A longer pattern covers more closely.
    """
    if about in {"", "*", "/", "/*"}:
        return 0
    if not url:
        return -1
    told = url if "://" in about else _path_of(url)
    pattern, is_whole = (about[:-1], True) if about.endswith("$") else (about, False)
    first, *pieces = pattern.split("*")
    if not told.startswith(first):
        return -1
    # Piece by piece and never back: a pattern of many stars costs no more than a plain one.
    at = len(first)
    for piece in pieces:
        at = told.find(piece, at) + len(piece) if piece in told[at:] else -1
        if at < 0:
            return -1
    if is_whole and not (told.endswith(pieces[-1]) if pieces else at == len(told)):
        return -1
    return len(about)


def _path_of(url: str) -> str:
    rest = url.partition("://")[2].partition("#")[0]
    return "/" + rest.partition("/")[2]
