"""What the demonstration backend says: passages of the sample works, chosen by the words of the question.

There is no model here and none is pretended. For every work a file holds one passage word for word and one
reworded by hand; an answer is a short opening, one or more of those, a short closing. Questions which touch
no work get a general answer that owes nobody anything. The same question always gets the same answer, so
that whoever watches can check the credits against what they know was used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

CATALOGUE_DIR = Path(__file__).with_name("catalogue")
WORKS_MAX = 3  # as many works as one mixed answer draws on; more reads like a list

_WORDS = re.compile(r"[^\W_]+")
_QUOTING = frozenset({"quote", "quotes", "verbatim", "exact", "exactly", "recite", "lyrics", "lines"})
_RESTATING = frozenset({"summary", "summarise", "summarize", "explain", "paraphrase", "briefly"})
_MIXING = frozenset({"mix", "compare", "combine", "both", "together", "between"})


class Passage(msgspec.Struct, frozen=True):
    """What can be said from one work. `topics` are lower-case words that call for it."""

    work_id: str
    topics: frozenset[str]
    quoted: str
    restated: str


class General(msgspec.Struct, frozen=True):
    """An answer that draws on no work."""

    topics: frozenset[str]
    answer: str


class Repertoire(msgspec.Struct, frozen=True):
    """Everything the backend can say."""

    openings: tuple[str, ...]
    closings: tuple[str, ...]
    general: tuple[General, ...]
    default: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, with the works it was made from (the truth that attribution should find)."""

    text: str
    work_ids: tuple[str, ...]


def load_repertoire(catalogue_dir: Path = CATALOGUE_DIR) -> Repertoire:
    """Return what `restatements.json` holds. Raises OSError or msgspec.DecodeError."""
    return msgspec.json.decode((catalogue_dir / "restatements.json").read_bytes(), type=Repertoire)


def compose(repertoire: Repertoire, question: str, variant: int = 0) -> Answer:
    """Return the answer to `question`; `variant` (a choice's index) turns to the next candidates."""
    asked = [word.lower() for word in _WORDS.findall(question)]
    opening = repertoire.openings[(len(asked) + variant) % len(repertoire.openings)]
    closing = repertoire.closings[(len(asked) + variant) % len(repertoire.closings)]
    passages = _chosen(repertoire, frozenset(asked), variant)
    if not passages:
        general = _general(repertoire, frozenset(asked))
        return Answer(f"{general} {closing}" if variant == 0 else f"{opening} {general}", ())
    said = _mixed(passages) if len(passages) > 1 else _single(passages[0], frozenset(asked))
    return Answer("\n\n".join((opening, *said, closing)), tuple(passage.work_id for passage in passages))


def _chosen(repertoire: Repertoire, asked: frozenset[str], variant: int) -> Sequence[Passage]:
    """The best work, then those that answer a word the others leave over, then (for a mixture) the rest."""
    hits = [(passage, passage.topics & asked) for passage in repertoire.passages]
    ranked = sorted((hit for hit in hits if hit[1]), key=lambda hit: -len(hit[1]))  # stable: catalogue order
    turn = variant % max(1, len(ranked))
    chosen: list[Passage] = []
    others: list[Passage] = []
    answered: frozenset[str] = frozenset()
    for passage, words in ranked[turn:] + ranked[:turn]:
        (chosen if words - answered else others).append(passage)
        answered |= words
    return [*chosen, *(others if asked & _MIXING else ())][:WORKS_MAX]


def _general(repertoire: Repertoire, asked: frozenset[str]) -> str:
    for general in repertoire.general:
        if general.topics & asked:
            return general.answer
    return repertoire.default


def _single(passage: Passage, asked: frozenset[str]) -> tuple[str, ...]:
    if asked & _QUOTING:
        return (passage.quoted,)
    if asked & _RESTATING:
        return (passage.restated,)
    return (passage.restated, passage.quoted)


def _mixed(passages: Sequence[Passage]) -> tuple[str, ...]:
    """Quoted and restated in turn, so that both kinds of evidence stand in one answer."""
    return tuple(
        passage.quoted if place % 2 == 0 else passage.restated for place, passage in enumerate(passages)
    )
